import os
import re
from pathlib import Path

import nbformat
import pytest
from lab import Lab, notebook_of, open_notebook
from nbclient import NotebookClient
from nbconvert import HTMLExporter

DEMO = Path(__file__).parents[2] / "demo.ipynb"
LEARN = Path(__file__).parents[2] / "learn.ipynb"

FOUND = (
    "type optimizer.zero_grad() before the backward",
    "SGD steps on parameters that get no gradient",
    "between encoder and head the output was detached",
    "is not registered (a plain list)",
    "got probabilities",
    "a cross entropy is never below 0",
    "compares each with each",
    "is trained in eval mode",
    "runs without gradients in train mode",
    "got values up to 255",
    "batches of one class alone",
    "of the units are 0 for each of the last 512 inputs",
)
"""What the failures of the second notebook are told to be, in their order."""


def texts(notebook):
    """The plain texts that a notebook's cells show, in one."""
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


def test_the_demo_names_no_path_of_the_machine_that_ran_it():
    text = DEMO.read_text(encoding="utf-8")

    assert "nnmagic/tutorial.py" in text
    assert "site-packages" not in text


@pytest.mark.slow
def test_the_demo_runs_and_shows_the_tutorials_figures(pictures):
    notebook = nbformat.read(DEMO, as_version=4)

    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()

    shown = texts(notebook)
    for figure in (
        "669,706 parameters",
        "multiply-adds (MACs): 668,672",
        "47,270 trainable",
        "(3, 784)",
        "FAILED got (1, 20), weight is (512, 784): the last axis must be 784, it is 20",
        "first NaN: fragile.1 (Root)",
        "11,689,512 parameters",
    ):
        assert figure in shown
    errors = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    assert [error.ename for error in errors] == ["RuntimeError"]


def test_the_demo_is_committed_with_its_outputs():
    notebook = nbformat.read(DEMO, as_version=4)

    assert "Predicted class:" in texts(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_the_demo_converts_to_a_page_without_scripts_of_ours():
    body, _ = HTMLExporter(embed_images=True).from_filename(DEMO)

    assert body.count("<details") > 50
    assert "linear_relu_stack" in body


@pytest.mark.browser
@pytest.mark.slow
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


@pytest.mark.browser
def test_a_stopping_cell_stops_run_all(lab, tmp_path):
    path = notebook_of(tmp_path, "%load_ext nnmagic", "%nnsummary 3", "print('went on')")

    seen = open_notebook(lab, path)

    (line,) = seen.cells[1]["outputs"]
    assert "UsageError: %nnsummary: no layer ran in '3'" in "".join(line["text"])
    assert seen.cells[2]["outputs"] == []


HOSTILE = """
%load_ext nnmagic
from torch import nn, ones
net = nn.Sequential()
net.add_module("<img src=x onerror=owned=1>", nn.ReLU())
net.add_module("</script><script>owned=1</script>", nn.ReLU())
%nntrace net(ones(2))
"""


@pytest.mark.browser
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


@pytest.mark.browser
def test_somebody_elses_notebook_shows_its_tables_untrusted(lab, tmp_path):
    def look(page):
        page.locator(".jp-RenderedHTMLCommon details").first.wait_for(state="attached")
        table = page.locator(".jp-RenderedHTMLCommon details", has_text="linear_relu_stack").first
        return table.locator("summary").count(), page.locator("[style*='monospace']").count()

    seen = open_notebook(lab, DEMO, look=look, run=False)

    rows, styled = seen.found
    assert rows >= 8
    assert styled > 0


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_columns_are_aligned_and_readable_in_both_themes(theme, lab_folder, tmp_path):
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

    with Lab(lab_folder.mktemp(theme), theme) as lab:
        seen = open_notebook(lab, path, look=lambda page: page.evaluate(measure))

    assert seen.errors == []
    assert len(seen.found["at"]) == 8
    assert max(seen.found["at"]) - min(seen.found["at"]) <= 1
    assert seen.found["size"] >= 11
    contrast = abs(sum(seen.found["text"]) - sum(seen.found["behind"])) / 3
    assert contrast > 120


def check_failures(notebook):
    """Hold each failure of the second notebook to its finding, and its repair to none."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    failures = [i for i, cell in enumerate(cells) if cell.source.startswith("%%nntrace --static")]
    assert len(failures) == len(FOUND)
    for at, finding in zip(failures, FOUND, strict=True):
        failure, repair = ({"cells": [cells[i]]} for i in (at, at + 1))
        assert finding in " ".join(texts(nbformat.from_dict(failure)).split())
        assert texts(nbformat.from_dict(repair)) == "[]"


def test_the_notebook_of_failures_is_committed_with_a_finding_each():
    notebook = nbformat.read(LEARN, as_version=4)

    check_failures(notebook)
    assert "site-packages" not in LEARN.read_text(encoding="utf-8")
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
@pytest.mark.skipif("NNMAGIC_DATA" not in os.environ, reason="noise cannot be learned")
def test_the_notebook_of_failures_runs_and_its_network_learns(pictures):
    notebook = nbformat.read(LEARN, as_version=4)

    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()

    check_failures(notebook)
    (recognised,) = re.findall(r"(\d+)% of 90 test pictures", texts(notebook))
    assert int(recognised) > 80
