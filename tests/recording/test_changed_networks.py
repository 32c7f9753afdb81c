"""Whether the network that ran is still what it was: steps of optimizers, and other writes."""

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

import nnmagic


def test_what_a_training_run_changed_is_said():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    found = nnmagic.trace(net, torch.rand(3, 4))

    assert "the run changed 3 batch-norm statistics (train mode)" in str(found)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "foreach adam": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_stepped_is_no_unchanged_network(name):
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = OPTIMIZERS[name](net.parameters())

    with nnmagic.tracing(net) as found:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.rand(5, 3)).sum().backward()
            optimizer.step()

    assert "the run changed 4 of its tensors: 0.weight" in str(found)
    assert not optimizer_step_hooks()


def test_a_step_that_touches_few_values_counts_too():
    net = nn.Embedding(50_000, 4)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    with nnmagic.tracing(net) as found:
        net(torch.tensor([7])).sum().backward()
        optimizer.step()

    assert "the run changed 1 of its tensors: weight" in str(found)


def test_parameters_without_a_gradient_are_not_stepped():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    with nnmagic.tracing(net) as found:
        net(torch.rand(5, 3)).sum().backward()
        optimizer.step()

    assert "the run changed 2 of its tensors: 1.weight, 1.bias" in str(found)


def optimizer_step_hooks():
    return _global_optimizer_pre_hooks


def test_no_hook_is_left_on_the_optimizers_after_an_interrupt():
    with pytest.raises(KeyboardInterrupt), nnmagic.tracing():
        raise KeyboardInterrupt

    assert not optimizer_step_hooks()


CHANGED_BEFORE = [
    lambda net: net[0].weight.data.zero_(),
    lambda net: net[0].weight.detach().numpy().fill(0),
    lambda net: net[0].load_state_dict(nn.Linear(3, 4).state_dict()),
    lambda net: setattr(net[0], "weight", nn.Parameter(torch.zeros(4, 3))),
]


@pytest.mark.parametrize("change", CHANGED_BEFORE)
def test_a_weight_that_is_changed_before_the_first_call_counts(change):
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

    with torch.no_grad(), nnmagic.tracing(net) as found:
        change(net)
        net(torch.rand(5, 3))

    assert "of its tensors: 0.weight" in str(found)


def test_a_network_that_nobody_named_is_compared_since_its_first_call():
    net = nn.Linear(3, 4)

    with nnmagic.tracing() as found:
        net(torch.rand(5, 3))

    assert "network unchanged since the first call" in str(found)
    assert "network unchanged" in nnmagic.trace(net, torch.rand(5, 3)).log.notes
