"""Which calls of a run are rows of its table: by depth, pattern, repetition and number."""

import time

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.table import State


def labels(trace, *, text=True):
    return [row.label for row in trace.drawn(text=text).rows]


class Deep(nn.Module):
    def __init__(self, levels, last):
        super().__init__()
        self.inner = Deep(levels - 1, last) if levels else last

    def forward(self, x):
        return self.inner(x)


def test_text_shows_three_levels_and_says_how_to_see_the_rest():
    trace = nnmagic.trace(Deep(5, nn.Identity()), torch.ones(1))

    assert labels(trace) == ["Deep", "inner", "inner", "inner"]
    assert "3 rows below level 3 not shown; see them with --depth 6" in str(trace)
    assert len(labels(trace.show(depth=6))) == 7
    assert len(labels(trace.show(depth=1))) == 2
    assert len(labels(trace, text=False)) == 7


def test_a_flagged_call_is_shown_however_deep():
    trace = nnmagic.trace(Deep(5, nn.ReLU()), -torch.ones(1))

    assert len(labels(trace)) == 7


def test_layers_can_be_chosen_by_patterns():
    net = nn.Sequential(nn.Sequential(nn.Tanh(), nn.Identity()), nn.Tanh())
    trace = nnmagic.trace(net, torch.ones(2))

    table = trace.show(layers="0.*").drawn(text=True)

    assert [(row.label, bool(row.state & State.DIMMED)) for row in table.rows] == [
        ("Sequential", True),
        ("0", True),
        ("0", False),
        ("1", False),
    ]
    assert "no layer matches x y" in str(trace.show(layers=("x", "y")))


class Looping(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.cell = nn.Sequential(nn.Tanh())
        self.times = times

    def forward(self, x):
        for _ in range(self.times):
            x = self.cell(x)
        return x


def test_a_layer_called_more_than_five_times_is_one_row_with_its_calls_inside():
    few, many = (nnmagic.trace(Looping(times), torch.ones(2)) for times in (5, 6))

    assert labels(few) == ["Looping"] + ["cell", "0"] * 5
    assert labels(many) == ["Looping", "cell × 6"]
    assert labels(many, text=False) == ["Looping", "cell × 6"] + ["cell", "0"] * 6
    assert "the last of 6 calls" in str(many)
    assert len(many.to_frame()) == 13


def test_one_iteration_is_shown_and_their_number_said():
    net = nn.Linear(2, 2)
    with nnmagic.tracing(net) as trace:
        for n in (1, 2, 3):
            net(torch.rand(n, 2))

    assert "iteration 2 of 3" in str(trace)
    assert "(3, 2)" in str(trace)
    assert "(1, 2)" in str(trace.show(step=0))
    assert "Linear has no iteration 9: 0, 1, 2 were recorded, the last is shown" in str(
        trace.show(step=9)
    )


def test_a_large_trace_draws_five_hundred_rows_and_says_so():
    net = nn.Sequential(*[nn.Sequential(nn.Tanh()) for _ in range(1000)])

    trace = nnmagic.trace(net, torch.ones(2))

    assert len(trace.drawn(text=False).rows) == 500
    assert "1,501 of 2,001 rows not shown" in trace._repr_html_()
    assert trace._repr_html_().count("<summary") == 501


def test_flagged_calls_come_before_others_in_a_large_trace():
    net = nn.Sequential(*[nn.Tanh() for _ in range(900)], Deep(3, nn.ReLU()))

    found = labels(nnmagic.trace(net, -torch.ones(1)), text=False)

    assert found[-5:] == ["900", "inner", "inner", "inner", "inner"]


@pytest.mark.slow
def test_a_record_of_twenty_thousand_calls_is_drawn_at_once():
    net = nn.Sequential(*[nn.Sequential(nn.Tanh(), nn.Tanh()) for _ in range(6667)])
    trace = nnmagic.trace(net, torch.ones(2))
    assert len(trace) > 20_000

    begun = time.process_time()
    trace._repr_html_(), str(trace)

    assert (
        time.process_time() - begun < 10
    )  # it takes a tenth of a second; a quadratic way, minutes
