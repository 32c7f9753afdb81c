import torch
from torch import nn

import nnmagic
from nnmagic.display.histogram_glyphs import histogram_glyphs
from nnmagic.display.sheet import sheet_of
from nnmagic.display.table import TensorShape
from nnmagic.display.text import table_text


def test_a_dtype_that_differs_from_the_others_is_shown():
    class Choosing(nn.Module):
        def forward(self, x):
            return x.argmax(-1)

    trace = nnmagic.trace(
        nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), Choosing()), torch.rand(3, 2)
    )

    table = trace.table()
    shapes = dict(zip([row.label for row in table.rows], table.cells("shape"), strict=True))
    assert shapes["3"] == TensorShape((3,), "int64")
    assert shapes["0"] == TensorShape((3, 2))
    assert "(3,) int64" in str(trace)


def test_integers_too_large_for_a_float64_have_no_false_digits():
    trace = nnmagic.trace(nn.Identity(), torch.tensor([2**62 + 1, -5]))

    text = table_text(trace.table())

    assert "-5.00e+00 … 4.61e+18" in text
    assert "4,611" not in text


def test_a_row_of_a_loop_has_the_trend_of_its_mean_over_the_iterations():
    net = nn.Sequential(nn.Identity())
    with nnmagic.tracing(net) as loop:
        for i in range(19):
            net(torch.full((2,), float(i)))
    once = nnmagic.trace(net, torch.ones(2))

    (root, layer) = loop.table().cells("trend")

    assert root == layer
    assert layer.counts == (1, 12, 23, 34, 45, 56, 67, 78, 89, 100)
    assert layer.zero is None
    assert "trend" not in {column.key for column in once.table().columns}
    text = table_text(loop.table())
    assert "▁▁▂▃▄▄▅▆▇█" in text
    assert "▁▁▂▃▄▄▅▆▇█" in loop._repr_html_()
    width = max(map(len, text.splitlines()[1:4]))
    assert "no room" not in table_text(loop.table(), width + 1)
    assert " no room for: histogram\n" in table_text(loop.table(), width - 1)


def test_the_trend_of_what_stays_the_same_is_half_as_high_in_all_iterations():
    net = nn.Identity()
    with nnmagic.tracing(net) as loop:
        for _ in range(12):
            net(torch.full((2,), 0.3))

    (layer,) = loop.table().cells("trend")

    assert histogram_glyphs(layer).strip() == 10 * "▄"
    assert {*sheet_of(loop.table()).content["columns"][-2]["values"]} == {128}


def test_the_ends_of_integers_and_truth_values_are_whole_numbers():
    class Largest(nn.Module):
        def forward(self, x):
            return x.argmax(-1)

    class Mask(nn.Module):
        def forward(self, x):
            return x > 0

    x = torch.arange(6000.0).reshape(2, 3000)
    trace = nnmagic.trace(nn.Sequential(Largest(), Mask()), x)

    _, largest, mask = trace.table().cells("range")

    assert largest == (2999, 2999)
    assert mask == (1, 1)
    assert "2,999 … 2,999" in str(trace)
    assert "1 …     1" in str(trace)
    texts = next(
        c["texts"] for c in sheet_of(trace.table()).content["columns"] if c["key"] == "range"
    )
    assert texts["1"] == "2,999 … 2,999"
