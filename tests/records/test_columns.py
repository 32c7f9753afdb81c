"""A new column is one `Column(...)`, a new medium one module and one method."""

import numpy as np
import torch
from torch import nn

import nnmagic
from nnmagic.display.lines import cell_text
from nnmagic.display.sheet import sheet_of
from nnmagic.display.table import Column, Table
from nnmagic.records import trace_table

NORM = Column(
    key="norm",
    title="L2 norm",
    kind="number",
    priority=2,
    meaning="the Euclidean norm of what the layer returned",
    cell=lambda row: row.tensor.norm,
)


def test_a_new_column_of_a_trace_is_in_text_in_html_and_in_the_widget(monkeypatch):
    monkeypatch.setattr(trace_table, "COLUMNS", (*trace_table.COLUMNS, NORM))
    x = torch.tensor([[3.0, 4.0], [0.0, 12.0]])

    trace = nnmagic.trace(nn.Sequential(nn.Identity(), nn.ReLU()), x)

    header, *lines = str(trace).splitlines()[1:5]
    assert header.rstrip().endswith("L2 norm")
    assert [line.split()[-1] for line in lines[:3]] == ["13.000"] * 3
    html = trace._repr_html_()
    assert html.count("13.000") == 3
    assert "L2 norm: the Euclidean norm of what the layer returned" in html
    column = sheet_of(trace.table()).content["columns"][-1]
    assert (column["key"], column["title"], column["priority"]) == ("norm", "L2 norm", 2)
    assert np.frombuffer(column["values"], "<f8").tolist() == [13.0] * 3


def markdown(table: Table) -> str:
    """A new medium: its module is a function of a table."""
    columns = [column for column in table.columns if not column.extra]
    texts = [[cell_text(column, cell) for cell in table.cells(column.key)] for column in columns]
    heads = [table.title, *(column.title for column in columns)]
    lines = [heads, ["---"] * len(heads)]
    lines += [[row.name, *cells] for row, *cells in zip(table.rows, *texts, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def test_a_new_medium_is_a_function_of_a_table():
    summary = nnmagic.summary(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(1, 2))

    lines = markdown(summary.drawn(text=False)).splitlines()

    assert lines[0].startswith("| layer | type | output shape | parameters | FLOPs |")
    assert lines[3].startswith("| 0 | Linear | (1, 3) | 9 | 12 | (1, 2) |")


def test_all_media_have_the_same_columns_in_the_same_order():
    net, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(1, 2)
    for record in (nnmagic.trace(net, x), nnmagic.summary(net, x), nnmagic.params(net)):
        table = record.table()

        titles = [column["title"] for column in sheet_of(table).content["columns"]]

        always = [column.title for column in table.columns if not column.extra]
        assert titles[: len(always)] == always


def test_layer_shape_flags_and_mean_stay_longest():
    priorities = {column.key: column.priority for column in trace_table.COLUMNS}

    stay = {key for key, priority in priorities.items() if priority < 2}
    assert stay == {"shape", "mean", "flags"}


def test_text_names_the_columns_for_which_there_is_no_room():
    from nnmagic.display.text import table_text

    trace = nnmagic.trace(nn.Linear(2, 3), torch.rand(1, 2))

    lines = table_text(trace.drawn(text=True), 52).splitlines()

    assert lines[3] == " no room for: histogram, zeros"
    assert lines[1].split() == ["layer", "shape", "mean", "±", "std", "min", "…", "max"]
