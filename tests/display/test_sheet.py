import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nnmagic
from nnmagic.display.sheet import sheet_of
from nnmagic.display.table import Column, Histogram, RelativeError, Row, State, Table
from nnmagic.display.text import table_text
from nnmagic.records.histograms import binned


def column(sheet, key):
    return next(each for each in sheet.content["columns"] if each["key"] == key)


def numbers(sheet, key, field="values", form="<f8"):
    return np.frombuffer(column(sheet, key)[field], dtype=form)


def texts(sheet, key):
    found = column(sheet, key)
    return [found["strings"][i] for i in np.frombuffer(found["index"], dtype="<u4")]


def labels(sheet):
    index = np.frombuffer(sheet.content["label"], dtype="<u4")
    return [sheet.content["labels"][i] for i in index]


def test_a_row_says_what_the_frame_says():
    trace = nnmagic.trace(nnmagic.default_network(), nnmagic.default_input())

    sheet = sheet_of(trace.table())

    frame = trace.to_frame()
    assert sheet.content["count"] == len(frame) == 8
    assert numbers(sheet, "mean", "first").tolist() == frame["mean"].tolist()
    assert numbers(sheet, "mean", "second").tolist() == frame["std"].tolist()
    assert numbers(sheet, "range", "first").tolist() == frame["min"].tolist()
    assert numbers(sheet, "zeros", form="<f4") == pytest.approx(frame["zeros"].to_numpy())
    assert np.frombuffer(sheet.content["level"], "<u2").tolist() == frame["depth"].tolist()
    assert texts(sheet, "shape") == [str(shape) for shape in frame["output_shape"]]
    assert labels(sheet)[-1] == "4"


def test_a_rows_histogram_is_that_of_its_values():
    trace = nnmagic.trace(nn.Tanh(), torch.randn(100))

    sheet = sheet_of(trace.table())

    drawn = np.frombuffer(column(sheet, "histogram")["values"], np.uint8)
    counts = np.array(trace[""].outputs[0].histogram.counts)
    assert drawn.tolist() == [-(-int(count) * 255 // int(counts.max())) for count in counts]
    (zero,) = np.frombuffer(column(sheet, "histogram")["zero"], np.int8)
    assert zero == trace[""].outputs[0].histogram.zero


@given(st.lists(st.floats(width=32), min_size=1, max_size=60))
def test_bins_are_those_of_a_record(values):
    array = np.array([values], dtype=np.float32)
    finite = array[np.isfinite(array)].astype(float)
    low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)

    (counts,) = binned(array, low, high, Histogram.BINS)

    assert counts.sum() == finite.size
    width = high / 2 - low / 2 or 1.0
    expected = [0] * Histogram.BINS
    for value in (float(value) for value in array[0] if low <= value <= high):
        place = int((value / 2 - low / 2) / width * Histogram.BINS) if width > 0 else 0
        expected[min(place, Histogram.BINS - 1)] += 1
    assert counts.tolist() == expected


def test_a_layer_called_often_is_one_row_with_its_calls_inside():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(3, 3)

        def forward(self, x):
            for _ in range(7):
                x = self.cell(x)
            return x

    sheet = sheet_of(nnmagic.trace(Loop(), torch.rand(1, 3)).table())

    assert labels(sheet) == ["Loop", "cell × 7", *["cell"] * 7]
    assert sheet.content["level"] == np.array([0, 1, *[2] * 7], "<u2").tobytes()
    assert sheet.content["state"][1] & State.MANY_CALLS
    assert sheet.rows["cell"] == 1
    assert [sheet.rows[f"cell@{i}"] for i in range(7)] == list(range(2, 9))


def test_nan_is_flagged_where_it_arises_and_dimmed_after():
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    net = nn.Sequential(nn.Linear(2, 2), Log(), nn.ReLU())
    nn.init.constant_(net[0].weight, -1.0)
    net[0].bias = nn.Parameter(torch.tensor([0.0, 0.5]))

    sheet = sheet_of(nnmagic.trace(net, torch.ones(1, 2)).table())

    state = sheet.content["state"]
    assert sheet.content["first"] == 2
    assert state[2] & State.STRONG
    assert state[2] & State.FLAGGED
    assert state[2] & State.FIRST
    assert state[3] & State.DIMMED
    assert texts(sheet, "flags")[2].startswith("2 NaN, made here from -2.000 … -1.500")


def test_a_failed_call_shows_why_in_place_of_its_values():
    net = nn.Sequential(nn.ReLU(), nn.Linear(5, 5))

    with pytest.raises(RuntimeError), nnmagic.tracing(net) as trace:
        net(torch.rand(1, 4))

    sheet = sheet_of(trace.table())
    failed = sheet.content["failed"]
    assert failed == 2
    assert sheet.content["state"][failed] & State.FAILED
    assert "the last axis must be 5, it is 4" in sheet.content["message"]["2"]


def test_the_rows_of_two_networks_have_keys_that_tell_them_apart():
    a, b = nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())

    with nnmagic.tracing(a, b) as trace:
        a(torch.rand(2))
        b(torch.rand(2))

    sheet = sheet_of(trace.table())
    assert set(sheet.rows) == {"Sequential:", "Sequential:0", "Sequential#2:", "Sequential#2:0"}


