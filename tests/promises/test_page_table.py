"""The widget's table in a real page: rows, search, sort, folding, steps and the keyboard."""

import json

import nbformat
import pytest
from lab import notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import (
    KEYS_DO,
    LOAD,
    OUTPUTS,
    STATIC_TABLES,
    WIDGETS,
    by_keyboard,
    control,
    frames,
    names,
    open_panel,
    row_of,
    rows,
    visit,
)

from nnmagic.display import units

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_static_table_shows_where_no_widget_lives(lab, tmp_path):
    path = notebook_of(tmp_path, LOAD, "t = %nntrace\nt")
    saved = []

    def close_it(page):
        expect(page.locator("[data-nnmagic]")).to_be_hidden()
        before = page.evaluate(STATIC_TABLES)
        saved.extend(page.evaluate(OUTPUTS))
        run_cell(page, f"{WIDGETS}\nopen_ones[0].close()")
        expect(page.locator(".nnmagic")).to_have_count(0)
        return before, page.evaluate(STATIC_TABLES)

    def look_only(page):
        page.locator(".jp-RenderedHTMLCommon details").first.wait_for(state="attached")
        expect(page.locator(".jp-RenderedHTMLCommon summary").first).to_be_visible()
        return page.locator(".nnmagic").count(), page.locator("summary").count()

    closed = visit(lab, path, close_it)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.from_dict(output) for output in saved]
    nbformat.write(notebook, path)
    widgets, lines = visit(lab, path, look_only, run=False)

    assert closed == ([False], [True])
    assert widgets == 0
    assert lines >= 8


def test_the_rows_are_those_of_the_record_and_fold_sort_and_hide(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        found = {"all": rows(widget)}
        calls = "[[c.layer, str(c.output_shape), c.main.zeros, c.main.mean, c.main.std] for c in t]"
        found["record"] = json.loads(run_cell(page, f"print(json.dumps({calls}))"))
        row_of(widget, "linear_relu_stack").locator(".nm-fold").click()
        found["one folded"] = names(rows(widget))
        control(widget, "fold").click()
        found["folded"] = names(rows(widget))
        control(widget, "unfold").click()
        found["unfolded"] = rows(widget)
        control(widget, "depth").fill("1")
        found["depth 1"] = names(rows(widget))
        control(widget, "unfold").click()
        for order in ("zeros down", "zeros up", "zeros off"):
            control(widget, "sort-zeros").click()
            found[order] = rows(widget)
        control(widget, "columns").click()
        widget.get_by_label("zeros", exact=True).uncheck()
        page.keyboard.press("Escape")
        found["hidden"] = rows(widget)
        found["menu"] = widget.get_by_role("group", name="columns").is_visible()
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, "t = %nntrace\nt"), look)

    shown = [[row["name"], row["shape"], row["zeros"], row["mean"]] for row in found["all"]]
    assert shown == [
        [
            layer or "NeuralNetwork",
            shape,
            units.percent(zeros),
            "±".join(units.numbers(mean, std)),
        ]
        for layer, shape, zeros, mean, std in found["record"]
    ]
    assert [row["shape"] for row in found["all"]] == [
        *("(1, 10)", "(1, 784)", "(1, 10)", "(1, 512)", "(1, 512)", "(1, 512)", "(1, 512)"),
        "(1, 10)",
    ]
    assert found["one folded"] == ["NeuralNetwork", "flatten", "linear_relu_stack"]
    assert found["folded"] == ["NeuralNetwork"]
    assert found["unfolded"] == found["all"]
    assert found["depth 1"] == ["NeuralNetwork", "flatten", "linear_relu_stack"]
    assert names(found["zeros down"])[:2] == ["linear_relu_stack.3", "linear_relu_stack.1"]
    assert names(found["zeros up"])[-2:] == ["linear_relu_stack.1", "linear_relu_stack.3"]
    assert found["zeros off"] == found["all"]
    assert found["hidden"] == [
        {key: value for key, value in row.items() if key != "zeros"} for row in found["all"]
    ]
    assert not found["menu"]


