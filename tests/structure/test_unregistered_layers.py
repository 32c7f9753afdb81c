"""A summary tells of layers and parameters that no optimizer will see."""

import pytest
import torch
import torchvision
from torch import nn

import nnmagic


class Listed(nn.Module):
    def __init__(self, container):
        super().__init__()
        self.layers = container([nn.Linear(8, 16), nn.Linear(16, 3)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Cast(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.scale = nn.Linear(8, 3), nn.Parameter(torch.ones(3)).double()

    def forward(self, x):
        return self.fc(x) * self.scale


def lines(summary):
    return [note for note in summary.notes if "no optimizer" in note]


@pytest.mark.parametrize("container", [list, tuple])
@pytest.mark.parametrize("real", [False, True])
def test_layers_in_a_plain_container_are_told_with_their_parameters(session, container, real):
    session.shell.user_ns.update(net=Listed(container), x=torch.rand(4, 8))

    summary = session.run(f"%nnsummary net(x) {'--real' if real else ''}")

    kind = container.__name__
    assert lines(summary) == [
        f"layers.{i} is not registered (a plain {kind}): no optimizer will see its {size} "
        f"parameters; use nn.ModuleList"
        for i, size in ((0, 144), (1, 51))
    ]
    assert lines(nnmagic.summary(Listed(nn.ModuleList), torch.rand(4, 8))) == []


def test_a_parameter_that_became_a_tensor_is_told():
    (line,) = lines(nnmagic.summary(Cast(), torch.rand(4, 8)))

    assert line.startswith("scale is a tensor that was made of an nn.Parameter")
    assert "its 3 parameters" in line


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "googlenet"])
def test_networks_in_order_raise_no_alarm(name):
    net = getattr(torchvision.models, name)(weights=None)

    assert lines(nnmagic.summary(net, torch.rand(2, 3, 224, 224))) == []
