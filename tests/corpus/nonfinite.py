"""What makes NaN and Inf."""

from math import inf, nan

import torch
from torch import nn

from corpus.case import Net, case, names


def _producer(name, function, x, **stats):
    def make():
        act = Net(lambda net, x: function(x))
        return names(net=nn.Sequential(nn.Identity(), act, nn.Identity()), x=torch.tensor(x))

    make.__name__ = name
    case(
        layers=("Sequential", "  0 Identity", "  1 Net", "  2 Identity"),
        input=(len(x),),
        output=(len(x),),
        nonfinite="1",
        said=("made here", "inherited"),
        stats={"1": stats, "2": stats},
    )(make)


_producer("a_log_of_negative_values", torch.log, [-2.0, 1.0], nan=1, inf=0, mean=0.0)
_producer("a_root_of_negative_values", torch.sqrt, [-2.0, 4.0], nan=1, inf=0, mean=2.0)
_producer("a_division_by_zero", lambda x: 1 / x, [0.0, 4.0], nan=0, inf=1, mean=0.25)
_producer("zero_by_zero", lambda x: x / 0, [0.0, 4.0], nan=1, inf=1, mean=None)
_producer("an_overflow_of_exp", torch.exp, [100.0, 0.0], nan=0, inf=1, mean=1.0)
_producer(
    "an_overflow_of_half_precision", lambda x: x.half(), [1e6, 1.0], nan=0, inf=1, dtype="float16"
)


@case(
    layers=("Sequential", "  0 Net", "  1 Softmax"),
    input=(2, 2),
    output=(2, 2),
    nonfinite="1",
    said=("2 NaN, made here: of a row that is all -Inf", "made inside"),
    stats={"0": {"inf": 2, "nan": 0}, "1": {"nan": 2}},
)
def a_softmax_of_a_row_that_a_layer_masks():
    def mask(net, x):
        return x.masked_fill(torch.tensor([[True, True], [False, False]]), -inf)

    return names(net=nn.Sequential(Net(mask), nn.Softmax(-1)), x=torch.rand(2, 2))


@case(
    layers=("Softmax",),
    input=(2, 2),
    output=(2, 2),
    nonfinite="",
    stats={"": {"nan": 2, "mean": 0.5}},
)
def a_softmax_of_a_masked_row():
    return names(net=nn.Softmax(-1), x=torch.tensor([[-inf, -inf], [1.0, 1.0]]))


@case(
    params=2 * 3 + 3,
    layers=("Linear",),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    nonfinite=None,
    stats={"": {"nan": 4 * 3}},
)
def an_input_that_was_nan_before():
    return names(net=nn.Linear(2, 3), x=torch.full((4, 2), nan))


@case(
    params=2 * 3 + 3,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    nonfinite="0",
    stats={"0": {"nan": 4}},
)
def a_parameter_that_was_nan_before():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight[1, 0] = nan
    return names(net=net, x=torch.rand(4, 2))
