import numpy as np
import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.records.kept_slices import PICTURE_VALUES, grid_of
from nnmagic.tensors import devices
from nnmagic.tensors.pictures import SCREEN_VALUES


@pytest.fixture(params=["host", "device"])
def place(request, monkeypatch):
    """The host, or the tensors of the CPU taken for those of a device."""
    if request.param == "device":
        monkeypatch.setattr(devices, "on_accelerator", lambda tensor: not tensor.is_meta)
    return request.param


def shown(trace, name, side="outputs", nth=-1):
    (record,) = getattr(trace.calls(name)[nth], side)
    return record


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_a_tensor_of_16384_values_is_kept_whole_until_the_next_iteration(place, dtype):
    net = nn.Sequential(nn.Identity(), nn.ReLU())
    inputs = [torch.randint(-9, 9, (128, 128)).to(dtype) for _ in range(2)]

    with nnmagic.tracing(net) as trace:
        for x in inputs:
            net(x)

    values = [shown(trace, "1", nth=nth).whole for nth in (0, 1)]
    assert values[0] is None
    assert torch.equal(torch.tensor(values[1].tolist(), dtype=dtype), inputs[1].relu())
    assert shown(trace, "1", nth=0).spread.numel < 1100


def test_what_a_network_gets_and_returns_is_drawn_as_large_as_a_screen(place):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))
    x = torch.rand(2, 3, 300, 310)

    trace = nnmagic.trace(net, x)

    y = trace.output.detach()
    assert torch.equal(torch.tensor(shown(trace, "", "inputs").whole.tolist()), x)
    assert torch.equal(torch.tensor(shown(trace, "").whole.tolist()), y)
    assert shown(trace, "0").picture.steps == (1, 1, 5, 5)


def test_a_very_large_input_is_drawn_with_equal_steps(place):
    x = torch.rand(3, 3, 1000, 1200)

    picture = shown(nnmagic.trace(nn.Identity(), x), "", "inputs").picture

    assert picture.steps == (1, 1, 2, 2)
    assert SCREEN_VALUES / 2 < picture.sample.numel <= SCREEN_VALUES
    assert torch.equal(torch.tensor(picture.sample.tolist()), x[:1, :, ::2, ::2])


@pytest.mark.parametrize(
    ("shape", "sizes", "steps"),
    [
        ((1, 64, 112, 112), (1, 16, 28, 28), (1, 1, 4, 4)),
        ((8, 64, 28, 28), (1, 20, 28, 28), (1, 1, 1, 1)),
        ((1, 512, 7, 7), (1, 334, 7, 7), (1, 1, 1, 1)),
        ((64, 3, 32, 32), (5, 3, 32, 32), (1, 1, 1, 1)),
        ((64, 512), (32, 256), (2, 2)),
        ((2, 90_000), (2, 8182), (1, 11)),
        ((100_000,), (14_286,), (7,)),
        ((128, 128), (128, 128), (1, 1)),
    ],
)
def test_a_picture_shows_maps_whole_or_with_equal_steps(shape, sizes, steps):
    assert grid_of(shape, PICTURE_VALUES) == (sizes, steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_nan_and_inf_between_the_sampled_values_are_seen_in_the_picture(dtype):
    net = nn.Sequential(nn.Identity(), nn.Flatten(2))
    x = torch.rand(1, 16, 290, 290).to(dtype)
    x[0, 3, 3, 5], x[0, 7, 9, 9], x[0, 15, 289, 289] = torch.nan, torch.inf, -torch.inf

    trace = nnmagic.trace(net, x)

    for record in (shown(trace, "", "inputs"), shown(trace, "0")):  # one is drawn larger
        values = record.picture.sample.real_array()
        rows, columns = record.picture.steps[2:]
        assert rows > 1
        assert (record.nan, record.inf) == (1, 2)
        assert np.isnan(values[0, 3, 3 // rows, 5 // columns])
        assert np.isposinf(values[0, 7, 9 // rows, 9 // columns])
        assert np.isinf(values[0, 15, -1, -1])
        assert np.isfinite(values).sum() == values.size - 3


@pytest.mark.parametrize("keep", ["none", "all"])
def test_what_is_kept_is_what_was_asked_for(keep, place):
    x = torch.rand(40, 500)

    record = shown(kept(x, keep), "")

    assert record.picture is None
    assert (record.whole is not None) == (keep == "all")


def kept(x, keep):
    with nnmagic.tracing(keep=keep) as trace:
        nn.Identity()(x)
    return trace
