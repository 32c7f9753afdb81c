"""The widget's room in a real page: table and panel, columns that leave, rows that are copied."""

import struct

import pytest
from lab import notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import (
    CATCH_COPIES,
    LOAD,
    control,
    frames,
    open_panel,
    row_of,
    rows,
    share,
    visit,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RESNET = """
import torchvision
torch.manual_seed(0)
net = torchvision.models.resnet18().eval()
with torch.no_grad():
    t = %nntrace net(torch.rand(1, 3, 64, 64))
t
"""

KEPT = ["layer", "shape", "mean ± std"]

BOXES = """root => Object.fromEntries(['.nm-grid', '.nm-panel', '.nm-splitter'].map(look => {
  const {left, right, top, bottom, height} = root.querySelector(look).getBoundingClientRect();
  return [look, {left, right, top, bottom, height}];
}))"""

CUT = """root => [...root.querySelectorAll('.nm-body [role=row]:not([hidden]) > *')]
  .filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent)"""


def titles(widget):
    heads = widget.locator("[role=columnheader]").all()
    return [head.inner_text().strip(" ▲▼") for head in heads]


def resize(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    frames(page)
    frames(page)


def drag(page, widget, by):
    box = control(widget, "splitter").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=4)
    page.mouse.up()
    frames(page)


CLICK_LOWEST = """grid => {
  const bottom = row => row.getBoundingClientRect().bottom;
  [...grid.querySelectorAll('.nm-body > [role=row]:not([hidden])')]
    .filter(row => bottom(row) <= bottom(grid)).sort((a, b) => bottom(a) - bottom(b))
    .at(-1).querySelector('.nm-label').click();
}"""

SELECTED_IS_IN_VIEW = """grid => {
  const row = grid.querySelector('[aria-selected=true]').getBoundingClientRect();
  const box = grid.getBoundingClientRect();
  return row.top >= box.top && row.bottom <= box.bottom;
}"""


def test_table_and_panel_share_the_room_as_the_reader_likes(lab, tmp_path):
    def look(page):
        found = {}
        widget = page.locator(".nnmagic")
        hint = widget.get_by_text("press Enter on it")
        found["hint"] = [hint.is_visible()]
        open_panel(widget, "conv1")
        frames(page)
        found["hint"].append(hint.is_visible())
        found["beside"], found["titles beside"] = widget.evaluate(BOXES), titles(widget)
        with page.expect_download() as download:
            control(widget, "save-picture").first.click()
        found["file"] = download.value.suggested_filename
        found["png"] = download.value.path().read_bytes()
        page.evaluate(CATCH_COPIES, False)
        control(widget, "copy-picture").first.click()
        found["copied"] = page.evaluate("window.copied")
        found["cut"] = widget.evaluate(CUT)
        found["no room"] = widget.locator(".nm-no-room").inner_text()
        control(widget, "columns").click()
        menu = widget.get_by_role("group", name="columns")
        found["menu"] = menu.locator("label", has_text="no room").all_inner_texts()
        page.keyboard.press("Escape")
        expect(control(widget, "columns")).to_be_focused()
        found["shares"] = [share(widget)]
        for key in ("ArrowRight", "ArrowLeft", "ArrowLeft", "End", "Home", "Enter"):
            control(widget, "splitter").press(key)
            found["shares"].append(share(widget))
        drag(page, widget, 150)
        found["dragged"], found["titles dragged"] = share(widget), titles(widget)
        run_cell(page, "t")
        second = page.locator(".nnmagic").nth(1)
        open_panel(second, "conv1")
        found["second"] = share(second)
        resize(page, 800)
        found["below"], found["titles below"] = widget.first.evaluate(BOXES), titles(widget.first)
        found["toolbar"] = widget.first.locator(".nm-toolbar").bounding_box()["height"]
        control(widget.first, "close-panel").click()
        control(widget.first, "grid").evaluate(CLICK_LOWEST)
        expect(control(widget.first, "panel")).to_be_visible()
        found["in view"] = control(widget.first, "grid").evaluate(SELECTED_IS_IN_VIEW)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, RESNET), look, width=1300)

    assert found["hint"] == [True, False]
    beside, below = found["beside"], found["below"]
    assert found["toolbar"] < 40  # one line, also at 800 px
    assert beside[".nm-grid"]["right"] <= beside[".nm-splitter"]["left"]
    assert beside[".nm-splitter"]["right"] <= beside[".nm-panel"]["left"]
    assert beside[".nm-grid"]["height"] == pytest.approx(beside[".nm-panel"]["height"], abs=1)
    assert [title for title in found["titles beside"] if title in KEPT] == KEPT
    assert found["file"] == "conv1-Conv2d-input-1-3-64-64.png"
    width, height = struct.unpack(">II", found["png"][16:24])
    assert found["png"].startswith(b"\x89PNG")
    assert width > 200 < height
    assert found["copied"] == ["image/png"]
    assert found["cut"] == []
    left = found["no room"].removeprefix("no room for: ").split(", ")
    assert "histogram" in left
    assert [line.removesuffix("no room").strip() for line in found["menu"]] == left
    assert found["shares"] == [52, 54, 52, 50, 80, 25, 52]
    assert 60 < found["dragged"] < 70
    assert len(found["titles dragged"]) > len(found["titles beside"])
    assert found["second"] == found["dragged"]
    assert below[".nm-grid"]["bottom"] <= below[".nm-panel"]["top"]
    assert below[".nm-splitter"]["height"] == 0
    assert found["in view"], "also the row that the lower table would hide"
    assert [title for title in found["titles below"] if title in KEPT] == KEPT


