"""Sums over the layers against what each layer counts alone."""

import pytest
import torch
import torchvision
from odd_layers import Owning, scaled
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_

import nnmagic
from nnmagic.network.layers import Layers
from nnmagic.structure.parameter_counts import Counts
from nnmagic.tensors.metadata import storage_bytes


def circular():
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].back = net
    return net


def tied_storage():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    net[1][0].weight = nn.Parameter(net[0].weight.data.t())
    return net


def twice():
    inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    return nn.Sequential(inner, nn.Sequential(inner), nn.Linear(4, 4))


def partly_frozen():
    net = torchvision.models.resnet18()
    net.layer1.requires_grad_(False)
    return net.half()


COUNTED = [
    nnmagic.NeuralNetwork,
    Owning,
    circular,
    tied_storage,
    twice,
    partly_frozen,
    nn.ReLU,
]


@pytest.mark.parametrize("make", COUNTED)
def test_sums_over_the_layers_are_what_each_layer_counts_alone(make):
    net = make()

    counts = Counts(Layers(net))

    for module in net.modules():
        parameters = list(module.parameters())
        assert counts.below(module) == (
            sum(p.numel() for p in parameters),
            sum(p.numel() for p in parameters if p.requires_grad),
            storage_bytes(parameters),
        )


def test_parameters_without_a_shape_are_left_out_of_the_sums():
    net = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))

    counts = Counts(Layers(net))

    assert counts.lazy
    assert counts.below(net) == (20, 20, 80)


def test_packed_subclasses_are_counted_by_the_bytes_that_they_keep():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    net[0].weight = nn.Parameter(scaled(3, 4), requires_grad=False)
    net.register_buffer("table", scaled(5, 5))

    summary, params = nnmagic.summary(net, torch.rand(2, 4)), nnmagic.params(net)

    first, last = (3 * 4 + 3 * 4) + 4 * 3, 4 * (3 * 2 + 2)
    assert [row.param_bytes for row in summary.rows] == [first + last, first, 0, last]
    assert summary.param_bytes == params.total_bytes == first + last
    assert summary.buffer_bytes == 5 * 5 + 4 * 5
    assert [row.bytes for row in params.rows] == [3 * 4 + 3 * 4, 4 * 3, 4 * 6, 4 * 2]


def test_weights_quantised_by_torchao_are_integers_and_scales():
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
    quantize_(net, Int8WeightOnlyConfig())

    summary = nnmagic.summary(net, torch.rand(2, 64))

    integers, rows = 64 * 128 + 128 * 32, 128 + 32
    assert summary.param_bytes == integers + rows * (4 + 1) + 4 * rows  # scales, zeros, biases
    assert nnmagic.params(net).total_bytes == 13_728


def test_a_buffer_in_the_storage_of_a_parameter_counts_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(10, 10))
            self.register_buffer("view", self.weight.data)
            self.register_buffer("own", torch.rand(3))

        def forward(self, x):
            return x @ self.weight

    for real in (False, True):
        net = Net()
        if real:
            net.forward = lambda x, net=net: x @ net.weight * x.sum().item()
        summary = nnmagic.summary(net, torch.rand(1, 10))
        assert (summary.engine == "real run") == real
        assert (summary.param_bytes, summary.buffer_bytes) == (400, 12)