def test_only_numbers_are_sent_where_the_rows_are_the_same():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    first, second = (sheet_of(nnmagic.trace(net, torch.rand(2, 4)).table()) for _ in range(2))
    other = sheet_of(nnmagic.trace(net, torch.rand(3, 4)).table())

    message, buffers = second.numbers()

    assert second.has_rows_of(first)
    assert not other.has_rows_of(first)
    place = message["columns"]["mean"]["first"]
    assert buffers[place] == column(second, "mean")["first"]
    assert buffers[message["state"]] == second.content["state"]


def test_a_row_of_a_large_trace_takes_less_than_200_bytes():
    net = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(300)])
    sheet = sheet_of(nnmagic.trace(net, torch.rand(1, 4)).table())

    assert size(sheet.content) / sheet.content["count"] < 200


def size(value):
    if isinstance(value, dict):
        return sum(size(key) + size(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return sum(map(size, value))
    return len(value) + 2 if isinstance(value, str | bytes) else 8


def test_parameters_stand_below_the_layers_that_hold_them():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2)))

    sheet = sheet_of(nnmagic.params(net).table())

    assert labels(sheet) == ["0", "weight", "bias", "1", "0", "weight", "bias"]
    assert numbers(sheet, "count").tolist() == [16, 12, 4, 10, 10, 8, 2]
    names = [row.record and row.record.name for row in sheet.subjects]
    assert names == [None, "0.weight", "0.bias", None, None, "1.0.weight", "1.0.bias"]


def counted(sheet):
    """How many rows a page counts, and how many of them it calls flagged."""
    others = State.GROUP | State.MANY_CALLS | State.CONTEXT
    states = [state for state in sheet.content["state"] if not state & others]
    return len(states), sum(bool(state & State.FLAGGED) for state in states)


def test_parameters_are_listed_flat_and_the_rows_that_group_them_are_not_counted():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2)))
    net[0].weight.data[0, 0] = torch.nan

    sheet = sheet_of(nnmagic.params(net).table())

    content = sheet.content
    assert (content["flat"], content["noun"], content["total"]) == (True, "parameter", 4)
    assert counted(sheet) == (4, 1)
    assert "4 parameters" in content["heading"]


def test_a_gradient_that_is_not_finite_is_flagged():
    net = nn.Linear(2, 1)
    torch.sqrt(net(torch.ones(1, 2)) * 0).sum().backward()

    sheet = sheet_of(nnmagic.params(net, grad=True).table())

    assert counted(sheet) == (2, 2)


def test_a_trace_counts_its_calls_and_not_the_rows_that_stand_for_many():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(2, 2)

        def forward(self, x):
            for _ in range(8):
                x = self.cell(x)
            return x * 0

    trace = nnmagic.trace(Loop(), torch.ones(1, 2))

    sheet = sheet_of(trace.table())

    assert sheet.content["count"] == 10
    assert counted(sheet) == (9, 1)
    assert (sheet.content["noun"], sheet.content["total"]) == ("call", 9)
    assert sheet.content["heading"].endswith("9 calls")


