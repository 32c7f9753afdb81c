import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nnmagic
from nnmagic.display.markdown import escaped, table_markdown
from nnmagic.display.table import Column, Row, Table


def cells(line):
    """The cells of a line of a table, as a reader of Markdown splits it."""
    inside = line.removeprefix("| ").removesuffix(" |")
    return re.split(r"(?<!\\)(?:\\\\)*\s*\|\s*", inside)


def test_a_trace_is_a_table_with_full_names_between_its_heading_and_its_notes():
    trace = nnmagic.trace(nnmagic.default_network(), nnmagic.default_input())

    heading, table, *notes = trace.to_markdown().split("\n\n")

    assert heading == "**NeuralNetwork · float32 · cpu · 8 calls**"
    head, rule, *lines = table.split("\n")
    assert head == "| layer | type | shape | mean ± std | min … max | histogram | zeros |"
    assert rule == "| --- | --- | --- | ---: | ---: | --- | ---: |"
    assert [cells(line)[0] for line in lines[:3]] == [
        "NeuralNetwork",
        "flatten",
        r"linear\_relu\_stack",
    ]
    assert lines[3].startswith(r"| linear\_relu\_stack.0 | Linear | (1, 512) | 0.016 ± 0.328 |")
    assert notes[-1] == "network unchanged"


def test_a_summary_and_parameters_are_tables_too():
    summary = nnmagic.summary(nnmagic.default_network()).to_markdown()
    params = nnmagic.params(nnmagic.default_network()).to_markdown()

    assert r"| linear\_relu\_stack.0 | Linear | (1, 512) | 401,920 |" in summary
    assert r"| linear\_relu\_stack.0.weight | (512, 784) | 401,408 | 60 % |" in params


def test_a_call_that_failed_says_why_behind_its_type():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4))

    with pytest.raises(RuntimeError), nnmagic.tracing(net) as trace:
        net(torch.rand(2, 3))

    lines = trace.to_markdown().split("\n")
    (failed,) = [line for line in lines if line.startswith("| 1 ")]
    assert cells(failed)[1] == "Linear"
    assert cells(failed)[2].startswith("FAILED")
    assert {len(cells(line)) for line in lines if line.startswith("|")} == {len(cells(failed))}


def test_names_are_escaped():
    row = Row("x", ("a|b\n<script>*_`$\\",), level=1, name="<b>|`n`")
    columns = (Column("c", "text", title="t", cell=lambda subject: subject[0]),)

    text = table_markdown(Table(heading="<h>", title="layer", columns=columns, rows=[row]))

    assert text == "\n".join(
        [
            r"**\<h\>**",
            "",
            "| layer | t |",
            "| --- | --- |",
            r"| \<b\>\|\`n\` | a\|b\\n\<script\>\*\_\`\$\\ |",
        ]
    )


@given(st.text())
def test_no_text_ends_a_cell_or_a_line(text):
    found = escaped(text)

    assert len(found.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(\\\\)*[|<`*_]", found)
