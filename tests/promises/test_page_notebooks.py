"""Notebooks in a real JupyterLab: the demo runs, and tables show without the widget."""

from pathlib import Path

import pytest
from lab import notebook_of, open_notebook
from widget_page import HOSTILE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DEMO = Path(__file__).parents[2] / "demo.ipynb"


def test_the_demo_runs_in_jupyterlab_without_errors_or_other_hosts(lab, pictures, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic").first
        widget.locator("[role=row]", has_text="flatten").first.click()
        title = widget.locator(".nm-panel-title", has_text="flatten")
        title.wait_for()
        return title.inner_text(), page.locator("[data-nnmagic]").first.is_visible()

    seen = open_notebook(lab, DEMO, look=look, picture=tmp_path / "demo.png")

    assert seen.errors == []
    assert seen.foreign == []
    assert seen.found == ("flatten · Flatten", False)
    assert (tmp_path / "demo.png").stat().st_size > 100_000


def test_a_stopping_cell_stops_run_all(lab, tmp_path):
    path = notebook_of(tmp_path, "%load_ext nnmagic", "%nnsummary 3", "print('went on')")

    seen = open_notebook(lab, path)

    (line,) = seen.cells[1]["outputs"]
    assert "UsageError: %nnsummary: no layer ran in '3'" in "".join(line["text"])
    assert seen.cells[2]["outputs"] == []


def test_names_of_layers_are_text_and_nothing_else(lab, tmp_path):
    def look(page):
        output = page.locator(".jp-OutputArea-output").first
        owned = page.evaluate("'owned' in window")
        return owned, output.locator("img, script").count(), output.inner_text()

    seen = open_notebook(lab, notebook_of(tmp_path, HOSTILE), look=look)

    owned, elements, text = seen.found
    assert seen.errors == []
    assert not owned
    assert elements == 0
    assert "<img src=x onerror=owned=1>" in text.replace("\xa0", " ")


def test_somebody_elses_notebook_shows_its_tables_untrusted(lab, tmp_path):
    def look(page):
        page.locator(".jp-RenderedHTMLCommon details").first.wait_for(state="attached")
        table = page.locator(".jp-RenderedHTMLCommon details", has_text="linear_relu_stack").first
        return table.locator("summary").count(), page.locator("[style*='monospace']").count()

    seen = open_notebook(lab, DEMO, look=look, run=False)

    rows, styled = seen.found
    assert rows >= 8
    assert styled > 0


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_columns_are_aligned_and_readable_in_both_themes(theme, lab, tmp_path):
    path = notebook_of(tmp_path, "%load_ext nnmagic\n%nntrace")
    measure = """() => {
      const rows = [...document.querySelectorAll('.jp-OutputArea-output summary samp')];
      const color = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
      const style = getComputedStyle(rows[1]);
      const behind = getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor;
      const at = rows.map(row => {
        const node = row.firstChild, i = node.data.indexOf('(1,');
        if (i < 0) return null;
        const range = document.createRange();
        range.setStart(node, i);
        range.setEnd(node, i + 1);
        return Math.round(range.getBoundingClientRect().left);
      });
      return {at: at.filter(x => x !== null), size: parseFloat(style.fontSize),
              text: color(style.color), behind: color(behind)};
    }"""

    seen = open_notebook(lab, path, theme=theme, look=lambda page: page.evaluate(measure))

    assert seen.errors == []
    assert len(seen.found["at"]) == 8
    assert max(seen.found["at"]) - min(seen.found["at"]) <= 1
    assert seen.found["size"] >= 11
    contrast = abs(sum(seen.found["text"]) - sum(seen.found["behind"])) / 3
    assert contrast > 120
