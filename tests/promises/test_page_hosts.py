"""The widget in a real page beside others, in Notebook 7 and in the dark theme."""

import json
import re

import pytest
from lab import Lab, notebook_of, open_notebook, run_cell
from playwright.sync_api import expect
from widget_page import (
    COLORS,
    KEYS_DO,
    LOAD,
    NOTEBOOKS_OWN,
    STATIC_TABLES,
    WIDGETS,
    by_keyboard,
    control,
    open_panel,
    rows,
    table_texts,
    visit,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LINK = """
import traitlets
first, second = open_ones[-2:]
link = traitlets.link((first, "selected"), (second, "selected"))
"""

MANY_WIDGETS = """
net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
t = nnmagic.trace(net, torch.ones(1, 3))
for _ in range(22):
    display(t)
"""


def test_the_twenty_latest_widgets_live_and_their_traits_are_linked(lab, tmp_path):
    def look(page):
        widgets = page.locator(".nnmagic")
        expect(widgets).to_have_count(20)
        page.wait_for_timeout(1200)  # a widget looks for its static table once more after a second
        tables = table_texts(page)
        run_cell(page, WIDGETS + LINK)
        first, second = widgets.nth(18), widgets.nth(19)
        open_panel(first, "0")
        expect(second.locator(".nm-panel-title")).to_have_text("0 · Linear")
        in_python = run_cell(page, "print(first.selected, second.selected)").split()
        run_cell(page, "first.selected = '1'")
        selected = []
        for widget in (first, second):
            expect(widget.locator(".nm-panel-title")).to_have_text("1 · ReLU")
            selected.append([row["name"] for row in rows(widget) if row["selected"]])
        return tables, in_python, selected

    found = visit(lab, notebook_of(tmp_path, LOAD, MANY_WIDGETS), look)

    tables, in_python, selected = found
    for text in tables[:2]:
        assert "0  Linear" in re.sub("[├└─│ ]+", "  ", text)
        assert text.endswith("this widget is closed: 20 newer ones are open")
    assert tables[2:] == [""] * 20
    assert in_python == ["0", "0"]
    assert selected == [["1"], ["1"]]


SAVE = "() => jupyterapp.commands.execute('docmanager:save')"
PATH = "() => jupyterapp.shell.currentWidget.context.path"
SHUT_DOWN = "() => jupyterapp.shell.currentWidget.sessionContext.shutdown()"
TEXTS = r"""() => [...document.querySelectorAll('.jp-OutputArea-output')].map(
  node => node.getClientRects().length ? node.innerText.replaceAll('\u00a0', ' ').trim() : '')"""

WATCHED = """
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
w = nnmagic.watch(net)
w
"""

CALLED = """
for i in range(3):
    with torch.no_grad():
        y = net(torch.full((1, 3), float(i)))
print(f"{y.mean():.3f} ± {y.std():.3f}")
"""


def test_a_notebook_opened_without_its_kernel_shows_the_last_state_and_no_error(lab, tmp_path):
    def look(page):
        expect(page.locator(".nnmagic").nth(1).locator(".nm-heading")).to_contain_text("call 3")
        page.evaluate(SAVE)
        saved = json.loads((lab.root / page.evaluate(PATH)).read_text())
        page.evaluate(SHUT_DOWN)  # which closes what is open, and says so in its table
        page.evaluate(SAVE)
        page.reload()
        expect(page.get_by_text("model not found")).to_have_count(3, timeout=60_000)
        return saved, page.evaluate(TEXTS)

    other = "import ipywidgets\nipywidgets.IntSlider()"
    path = notebook_of(tmp_path, LOAD, "%nntrace", WATCHED, CALLED, other)
    saved, texts = open_notebook(lab, path, look=look).found
    table, ours, watched, its_widget, printed, others = texts

    assert table.startswith("NeuralNetwork")
    assert ours == its_widget == ""
    assert watched.startswith("net · call 3")
    assert printed in watched
    assert watched.endswith("this widget is closed: its kernel has ended")
    static, view = saved["cells"][2]["outputs"]
    lines = "".join(static["data"]["text/plain"])
    assert lines.startswith("net · call 3")
    assert printed in lines
    assert "closed" not in lines
    assert "".join(view["data"]["text/plain"]) == ""
    assert others == "Error displaying widget: model not found"


def test_the_widget_works_in_notebook_7(lab_folder, pictures, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        expect(page.locator("[data-nnmagic]")).to_be_hidden()
        before = page.evaluate(STATIC_TABLES)
        control(widget, "search").fill("flatten")
        count = widget.locator(".nm-count").inner_text()
        title = open_panel(widget, "flatten")
        output = control(widget, "panel").locator("canvas").nth(1)  # the input is grey
        colors = output.evaluate(COLORS)
        control(widget, "search").fill("")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        keys, cells = by_keyboard(page)
        run_cell(page, f"{WIDGETS}\nopen_ones[0].close()")
        expect(widget).to_have_count(0)
        closed = page.evaluate(STATIC_TABLES)
        return [before, count, title, colors > 20, closed], keys, cells

    with Lab(lab_folder.mktemp("notebook"), ui="notebook") as lab:
        path = notebook_of(tmp_path, LOAD, "%nntrace", "'the last cell'")
        found, keys, (before, after) = visit(lab, path, look, known=NOTEBOOKS_OWN)

    assert found == [[False], "1 of 8 calls", "flatten · Flatten", True, [True]]
    assert keys == KEYS_DO
    assert after == before


CONTRAST = """() => {
  const shown = document.querySelector('.nnmagic .nm-body [role=row]:not([hidden]) .nm-label');
  const color = text => text.match(/[\\d.]+/g).map(Number);
  let behind = [0, 0, 0, 0];
  for (let node = shown; node && behind[3] === 0; node = node.parentElement) {
    const [r, g, b, alpha = 1] = color(getComputedStyle(node).backgroundColor);
    behind = [r, g, b, alpha];
  }
  const style = getComputedStyle(shown);
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const [low, high] = [luminance(color(style.color)), luminance(behind)].sort((a, b) => a - b);
  const contrast = (high + 0.05) / (low + 0.05);
  return {contrast, behind: luminance(behind), size: parseFloat(style.fontSize)};
}"""


def test_a_row_is_readable_in_the_dark_theme(lab, tmp_path):
    def look(page):
        page.locator(".nnmagic").wait_for()
        return page.evaluate(CONTRAST)

    found = visit(lab, notebook_of(tmp_path, LOAD, "%nntrace"), look, theme="Dark")

    assert found["behind"] < 0.1
    assert found["contrast"] >= 7
    assert found["size"] >= 11
