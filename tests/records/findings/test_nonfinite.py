"""Where NaN and Inf came from, in every display."""

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.sheet import sheet_of


class Log(nn.Module):
    def forward(self, x):
        return torch.log(x)


class Half(nn.Module):
    def forward(self, x):
        return x * 4


def first_note(trace, start="first"):
    """Return the line, which text, HTML and the widget all have."""
    table = trace.drawn(text=True)
    (note,) = [each for each in table.notes if each.startswith(start)]
    assert note in trace.drawn(text=False).notes
    assert note in sheet_of(trace.table()).content["notes"]
    return note


def test_the_first_nan_is_told_with_its_layer_its_inputs_and_the_code():
    net = nn.Sequential(nn.Identity(), Log())

    with nnmagic.tracing() as trace:
        net(torch.tensor([-2.0, 3.1]))

    assert first_note(trace).startswith(
        "first NaN: Sequential.1 (Log), from finite inputs in [-2.000, 3.100], "
        "in its own code: --ops shows where, called at test_nonfinite.py:"
    )
    assert trace.first_nonfinite.layer == "1"


@pytest.mark.parametrize(
    ("function", "value", "says"),
    [
        (torch.log, -2.0, "log of values down to -2.000"),
        (torch.log, 0.0, "log of zero"),
        (torch.sqrt, -1.0, "sqrt of values down to -1.000"),
        (torch.exp, 200.0, "exp of values up to 200.000"),
        (lambda x: (x + 1) / x, 0.0, "division by zero"),
        (lambda x: 1 / x, 0.0, "division by zero"),
    ],
)
def test_the_operation_is_named_where_functions_are_recorded(function, value, says):
    class Net(nn.Module):
        def forward(self, x):
            return function(x)

    with nnmagic.tracing(ops=True) as trace:
        Net()(torch.full((2,), value))

    flags = trace.table().cells("flags")
    assert any(flag.endswith(f"made here: {says}") for flag in flags)


def test_inf_of_half_precision_is_told_as_such():
    trace = nnmagic.trace(Half(), torch.full((2,), 30_000.0, dtype=torch.float16))

    assert first_note(trace).startswith(
        "first Inf: Half (Half), beyond the 65,504 of float16, "
        "from finite inputs in [30000.0, 30000.0]"
    )


def test_a_parameter_that_was_nan_is_named_as_the_origin():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight[0] = float("nan")

    trace = nnmagic.trace(net, torch.ones(1, 3))

    assert first_note(trace).startswith(
        "first NaN: Sequential.0 (Linear), its parameter weight holds 3 NaN, "
    )
    assert "1 NaN, made here: its parameter weight holds 3 NaN" in str(trace)


def test_a_buffer_that_was_inf_is_named_as_the_origin():
    net = nn.Sequential(nn.BatchNorm1d(3)).eval()
    net[0].running_mean[1] = float("inf")

    note = first_note(nnmagic.trace(net, torch.ones(2, 3)))

    assert note.startswith("first Inf: Sequential.0 (BatchNorm1d), its buffer running_mean holds")


def test_a_parameter_inside_a_layer_that_runs_as_one_is_found():
    net = nn.MultiheadAttention(4, 1)
    with torch.no_grad():
        net.out_proj.weight[0, 0] = float("nan")
    x = torch.ones(2, 1, 4)

    note = first_note(nnmagic.trace(net, x, x, x))

    assert "its parameter out_proj.weight holds 1 NaN" in note


def test_nan_in_the_networks_input_is_named_as_the_origin():
    net = nn.Sequential(nn.ReLU(), nn.ReLU())

    trace = nnmagic.trace(net, torch.tensor([1.0, float("nan"), float("inf")]))

    assert trace.first_nonfinite is None
    says = "the input of Sequential held 1 NaN and 1 Inf already"
    assert first_note(trace, "the input") == says
    assert "NaN or Inf came in" in trace.drawn(text=True).heading


def test_nan_that_another_network_made_is_not_told_as_an_input():
    first, second = Log(), nn.ReLU()

    with nnmagic.tracing() as trace:
        second(first(-torch.ones(2)))

    assert [note for note in trace.drawn(text=True).notes if "already" in note] == []
    assert trace.first_nonfinite.type == "Log"


def test_nan_that_arises_between_the_layers_is_placed_there():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.ReLU(), nn.Linear(2, 2)

        def forward(self, x):
            return self.b(torch.log(self.a(x) - 1))

    class Last(Net):
        def forward(self, x):
            return torch.log(self.a(x) - 1)

    before, after = nnmagic.trace(Net(), torch.zeros(1, 2)), nnmagic.trace(Last(), torch.zeros(2))

    assert "in its own code before it calls b at test_nonfinite.py:" in first_note(before)
    assert "in its own code after it called a: --ops shows where, " in first_note(after)
    assert before.first_nonfinite.layer == ""


def test_a_mask_of_minus_infinity_is_no_origin():
    attention = nn.MultiheadAttention(4, 1).train()
    x, mask = torch.rand(3, 1, 4), torch.full((3, 3), float("-inf")).triu(1)

    trace = nnmagic.trace(attention, x, x, x, attn_mask=mask)

    assert trace.first_nonfinite is None
    assert [note for note in trace.drawn(text=True).notes if "Inf" in note] == []


def test_the_html_has_the_line_too():
    html = nnmagic.trace(Log(), -torch.ones(2))._repr_html_()

    assert "first NaN: Log (Log), from finite inputs in [-1.000, -1.000]" in html
