"""The one loop over a network against `named_modules()`."""

import pytest
import torch
import torchvision
from torch import nn

from nnmagic.network.layers import (
    Layers,
    layer_at,
    layers_by_every_name,
    layers_of,
    modules_of,
    named_buffers,
    named_parameters,
    set_training,
)


def shared():
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.Sequential(nn.ReLU(), layer), layer)


def with_none():
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()))
    net.register_module("none", None)
    return net


def circular():
    net = nn.Sequential(nn.ReLU())
    net[0].back = net
    return net


NETWORKS = [
    nn.ReLU,
    torchvision.models.resnet18,
    lambda: torchvision.models.swin_t(),
    shared,
    with_none,
    circular,
]


@pytest.mark.parametrize("make", NETWORKS)
def test_layers_are_named_as_torch_names_them(make):
    net = make()

    assert list(layers_of(net).items()) == list(net.named_modules())
    assert modules_of(net) == list(net.modules())
    assert all(layer_at(net, name) is net.get_submodule(name) for name in layers_of(net))


@pytest.mark.parametrize("make", NETWORKS)
def test_parameters_and_buffers_are_named_as_torch_names_them(make):
    net = make()

    same(named_parameters(net), dict(net.named_parameters()))
    same(named_buffers(net), dict(net.named_buffers()))
    if make is not circular:  # torch would go round for ever
        same(named_parameters(net, once=False), dict(net.named_parameters(remove_duplicate=False)))
        layers = dict(net.named_modules(remove_duplicate=False))
        assert list(layers_by_every_name(net).items()) == list(layers.items())


def same(found, expected):
    assert list(found) == list(expected)
    assert all(found[name] is expected[name] for name in found)


def test_a_layer_that_is_not_there_is_none():
    net = nn.Sequential(nn.Sequential(nn.ReLU()))

    assert layer_at(net, "0.0") is net[0][0]
    assert layer_at(net, "0.1") is layer_at(net, "1.0") is layer_at(net, "training") is None


def test_a_mode_is_set_without_code_of_the_network():
    class Merging(nn.Linear):
        def train(self, mode=True):
            raise AssertionError

    net = nn.Sequential(Merging(2, 2), nn.BatchNorm1d(2))

    set_training(net, training=False)

    assert not any(module.training for module in net.modules())


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_the_layers_of_a_script_are_named_as_torch_names_them():
    script = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))

    assert list(layers_of(script)) == [name for name, _ in script.named_modules()]


def test_attributes_that_may_hold_something_are_the_layers_own():
    layer = nn.Conv2d(3, 4, 3)
    layer.cache = {"last": torch.ones(2)}
    layer.pairs, layer.steps = (1, (2, 3)), [1, 2]
    layer.text = "a"

    (own,) = Layers(layer).own

    assert set(own) == {"cache", "pairs", "steps"}
