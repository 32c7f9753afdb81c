"""What is done with the widget both in a notebook and in a page of its own, and what it then shows.

Each function takes a widget, uses it and returns what was seen; another holds that against what is
known. The tests in a notebook and those of an exported page call the same ones.
"""

import re

from playwright.sync_api import expect
from widget_page import (
    COLORS,
    active,
    control,
    frames,
    lanes,
    names,
    open_panel,
    row_of,
    rows,
)

# Lanes.


def light_up_follow_and_fold(widget):
    """Hover over a row, go along the lanes by keys, fold and sort; return what is drawn."""
    page, grid, found = widget.page, control(widget, "grid"), {}
    found["at first"] = lanes(widget)
    row_of(widget, "1.add()").hover()
    expect(row_of(widget, "1.b")).to_have_class(re.compile("nm-linked"))
    found["hovered"] = lanes(widget)
    grid.focus()
    page.keyboard.press("Home")
    for key in ("ArrowDown", "o", "o", "o", "i", "i"):
        page.keyboard.press(key)
        found.setdefault("followed", []).append(active(widget))
    row_of(widget, "1").locator(".nm-fold").click()
    frames(page)
    found["folded"] = lanes(widget)
    control(widget, "sort-zeros").click()
    frames(page)
    found["sorted"] = lanes(widget)
    return found


def assert_lanes_were_followed(found):
    """Hold that against a residual block between two layers, of which it is the second."""
    first, hovered, folded = found["at first"], found["hovered"], found["folded"]
    assert [name for name in first if first[name]["dot"]] == ["0", "1.a", "1.b", "1.add()", "2"]
    assert first["0"]["lines"] == first["2"]["lines"].replace("0V12", "12V24")
    assert first["1"]["lines"] == first["0"]["lines"].replace("12V24", "0V24")
    assert not any(each["lit"] or each["linked"] for each in first.values())
    assert [name for name in hovered if hovered[name]["linked"]] == ["0", "1.b", "2"]
    assert all(hovered[name]["lit"] for name in hovered if name not in ("net", "Sequential"))
    assert found["followed"] == ["0", "a", "b", "add()", "b", "a"]
    assert list(folded) == [*list(first)[:3], "2"]
    assert [bool(each["dot"]) for each in folded.values()] == [False, True, True, True]
    assert not any(each["lines"] for each in found["sorted"].values())


# Curves.

CURVES = "[aria-roledescription=curve]"


def hover_over_curves(widget):
    """Point at the middle of the loss's curve; return what all curves say before and then."""
    curves = widget.locator(CURVES)
    said = widget.locator(f".nm-sides:has({CURVES}) output")
    found = {"names": [each.get_attribute("aria-label") for each in curves.all()]}
    found["at first"] = said.all_inner_texts()
    curves.first.scroll_into_view_if_needed()
    box = curves.first.bounding_box()
    curves.first.hover(position={"x": box["width"] / 2, "y": 20})
    found["hovered"] = said.all_inner_texts()
    found["in the rows"] = control(widget, "grid").evaluate("e => e.style.cssText")
    return found


def assert_curves_have_one_cursor(found, mean_texts):
    """Hold that against the means of a loop of 21 iterations."""
    assert found["names"][0].startswith("loss")  # above the table, with the same cursor
    assert found["names"][1].startswith("mean, and the middle 90 %")
    assert any(name.startswith("weight.update ratio") for name in found["names"])
    for when, iteration in (("at first", 20), ("hovered", 10)):
        assert len(found[when]) == len(found["names"])
        assert {text.split(":")[0] for text in found[when]} == {f"iteration {iteration}"}
        assert found[when][1].endswith(mean_texts[iteration])
    assert "--nm-at: 0.5" in found["in the rows"]


# Two runs side by side.

PARTS = "1.0.0.0.0"

ENDS = """all => all.map(each => [...each.childNodes]
  .filter(node => node.nodeType === Node.TEXT_NODE).map(node => node.textContent).join(' '))"""
"""The ends of the scale of each picture: what stands beside its bar as bare text."""

TOPS = "all => all.map(each => Math.round(each.getBoundingClientRect().top))"


