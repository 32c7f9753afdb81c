"""The page on comparisons says what is so."""

import re
from pathlib import Path

import pytest

import nnmagic
from nnmagic.records.comparison import verdicts
from nnmagic.records.comparison.comparison import FRAME_COLUMNS

PAGE = (Path(nnmagic.__file__).parents[1] / "docs" / "comparing.md").read_text()


def test_the_examples_of_the_page_run_and_find_the_fault(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    found = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, found)

    heading = capsys.readouterr().out.splitlines()[0]
    assert f"    {heading}\n" in PAGE
    with pytest.raises(AssertionError, match=r"part in Sequential\.1 \(LayerNorm\)"):
        found["test_the_port_computes_what_the_original_does"]()
    found["port"][1].eps = 1e-5
    found["test_the_port_computes_what_the_original_does"]()


def test_the_page_tells_every_verdict_and_every_column_that_is_measured():
    words = [
        value for name, value in vars(verdicts).items() if name.isupper() and isinstance(value, str)
    ]
    measured = FRAME_COLUMNS[FRAME_COLUMNS.index("input_error") : -1]

    assert len(words) == 9
    assert [word for word in words if word not in PAGE] == []
    assert [name for name in measured if f"`{name}`" not in PAGE] == []