def test_of_a_failure_only_the_layer_that_failed_is_counted_as_flagged():
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(5, 5)))

    with pytest.raises(RuntimeError), nnmagic.tracing(net) as trace:
        net(torch.rand(1, 4))

    sheet = sheet_of(trace.table())
    assert counted(sheet) == (4, 1)
    assert sheet.content["state"][sheet.content["failed"]] & State.FLAGGED


@pytest.mark.parametrize("maker", [nnmagic.trace, nnmagic.summary, nnmagic.params])
def test_the_columns_stand_in_one_order_in_every_medium(maker):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    record = maker(net) if maker is nnmagic.params else maker(net, torch.ones(1, 3))
    table = record.table()
    html = html_of(record)

    in_page = [each["title"] for each in sheet_of(table).content["columns"]]

    extra = [each.title for each in table.columns if each.extra]
    shown = in_page[: len(in_page) - len(extra)]
    assert in_page == [*shown, *extra]
    for lines in (table_text(table), html):
        header = lines.splitlines()[1]
        places = [header.find(title) for title in shown if title in header]
        assert len(places) >= len(shown) - 2
        assert places == sorted(places)


def html_of(record):
    """The text of the HTML, a line for the heading and one for the names of the columns."""
    text = re.sub("<[^>]+>", "\n", record._repr_html_()).replace("\N{NO-BREAK SPACE}", " ")
    heading, *lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join([heading, lines[0]])


def test_a_summarys_rows_are_its_layers():
    summary = nnmagic.summary(nnmagic.default_network())

    sheet = sheet_of(summary.table())

    assert numbers(sheet, "params").tolist() == summary.to_frame()["params"].tolist()
    assert numbers(sheet, "flops").tolist() == summary.to_frame()["flops"].tolist()


def test_an_empty_trace_has_no_rows():
    with nnmagic.tracing() as trace:
        pass

    sheet = sheet_of(trace.table())

    assert sheet.content["count"] == 0
    assert "no layer ran" in sheet.content["heading"]


def test_the_fullest_bin_is_full_whatever_its_count():
    for count in range(1, 80):
        trace = nnmagic.trace(nn.Identity(), torch.tensor([0.0] * count + [1.0]))

        drawn = np.frombuffer(column(sheet_of(trace.table()), "histogram")["values"], np.uint8)

        assert drawn.max() == 255
        assert drawn[0] == 255


def test_lanes_are_the_pairs_of_rows_that_they_join_and_the_rows_that_return_what_they_got():
    class Residual(nn.Sequential):
        def forward(self, x):
            y = self[0](x)
            return self[2](self[1](self[1](y) + y))

    net, x = Residual(nn.Linear(3, 3), nn.Tanh(), nn.Identity()), torch.rand(2, 3)
    with nnmagic.tracing(ops=True) as trace:
        net(x)

    sheet = sheet_of(trace.table())

    assert numbers(sheet, "flow", form="<i4").tolist() == [-1, -1, -1, -1, -1, 4]
    assert numbers(sheet, "flow", "edges", "<u4").tolist() == [1, 2, 1, 3, 2, 3, 3, 4, 4, 5]


def test_an_error_is_sent_with_its_bound():
    cells = [RelativeError(0.4, 1e-6), RelativeError(0.0), ""]
    table = Table(
        heading="",
        title="layer",
        columns=(
            Column("error", "error", cell=lambda cell: cell),
            Column("bare", "error", cell=lambda _: 1e-7),
        ),
        rows=[Row("row", cell) for cell in cells],
    )

    sheet = sheet_of(table)

    assert numbers(sheet, "error").tolist() == pytest.approx([0.4, 0.0, np.nan], nan_ok=True)
    bounds = numbers(sheet, "error", "bounds").tolist()
    assert bounds == pytest.approx([1e-6, np.nan, np.nan], nan_ok=True)
    assert "bounds" not in column(sheet, "bare")
    assert table_text(table).splitlines()[2].split() == ["row", "━━┿━━━━╸", "0.400", "1.0e-07"]
    assert table_text(table).splitlines()[3].split() == ["row", "0", "1.0e-07"]