def look_at_where_runs_part(widget):
    """Sort a comparison by its errors, and open the layer in which the runs part."""
    found = {"heading": widget.locator(".nm-heading").inner_text(), "names": names(rows(widget))}
    control(widget, "sort-output_error").click()
    found["sorted"] = names(rows(widget))
    for _ in "12":
        control(widget, "sort-output_error").click()
    control(widget, "depth").fill("0")
    control(widget, "first").press("Enter")
    expect(widget.locator(".nm-panel-title")).to_have_text(f"{PARTS} · Conv2d")
    panel = control(widget, "panel")
    expect(panel.locator("canvas")).to_have_count(3)
    found["cards"] = panel.locator(".nm-tensor > div:first-child > b").all_inner_texts()
    found["scales"] = panel.locator(".nm-limits:has(.nm-colorbar)").evaluate_all(ENDS)
    found["tops"] = panel.locator("canvas").evaluate_all(TOPS)
    found["colors"] = panel.locator("canvas").last.evaluate(COLORS)
    sliders = panel.locator('.nm-tensor [data-nm$="-axis-0"]')
    sliders.nth(1).fill("1")
    found["items"] = sliders.evaluate_all("all => all.map(each => each.value)")
    found["said"] = panel.locator(".nm-flag-text").inner_text()
    found["asks"] = widget.locator('[data-nm^="all-"], [data-nm^="new-"], .nm-run:visible').count()
    found["selected"] = [row["name"] for row in rows(widget) if row["selected"]]
    return found


def assert_where_runs_part_was_seen(found):
    """Hold that against two networks that part in one convolution."""
    assert f"part in Sequential.{PARTS} (Conv2d)" in found["heading"]
    assert PARTS in found["names"]
    assert "0.0.0.0.0" not in found["names"], "only what leads there is unfolded"
    assert found["sorted"].index(PARTS) < found["sorted"].index("0")
    assert found["cards"] == ["a: output", "b: output", "a - b"]
    assert found["scales"][0] == found["scales"][1] != found["scales"][2]
    low, high = (float(text) for text in found["scales"][2].split())
    assert low == -high
    assert len({*found["tops"]}) == 1, "the pictures of a pair stand side by side"
    assert found["colors"] > 10
    assert found["items"] == ["1", "1", "1"], "the three show the same item"
    assert "inputs are equal" in found["said"]
    assert not found["asks"]
    assert found["selected"] == [PARTS]


# Search and sort.


def search_and_sort_parameters(widget):
    """Search and sort the default network's parameters; return what showed."""
    control(widget, "search").fill("bias")
    found = {"biases": widget.locator(".nm-count").inner_text()}
    control(widget, "search").fill("")
    control(widget, "sort-count").click()
    found["largest"] = [[row["name"], row["count"]] for row in rows(widget)]
    bars = ".nm-body [role=row]:not([hidden]) svg path[d*=M]"
    found["histograms"] = widget.locator(bars).count()
    return found


def search_and_sort_summary(widget):
    """Search and sort the default network's summary, and open a panel; return what showed."""
    control(widget, "search").fill("Linear")
    found = {"linear": [row["name"] for row in rows(widget)]}
    control(widget, "search").fill("")
    control(widget, "sort-params").click()
    found["most parameters"] = [[row["name"], row["params"]] for row in rows(widget)][:3]
    found["title"] = open_panel(widget, "linear_relu_stack.0")
    expect(control(widget, "panel")).to_contain_text("401,920, 401,920 trainable")
    return found


def assert_parameters_and_summary(params, summary):
    """Hold what those two returned against the default network."""
    stack = "linear_relu_stack"
    assert params["biases"].split(" of ")[0] == "3"
    leaves = [row for row in params["largest"] if row[0].endswith(("weight", "bias"))]
    assert leaves == [
        [f"{stack}.0.weight", "401,408"],
        [f"{stack}.2.weight", "262,144"],
        [f"{stack}.4.weight", "5,120"],
        [f"{stack}.0.bias", "512"],
        [f"{stack}.2.bias", "512"],
        [f"{stack}.4.bias", "10"],
    ]
    assert params["histograms"] == 6
    assert summary["linear"] == ["NeuralNetwork", stack, *(f"{stack}.{i}" for i in range(5))]
    assert summary["most parameters"] == [
        ["NeuralNetwork", "669,706"],
        [stack, "669,706"],
        [f"{stack}.0", "401,920"],
    ]
    assert summary["title"] == f"{stack}.0 · Linear"
