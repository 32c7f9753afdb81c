"""Units that are all alike, and statistics that never change, are told when a run is over."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam

import nnmagic

X, Y = torch.randn(64, 1, 6, 6), torch.arange(64) % 3
UNITS, STATISTICS = "units that are all the same", "running statistics that never change"


def network(**norm):
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8, **norm), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(8 * 16, 16), nn.ReLU(), nn.Linear(16, 3)),
    )


def found(net, *, iterations=4, optimizer=SGD, rate=0.1):
    """Return the findings of a loop by their rule: the layer and the number."""
    made = optimizer(net.parameters(), rate)
    with nnmagic.tracing() as trace:
        for _ in range(iterations):
            made.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            made.step()
    return {each.rule: (each.layer, each.number) for each in trace.findings}


def constant(net, name, value):
    nn.init.constant_(net[name].weight, value)
    return net


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_units_that_begin_alike_are_told_of_the_first_layer(optimizer):
    net = constant(constant(network(), 0, 0.1), 4, 0.02)

    assert found(net, optimizer=optimizer) == {UNITS: ("0", 8)}


@pytest.mark.parametrize(
    ("net", "rate"),
    [
        (network(), 1e-9),
        (constant(network(), 6, 0.0), 0.1),  # a last layer may begin at 0: its units have targets
        (constant(network(), 6, 0.1), 0.1),
        (constant(network(), 4, 0.1).requires_grad_(False), 0.1),
    ],
    ids=["small steps", "a last layer of zeros", "a last layer of one value", "not trained"],
)
def test_units_that_differ_are_not(net, rate):
    net[0].weight.requires_grad_()

    assert UNITS not in found(net, rate=rate)


def test_units_that_are_alike_in_two_of_many_are_not():
    net = network()
    with torch.no_grad():
        net[4].weight[1] = net[4].weight[0]

    assert UNITS not in found(net)


def test_a_batch_norm_whose_statistics_stay_is_told_with_its_momentum():
    net = network(momentum=0.0)

    assert found(net) == {STATISTICS: ("1", 1)}


@pytest.mark.parametrize(
    "norm",
    [{}, {"momentum": None}, {"track_running_stats": False}, {"momentum": 1e-6}],
    ids=["as made", "a plain mean", "without statistics", "slow"],
)
def test_a_batch_norm_whose_statistics_change_is_not(norm):
    assert found(network(**norm)) == {}


def test_a_batch_norm_in_eval_mode_is_told_as_such():
    net = network()
    net[1].eval()

    assert STATISTICS not in found(net)