def test_the_keyboard_alone_is_enough_and_moves_no_cell(lab, tmp_path):
    path = notebook_of(tmp_path, LOAD, "%nntrace", "'the last cell'")

    found, (before, after) = visit(lab, path, by_keyboard)

    assert found == KEYS_DO
    assert after == before


TROUBLE = """
class Root(nn.Module):
    def forward(self, x):
        return (-1 - x.abs()).sqrt()

fragile = nn.Sequential(nn.Linear(4, 4), Root(), nn.ReLU())
%nntrace fragile(torch.ones(1, 4) * torch.nan_to_num(torch.tensor(-50.0)))
"""

FAILING = """# raises
broken = nn.Sequential(nn.Linear(4, 8), nn.Linear(4, 2), nn.ReLU())
%nntrace broken(torch.ones(1, 4))
"""


def test_the_first_nan_and_the_failed_layer_are_one_click_away(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic")).to_have_count(2)
        nan, failed = page.locator(".nnmagic").all()
        found = {}
        control(nan, "first-nan").click()
        expect(nan.locator(".nm-panel-title")).to_have_text("1 · Root")
        found["nan"] = [row["name"] for row in rows(nan) if row["selected"]]
        found["flags"] = [row["flags"] for row in rows(nan) if row["selected"]]
        control(nan, "flagged").click()
        found["flagged"] = [row["name"] for row in rows(nan)]
        control(failed, "failed").click()
        expect(failed.locator(".nm-panel-title")).to_have_text("1 · Linear")
        found["failed"] = [row["name"] for row in rows(failed) if row["selected"]]
        found["message"] = [row["message"] for row in rows(failed) if row["selected"]]
        found["buttons"] = [
            control(widget, name).is_visible()
            for widget in (nan, failed)
            for name in ("first-nan", "failed")
        ]
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, TROUBLE, FAILING), look)

    assert found["nan"] == ["1"]
    assert "NaN" in found["flags"][0]
    assert "1" in found["flagged"]
    assert "0" not in found["flagged"]
    assert found["failed"] == ["1"]
    assert found["message"] == [
        "FAILED got (1, 8), weight is (2, 4): the last axis must be 4, it is 8; "
        "make the layer with in_features=8"
    ]
    assert found["buttons"] == [True, False, False, True]


HOSTILE = """
%load_ext nnmagic
from torch import nn, ones
net = nn.Sequential()
net.add_module("<img src=x onerror=owned=1>", nn.ReLU())
net.add_module("</script><script>owned=1</script>", nn.ReLU())
%nntrace net(ones(2))
"""


