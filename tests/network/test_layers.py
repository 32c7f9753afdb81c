"""The one loop over a network against `named_modules()`."""

import pytest
import torch
import torchvision
from torch import nn

from nnmagic.network.layers import Layers, layers_of


class Naming(nn.Module):
    """Names its own modules."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        yield prefix, self
        yield f"{prefix}.another" if prefix else "another", self.inner


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


def named_by_its_own():
    net = nn.Sequential(nn.ReLU(), nn.ReLU())
    net[1].named_modules = lambda memo, prefix, remove_duplicate: iter([(f"{prefix}!", net[1])])
    return net


NETWORKS = [
    nn.ReLU,
    torchvision.models.resnet18,
    lambda: torchvision.models.swin_t(),
    shared,
    with_none,
    circular,
    Naming,
    lambda: nn.Sequential(nn.ReLU(), Naming()),
    named_by_its_own,
]


@pytest.mark.parametrize("make", NETWORKS)
def test_layers_are_named_as_torch_names_them(make):
    net = make()

    assert list(layers_of(net).items()) == list(net.named_modules())


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
