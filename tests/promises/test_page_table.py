"""The widget's table in a real page: rows, search, sort, folding, steps and the keyboard."""

import json

import pytest
from lab import notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import (
    HOSTILE,
    KEYS_DO,
    LOAD,
    OUTPUTS,
    STATIC_TABLES,
    WIDGETS,
    assert_folded_sorted_and_hidden,
    by_keyboard,
    control,
    fold_sort_and_hide,
    frames,
    labels_and_titles,
    names,
    open_panel,
    row_of,
    rows,
    visit,
)
from widget_uses import (
    assert_parameters_and_summary,
    search_and_sort_parameters,
    search_and_sort_summary,
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
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["outputs"] = saved
    path.write_text(json.dumps(notebook))
    widgets, lines = visit(lab, path, look_only, run=False)

    assert closed == ([False], [True])
    assert widgets == 0
    assert lines >= 8


def test_the_rows_are_those_of_the_record_and_fold_sort_and_hide(lab, tmp_path):
    def look(page):
        calls = "[[c.layer, str(c.output_shape), c.main.zeros, c.main.mean, c.main.std] for c in t]"
        record = json.loads(run_cell(page, f"print(json.dumps({calls}))"))
        return fold_sort_and_hide(page.locator(".nnmagic")), record

    found, record = visit(lab, notebook_of(tmp_path, LOAD, "t = %nntrace\nt"), look)

    assert_folded_sorted_and_hidden(found, record)


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


DEEP = """
layers = [nn.Identity() for _ in range(60)]
layers[40] = nn.Linear(4, 2)
nn.init.eye_(layers[40].weight)  # infinity times 0 is NaN; random weights of one sign give none
trace = %nntrace nn.Sequential(nn.Sequential(*layers))(torch.full((1, 4), torch.inf))
trace
"""

OUT_AND_BACK = """async milliseconds => {
  const cell = document.querySelector('.nnmagic').closest('.jp-Cell');
  const [above, below] = [cell.parentNode, cell.nextSibling];
  cell.remove();
  if (milliseconds) await new Promise(done => setTimeout(done, milliseconds));
  above.insertBefore(cell, below);
}"""

LOW_AND_SCROLLED = "panel => { panel.style.maxHeight = '200px'; panel.scrollTop = 100; }"

SCROLLED = """() => ['.nm-grid', '.nm-panel'].map(name => document.querySelector(name).scrollTop)"""

IS_IN_VIEW = """row => {
  const [own, grid] = [row, row.closest('.nm-grid')].map(node => node.getBoundingClientRect());
  return grid.top < own.top && own.bottom < grid.bottom;
}"""


def test_the_first_nan_and_the_failed_layer_are_in_view_or_one_click_away(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic")).to_have_count(3)
        nan, deep, failed = page.locator(".nnmagic").all()
        found = {}
        deep.scroll_into_view_if_needed()
        frames(page)
        found["in view"] = row_of(deep, "0.40").evaluate(IS_IN_VIEW)
        control(nan, "first").click()
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
            for name in ("first", "failed")
        ]
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, TROUBLE, DEEP, FAILING), look)

    assert found["in view"]
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


def test_a_cell_that_leaves_the_page_for_a_while_is_scrolled_as_before(lab, tmp_path):
    def look(page):
        (deep,) = page.locator(".nnmagic").all()
        open_panel(deep, "0.40")
        deep.locator("[data-nm=panel] table").wait_for()
        control(deep, "panel").evaluate(LOW_AND_SCROLLED)
        found = []
        for milliseconds in (None, 0, 300):
            if milliseconds is not None:
                page.evaluate(OUT_AND_BACK, milliseconds)
            frames(page)
            found.append((page.evaluate(SCROLLED), names(rows(deep))))
        return found

    before, *after = visit(lab, notebook_of(tmp_path, LOAD, DEEP), look)

    assert min(before[0]) > 0
    assert "0.40" in before[1]
    assert after == [before, before]


def test_names_of_layers_are_text_in_the_widget(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        labels, titles = labels_and_titles(widget)
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
        expect(mean).to_have_text(" ± ".join(units.numbers(*calls[1])))
        return calls, last, rows(widget)[0]["mean"], run_cell(page, "print(t.show(step=1))")

    path = notebook_of(tmp_path, LOAD, "torch.manual_seed(0)\nnet = nn.Linear(3, 2)", STEPS)
    calls, last, second, text = visit(lab, path, look)

    assert len(calls) == 5
    assert last == "±".join(units.numbers(*calls[4]))
    assert second == "±".join(units.numbers(*calls[1]))
    assert second.replace("±", " ± ") in text


SOMETIMES = """
class Sometimes(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.ReLU()

    def forward(self, x):
        return self.b(self.a(x)) if x.mean() > 2 else self.a(x)

net = Sometimes()
"""


def test_a_layer_that_did_not_run_in_an_iteration_has_no_panel_of_another(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        panel = control(widget, "panel")
        open_panel(widget, "b")
        panel.locator("canvas").first.wait_for()
        control(widget, "step").fill("1")
        expect(panel).to_contain_text("not among the rows")
        found = panel.locator("canvas, table, li").count(), panel.inner_text()
        control(widget, "step").fill("4")
        panel.locator("canvas").first.wait_for()
        return found, panel.inner_text()

    (left, said), again = visit(lab, notebook_of(tmp_path, LOAD, SOMETIMES, STEPS), look)

    assert left == 0
    assert "(1, 2)" not in said
    assert "(1, 2) → (1, 2)" in again


def test_parameters_and_summary_are_searched_and_sorted(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic")).to_have_count(2)
        params, summary = page.locator(".nnmagic").all()
        return search_and_sort_parameters(params), search_and_sort_summary(summary)

    params, summary = visit(lab, notebook_of(tmp_path, LOAD, "%nnparams", "%nnsummary"), look)

    assert_parameters_and_summary(params, summary)
