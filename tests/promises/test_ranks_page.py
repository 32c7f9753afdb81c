"""The examples of docs/ranks.md, each run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from notebooks import executed, notebook_of_cells

import nnmagic

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ranks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def examples(section):
    """The blocks of code of the section whose title begins so."""
    (text,) = [text for title, text in SECTIONS.items() if title.startswith(section)]
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    return tmp_path


def run_as_notebook(cells, folder):
    """The text that the last cell of a notebook prints."""
    notebook = executed(notebook_of_cells(cells), folder=folder)
    return " ".join("".join(each["text"] for each in notebook.cells[-1].outputs).split())


@pytest.mark.slow
def test_torchrun_writes_a_file_a_rank(in_folder):
    program, notebook = examples("A file a rank")
    (in_folder / "train.py").write_text(program)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "train.py"], capture_output=True, text=True, timeout=150, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr

    trace = eval(notebook, {"nnmagic": nnmagic})

    assert [each.rank for each in trace.ranks] == [0, 1]
    assert [each for each in trace.findings if each.level == "finding"] == []
    assert "agree in what they hold, each on its own data" in trace.table().heading
    assert trace.to_frame()["rank"].value_counts().to_dict() == {0: 20, 1: 20}


@pytest.mark.slow
def test_what_engines_recorded_is_loaded_in_the_notebook(in_folder):
    pytest.importorskip("ipyparallel")
    start, engines, load = examples("Engines of a notebook")

    said = run_as_notebook([start, engines, load, "print(trace)"], in_folder)

    assert "ranks 0 and 1 part from Sequential.2 (Linear) on by" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks the kernel")
def test_a_notebook_starts_its_ranks_and_shows_what_they_gathered(in_folder):
    (code,) = examples("A notebook that starts its ranks")

    said = run_as_notebook(
        [code.replace("nnmagic.load(", "print(nnmagic.load(").rstrip() + ")"], in_folder
    )

    assert "parameter 0.weight and 3 more: ranks 0 and 1 part" in said
