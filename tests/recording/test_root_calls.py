import gc

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.recording.root_calls import GoneError


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, *, mask=None, scale=1.0):
        return self.linear(x) * mask * scale


def arguments(trace, main=None):
    return trace.root.main().arguments(trace.log, main)


def test_a_call_is_made_again_with_the_very_arguments_that_live():
    net, x, mask = Masked(), torch.rand(2, 4), torch.ones(4)

    trace = nnmagic.trace(net, x, mask=mask, scale=2.0)

    args, kwargs = arguments(trace)
    assert args[0] is x
    assert kwargs["mask"] is mask
    assert kwargs["scale"] == 2.0


def test_small_arguments_that_are_gone_or_changed_have_the_values_they_had():
    net, mask = Masked(), torch.ones(4)
    x = torch.rand(2, 4)
    before = x.clone()

    trace = nnmagic.trace(net, x, mask=mask)
    x.zero_()
    del mask
    gc.collect()

    args, kwargs = arguments(trace)
    assert torch.equal(args[0], before)
    assert torch.equal(kwargs["mask"], torch.ones(4))


def test_a_large_argument_that_is_gone_is_said_to_be_gone():
    trace = nnmagic.trace(nn.ReLU(), torch.rand(100, 20_000))

    with pytest.raises(GoneError, match=r"the input \(100, 20000\) is gone"):
        arguments(trace)
    (main,), _ = arguments(trace, torch.zeros(1, 100))
    assert main.shape == (1, 100)


def test_an_argument_of_a_foreign_type_is_named():
    class Config:
        pass

    class Net(nn.Module):
        def forward(self, x, config):
            return x

    trace = nnmagic.trace(Net(), torch.rand(3), Config())

    with pytest.raises(GoneError, match="a Config, was not recorded"):
        arguments(trace)


def test_the_root_is_the_network_with_the_most_calls():
    net, loss = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.MSELoss()

    with nnmagic.tracing() as trace:
        loss(net(torch.rand(1, 4)), torch.rand(1, 4))

    assert trace.root() is net