def test_names_of_layers_are_text_in_the_widget(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        labels = [row["label"] for row in rows(widget)]
        titles = []
        for i in (1, 2):
            widget.locator(".nm-body > [role=row]:not([hidden]) .nm-label").nth(i).click()
            expect(widget.locator(".nm-panel-title")).to_contain_text(f"{labels[i]} · ReLU")
            titles.append(widget.locator(".nm-panel-title").inner_text())
            widget.locator("[data-nm=panel] table").wait_for()
        owned = page.evaluate("'owned' in window")
        return labels, titles, owned, widget.locator("img, script").count()

    labels, titles, owned, elements = visit(lab, notebook_of(tmp_path, HOSTILE), look)

    hostile = ["<img src=x onerror=owned=1>", "</script><script>owned=1</script>"]
    assert labels[1:] == hostile
    assert titles == [f"{name} · ReLU" for name in hostile]
    assert not owned
    assert elements == 0


MANY = """
net = nn.Sequential(*(nn.Identity() for _ in range(19_999)))
t = %nntrace net(torch.ones(1))
t
"""


def test_of_twenty_thousand_rows_only_those_in_view_are_drawn(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        grid = control(widget, "grid")
        drawn = [widget.locator(".nm-body > [role=row]").count()]
        grid.evaluate("grid => { grid.scrollTop = grid.scrollHeight; }")
        frames(page)
        end = rows(widget)[-1]["name"]
        drawn.append(widget.locator(".nm-body > [role=row]").count())
        control(widget, "search").fill("19990")
        count = widget.locator(".nm-count").inner_text()
        drawn.append(widget.locator(".nm-body > [role=row]").count())
        return drawn, end, count, names(rows(widget))

    drawn, end, count, matching = visit(lab, notebook_of(tmp_path, LOAD, MANY), look)

    assert max(drawn) < 100
    assert end == "19998"
    assert count == "1 of 20,000 calls"
    assert matching == ["net", "19990"]


STEPS = """%%nntrace net -o t
for i in range(5):
    net(torch.full((1, 3), float(i)))
"""


def test_the_step_slider_shows_the_numbers_of_a_step(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        code = "print(json.dumps([[c.main.mean, c.main.std] for c in t.calls('')]))"
        calls = json.loads(run_cell(page, code))
        last = rows(widget)[0]["mean"]
        control(widget, "step").fill("1")
        expect(widget.locator(".nm-toolbar")).to_contain_text("1 of 5")
        mean = row_of(widget, "net").locator(".nm-k-pair").first
        expect(mean).to_have_text("±".join(units.numbers(*calls[1])))
        return calls, last, rows(widget)[0]["mean"], run_cell(page, "print(t.show(step=1))")

    path = notebook_of(tmp_path, LOAD, "torch.manual_seed(0)\nnet = nn.Linear(3, 2)", STEPS)
    calls, last, second, text = visit(lab, path, look)

    assert len(calls) == 5
    assert last == "±".join(units.numbers(*calls[4]))
    assert second == "±".join(units.numbers(*calls[1]))
    assert second.replace("±", " ± ") in text


def test_parameters_and_summary_are_searched_and_sorted(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic")).to_have_count(2)
        params, summary = page.locator(".nnmagic").all()
        found = {}
        control(params, "search").fill("bias")
        found["biases"] = params.locator(".nm-count").inner_text()
        control(params, "search").fill("")
        control(params, "sort-count").click()
        found["largest"] = [[row["name"], row["count"]] for row in rows(params)]
        found["histograms"] = params.locator(
            ".nm-body [role=row]:not([hidden]) svg path[d*=M]"
        ).count()
        control(summary, "search").fill("Linear")
        found["linear"] = [row["name"] for row in rows(summary)]
        control(summary, "search").fill("")
        control(summary, "sort-params").click()
        found["most parameters"] = [[row["name"], row["params"]] for row in rows(summary)][:3]
        found["title"] = open_panel(summary, "linear_relu_stack.0")
        expect(control(summary, "panel")).to_contain_text("401,920 parameters")
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, "%nnparams", "%nnsummary"), look)

    stack = "linear_relu_stack"
    assert found["biases"].split(" of ")[0] == "3"
    leaves = [row for row in found["largest"] if row[0].endswith(("weight", "bias"))]
    assert leaves == [
        [f"{stack}.0.weight", "401,408"],
        [f"{stack}.2.weight", "262,144"],
        [f"{stack}.4.weight", "5,120"],
        [f"{stack}.0.bias", "512"],
        [f"{stack}.2.bias", "512"],
        [f"{stack}.4.bias", "10"],
    ]
    assert found["histograms"] == 6
    assert found["linear"] == ["NeuralNetwork", stack, *(f"{stack}.{i}" for i in range(5))]
    assert found["most parameters"] == [
        ["NeuralNetwork", "669,706"],
        [stack, "669,706"],
        [f"{stack}.0", "401,920"],
    ]
    assert found["title"] == f"{stack}.0 · Linear"
