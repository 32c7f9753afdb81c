import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

import nnmagic
from nnmagic.widget.axes import Axes
from nnmagic.widget.pictures import kind_of, limits, photo_limits, photos_of


@given(arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32)))
def test_limits_hold_nearly_all_values_and_are_centred_where_signs_differ(values):
    low, high, diverging = limits(values)

    assert low < high
    assert diverging == bool(values.min() < 0 < values.max())
    if diverging:
        assert low == -high
    slack = 1e-6 * max(abs(low), abs(high))
    inside = (values >= low - slack) & (values <= high + slack)
    assert inside.mean() >= 0.995


def kind_of_input(net, x):
    trace = nnmagic.trace(net, x)
    tensor = trace.log.inputs[0][0]
    axes = Axes(trace.log, 0).of(tensor)
    return kind_of(trace.call(0).inputs[0], axes, photo=tensor in photos_of(trace.log, 0))


@pytest.mark.parametrize(
    ("net", "x", "kind"),
    [
        (nn.Conv2d(3, 4, 3), torch.rand(2, 3, 20, 20), "rgb"),
        (nn.Conv2d(3, 4, 3), torch.rand(3, 20, 20), "rgb"),
        (nn.Conv2d(3, 4, 3), 255 * torch.rand(2, 3, 20, 20), "rgb"),
        (nn.Conv2d(3, 4, 3), 1000 * torch.rand(2, 3, 20, 20), "channels"),
        (nn.Conv2d(1, 4, 3), torch.rand(2, 1, 20, 20), "grey"),
        (nn.Flatten(), torch.rand(1, 28, 28), "grey"),
        (nn.Conv2d(5, 4, 3), torch.rand(2, 5, 20, 20), "channels"),
        (nn.Linear(20, 4), torch.rand(3, 20), "matrix"),
        (nn.Identity(), torch.rand(3, 20) > 0.5, "mask"),
        (nn.Embedding(9, 4), torch.randint(9, (3, 20)), "written"),
        (nn.Identity(), torch.tensor(1.5), "number"),
        (nn.Identity(), torch.full((9, 9), 1.5), "constant"),
        (nn.Identity(), torch.rand(4, 1), "written"),
    ],
)
def test_an_input_is_drawn_for_what_it_is(net, x, kind):
    assert kind_of_input(net, x) == kind


def test_maps_within_a_network_are_no_photographs_but_what_it_makes_is():
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Tanh())

    log = nnmagic.trace(net, torch.rand(1, 3, 20, 20)).log

    x, first, second, made = (log.inputs[0][0], *(log.outputs[call][0] for call in (1, 2, 3)))
    assert {x, made} == photos_of(log, 2)
    assert not {first, second} & photos_of(log, 2)


def test_black_and_white_are_the_ends_of_the_format():
    assert photo_limits(0.2, 0.7) == (0, 1)
    assert photo_limits(0, 200) == (0, 255)
    assert photo_limits(-2.1, 2.6) == (-2.1, 2.6)
    assert photo_limits(-50, 50) is None
