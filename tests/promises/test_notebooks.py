import json
import os
import re
from pathlib import Path

import pytest
from notebooks import executed

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


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts(notebook):
    """The plain texts that a notebook's cells show, in one."""
    outputs = [o for cell in code_cells(notebook) for o in cell["outputs"]]
    shown = (o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)
    return "\n".join(map("".join, shown))


def test_the_demo_names_no_path_of_the_machine_that_ran_it():
    text = DEMO.read_text(encoding="utf-8")

    assert "nnmagic/tutorial.py" in text
    assert "site-packages" not in text


@pytest.mark.slow
def test_the_demo_runs_and_shows_the_tutorials_figures(pictures):
    notebook = executed(read(DEMO))

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
        for cell in code_cells(notebook)
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]
    assert [error["ename"] for error in errors] == ["RuntimeError"]


def test_the_demo_is_committed_with_its_outputs():
    notebook = read(DEMO)

    assert "Predicted class:" in texts(notebook)
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
def test_the_demo_converts_to_a_page_without_scripts_of_ours():
    from nbconvert import HTMLExporter  # takes a second

    body, _ = HTMLExporter(embed_images=True).from_filename(DEMO)

    assert body.count("<details") > 50
    assert "linear_relu_stack" in body


def test_the_demo_converts_to_markdown_with_its_tables_and_to_a_script_of_its_code_alone():
    from nbconvert import MarkdownExporter, PythonExporter

    markdown, _ = MarkdownExporter().from_filename(DEMO)
    script, _ = PythonExporter().from_filename(DEMO)

    assert markdown.count("<details") > 50
    assert "nnmagic widget" not in markdown
    assert "nnsummary" in script
    assert "<details" not in script
    assert "mean ± std" in markdown
    assert "mean ± std" not in script


def check_failures(notebook):
    """Hold each failure of the second notebook to its finding, and its repair to none."""
    cells = code_cells(notebook)
    starts = ["".join(cell["source"]).startswith("%%nntrace --static") for cell in cells]
    failures = [i for i, is_failure in enumerate(starts) if is_failure]
    assert len(failures) == len(FOUND)
    for at, finding in zip(failures, FOUND, strict=True):
        failure, repair = ({"cells": [cells[i]]} for i in (at, at + 1))
        assert finding in " ".join(texts(failure).split())
        assert texts(repair) == "[]"


def test_the_notebook_of_failures_is_committed_with_a_finding_each():
    notebook = read(LEARN)

    check_failures(notebook)
    assert "site-packages" not in LEARN.read_text(encoding="utf-8")
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
@pytest.mark.skipif("NNMAGIC_DATA" not in os.environ, reason="noise cannot be learned")
def test_the_notebook_of_failures_runs_and_its_network_learns(pictures):
    notebook = executed(read(LEARN))

    check_failures(notebook)
    (recognised,) = re.findall(r"(\d+)% of 90 test pictures", texts(notebook))
    assert int(recognised) > 80
