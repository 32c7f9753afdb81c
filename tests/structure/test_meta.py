import copy

import pytest
import torch
from torch import nn

from nnmagic.structure.meta import is_for_want_of_values, networks_on_meta, on_meta


class Remembering(nn.Module):
    """Stores things on itself, holds a tensor that is no buffer, ties a weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.offset = torch.ones(3)
        self.calls = 0
        self.seen = []

    def forward(self, x):
        self.calls += 1
        self.last = x
        self.seen.append(x)
        noise = torch.rand(3)
        return self.second(self.first(x + self.offset)) + noise


class Reading(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


def test_a_network_runs_on_meta_and_nothing_is_left_on_it():
    net = Remembering()
    before = copy.deepcopy(net)
    weight = net.first.weight
    random_state = torch.get_rng_state()

    with networks_on_meta(net):
        assert net.first.weight is net.second.weight
        out = net(torch.rand(2, 3, device="meta"))

    assert (out.device.type, out.shape) == ("meta", (2, 3))
    assert net.first.weight is weight is net.second.weight
    assert (net.calls, net.seen, hasattr(net, "last")) == (0, [], False)
    assert torch.equal(net.offset, before.offset)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_recurrent_layers_run_on_meta():
    net = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    expected = [
        tensor.shape for tensor in torch.utils._pytree.tree_leaves(net(torch.rand(5, 1, 3)))
    ]

    with networks_on_meta(net):
        found = net(torch.empty(5, 1, 3, device="meta"))

    assert [tensor.shape for tensor in torch.utils._pytree.tree_leaves(found)] == expected
    net(torch.rand(5, 1, 3))


def test_reading_a_value_is_told_apart_from_other_errors():
    with pytest.raises(RuntimeError) as reading, networks_on_meta(net := Reading()):
        net(torch.rand(2, device="meta"))
    with pytest.raises(RuntimeError) as mismatch, networks_on_meta(linear := nn.Linear(3, 3)):
        linear(torch.rand(1, 4, device="meta"))

    assert is_for_want_of_values(reading.value)
    assert not is_for_want_of_values(mismatch.value)


def test_a_lazy_network_stays_lazy():
    net = nn.Sequential(nn.LazyLinear(4), nn.ReLU())

    with networks_on_meta(net):
        assert net(torch.rand(2, 7, device="meta")).shape == (2, 4)

    assert type(net[0]) is nn.LazyLinear
    assert isinstance(net[0].weight, nn.UninitializedParameter)
    assert net(torch.rand(2, 5)).shape == (2, 4)


def test_arguments_go_to_meta_with_their_nesting():
    value = {"x": torch.rand(2, 3, dtype=torch.float64), "n": 3, "pair": (torch.ones(1), None)}

    found = on_meta(value)

    assert found["x"].is_meta
    assert (found["x"].dtype, found["x"].shape) == (torch.float64, (2, 3))
    assert found["n"] == 3
    assert found["pair"][0].is_meta
