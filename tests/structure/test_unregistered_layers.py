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


class MadeAnew(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.fc, self.make = nn.Linear(8, 8), make

    def forward(self, x):
        return self.make()(self.fc(x))


OUTSIDE = nn.Linear(8, 3)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: nn.Linear(8, 3), [("Linear", 27)]),
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU()), [("Sequential", 36)]),
        (lambda: lambda x: [nn.LayerNorm(8)(x) for _ in range(3)][-1], [("LayerNorm", 16)]),
        (lambda: lambda x: nn.GRU(8, 2)(nn.Linear(8, 8)(x))[0], [("Linear", 72), ("GRU", 72)]),
        (nn.Tanh, []),
        (lambda: OUTSIDE, []),
    ],
)
def test_layers_made_in_a_forward_are_told_and_those_that_are_held_are_not(
    session, make, told, real
):
    session.shell.user_ns.update(net=MadeAnew(make), x=torch.rand(4, 8))

    summary = session.run(f"%nnsummary net(x) {'--real' if real else ''}")

    found = lines(summary)
    assert len(found) == len(told)
    for (kind, size), line in zip(told, found, strict=True):
        assert f"a {kind} is made anew" in line
        assert f"its {size} parameters" in line


class AddedLate(nn.Module):
    def forward(self, x):
        if not hasattr(self, "fc"):
            self.fc = nn.Linear(x.shape[-1], 3)
        return self.fc(x)


@pytest.mark.parametrize(
    ("make", "layer", "parameters"),
    [
        (lambda: MadeAnew(lambda: nn.Linear(8, 3)), "(Linear)", 27),
        (lambda: MadeAnew(lambda: lambda x: nn.GRU(8, 2)(x)[0]), "(GRU)", 72),
        (lambda: MadeAnew(lambda: OUTSIDE), "(Linear)", 27),
        (AddedLate, "fc", 27),
    ],
)
def test_layers_that_the_network_does_not_hold_show_their_own_parameters(make, layer, parameters):
    net = make()

    summary = nnmagic.summary(net, torch.rand(4, 8))

    (row,) = (row for row in summary.rows if row.layer == layer)
    assert (row.params, row.own_params) == (parameters, 0)
    assert row.config
    assert summary.total_params == sum(p.numel() for p in net.parameters())