def test_parameters_are_flat_grouped_on_demand_and_copied_as_they_show(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        found = {"count": widget.locator(".nm-count").inner_text(), "rows": rows(widget)}
        control(widget, "grouped").click()
        found["grouped"] = [[row["level"], row["label"]] for row in rows(widget)]
        row_of(widget, "linear_relu_stack.0").locator(".nm-label").click()
        found["folded"] = len(rows(widget))
        found["panel of a group"] = control(widget, "panel").is_visible()
        control(widget, "grouped").click()
        control(widget, "search").fill("bias")
        control(widget, "sort-count").click()
        page.evaluate(CATCH_COPIES, False)
        control(widget, "copy").focus()
        page.keyboard.press("Enter")
        for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
            page.keyboard.press(key)
        expect(widget.get_by_role("menuitem", name="copy as TSV")).to_be_focused()
        page.keyboard.press("Enter")
        expect(widget.get_by_text("3 rows copied as TSV")).to_be_visible()
        expect(control(widget, "copy")).to_be_focused()
        found["tsv"] = page.evaluate("window.copied")
        page.evaluate(CATCH_COPIES, True)
        for name in ("Markdown", "text"):
            control(widget, "copy").click()
            widget.get_by_role("menuitem", name=f"copy as {name}").click()
            expect(widget.get_by_text(f"3 rows copied as {name}")).to_be_visible()
        found["refused"] = page.evaluate("window.copied")
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, "p = %nnparams\np"), look, width=1700)

    stack = "linear_relu_stack"
    flat = [f"{stack}.{i}.{name}" for i in (0, 2, 4) for name in ("weight", "bias")]
    assert found["count"] == "6 parameters"
    assert [row["label"] for row in found["rows"]] == flat
    assert all(row["first_values"].startswith("[") for row in found["rows"])
    assert found["grouped"][:4] == [[1, stack], [2, "0"], [3, "weight"], [3, "bias"]]
    assert found["folded"] == len(found["grouped"]) - 2
    assert not found["panel of a group"]
    (tsv,) = found["tsv"]
    head, *lines = [line.split("\t") for line in tsv.split("\n")]
    assert head[:5] == ["name", "shape", "count", "share", "mean"]
    assert [line[0] for line in lines] == [f"{stack}.{i}.bias" for i in (0, 2, 4)]
    assert [line[2] for line in lines] == ["512", "512", "10"]
    markdown, text = found["refused"]
    assert markdown.startswith("| name | shape | count |")
    assert [line.split()[0] for line in text.split("\n")] == ["name", *(line[0] for line in lines)]
