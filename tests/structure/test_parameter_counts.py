"""Sums over the layers against what each layer counts alone."""

import pytest
import torchvision
from odd_layers import Owning
from torch import nn

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
