"""What is wrong with a loop that trains is told."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from learning.healthy import scheduled, train, validated
from learning.healthy_networks import X, Y, network
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import _global_optimizer_post_hooks

import nnmagic
from nnmagic.display.table import State


def found(run):
    """Return the findings of a block, all of which the display tells."""
    torch.manual_seed(0)
    with warnings.catch_warnings(), nnmagic.tracing() as trace:
        warnings.simplefilter("ignore")
        run()
    assert all(each.text in trace.table().notes for each in trace.findings)
    return trace.findings


class Two(nn.Module):
    """An encoder and a head, with something done between them."""

    def __init__(self, between=lambda encoder, x: encoder(x)):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Linear(16, 3)
        self.between = between

    def forward(self, x):
        return self.head(self.between(self.encoder, x))


def without_gradients(encoder, x):
    with torch.no_grad():
        return encoder(x)


def detached(encoder, x):
    return encoder(x).detach()


class Unused(Two):
    def __init__(self, *, runs):
        super().__init__()
        self.extra = nn.Linear(3, 3)
        self.runs = runs

    def forward(self, x):
        scores = super().forward(x)
        if self.runs:
            self.extra(scores)
        return scores


def rebuilt():
    optimizer = SGD(network().parameters(), 0.1)
    train(network(), optimizer)


def partly_stepped():
    net = network()
    train(net, SGD(net[2].parameters(), 0.1))


def frozen():
    net = network()
    net[0].requires_grad_(False)
    train(net, SGD(net[2].parameters(), 0.1))


FAULTY = {
    "no zero_grad": (
        lambda: train(network(), clear=False),
        ("gradients that are not cleared", "finding", ""),
    ),
    "no zero_grad, with accumulation": (
        lambda: train(network(), clear=False, backwards=2),
        ("gradients that are not cleared", "finding", ""),
    ),
    "an optimizer of the head": (
        partly_stepped,
        ("parameters that no step changes", "finding", "0"),
    ),
    "an optimizer of another network": (
        rebuilt,
        ("parameters that no step changes", "finding", ""),
    ),
    "detached": (
        lambda: train(Two(detached)),
        ("parameters without a gradient", "finding", "encoder.0"),
    ),
    "under no_grad": (
        lambda: train(Two(without_gradients)),
        ("parameters without a gradient", "finding", "encoder.0"),
    ),
    "never ran": (
        lambda: train(Unused(runs=False)),
        ("parameters without a gradient", "note", "extra"),
    ),
    "ran, and is not used": (
        lambda: train(Unused(runs=True)),
        ("parameters without a gradient", "note", "extra"),
    ),
    "frozen": (frozen, ("frozen parameters", "note", "0")),
    "a minus": (
        lambda: train(network(), sign=-1.0),
        ("a loss below 0", "finding", ""),
    ),
    "eval mode": (
        lambda: train(network(dropout=True).eval()),
        ("training in eval mode", "finding", ""),
    ),
    "eval mode, with a BatchNorm": (
        lambda: train(network(norm=True).eval()),
        ("training in eval mode", "finding", ""),
    ),
    "a validation in train mode": (
        lambda: validated(training=True),
        ("validation in train mode", "finding", ""),
    ),
    "a schedule first": (
        lambda: scheduled(["backward", "schedule", "step"]),
        ("a schedule before its optimizer", "finding", ""),
    ),
    "a schedule at the top of the loop": (
        lambda: scheduled(["schedule", "backward", "step"]),
        ("a schedule before its optimizer", "finding", ""),
    ),
    "a bias before a BatchNorm": (
        lambda: train(nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3))),
        ("a bias before a BatchNorm", "note", "0"),
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_of_a_loop_is_the_one_thing_that_is_found(name):
    run, expected = FAULTY[name]

    (finding,) = found(run)

    assert (finding.rule, finding.level, finding.layer) == expected


def test_a_finding_flags_its_row_and_a_note_does_not():
    torch.manual_seed(0)
    flags = {}
    for name in ("detached", "never ran"):
        with nnmagic.tracing() as trace:
            FAULTY[name][0]()
        flags[name] = [row.name for row in trace.table().rows if row.state & State.FLAGGED]

    assert flags == {"detached": ["encoder.0"], "never ran": []}


def test_the_iteration_is_that_of_the_first_wrong_step():
    (finding,) = found(FAULTY["no zero_grad"][0])

    assert finding.iteration == 1


def test_skipped_iterations_are_looked_at_too():
    with nnmagic.tracing(every=100) as trace:
        train(network(), clear=False)

    assert [each.rule for each in trace.findings] == ["gradients that are not cleared"]


def attack():
    """An input is trained against a network, whose loss is turned round."""
    net, x = network(), X.clone().requires_grad_()
    optimizer = SGD([x], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (-F.cross_entropy(net(x), Y)).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("times", "level", "says"),
    [(0.05, None, ""), (0.3, "note", "23% of a step"), (4.0, "finding", "80% of a step")],
)
def test_an_eps_of_adam_is_told_by_how_much_of_a_step_it_takes_away(times, level, says):
    net = nn.Linear(8, 3, bias=False)
    F.cross_entropy(net(X), Y).backward()
    size = net.weight.grad.square().mean().sqrt().item()

    findings = found(lambda: train(net, Adam(net.parameters(), 1e-9, eps=times * size)))

    rule = "gradients below Adam's eps"
    assert [(each.rule, each.level) for each in findings] == [(rule, level)] * (level is not None)
    assert all(says in each.text and each.bound >= each.number for each in findings)


def test_to_look_at_a_loss_raises_no_warning():
    torch.manual_seed(0)

    with warnings.catch_warnings(), nnmagic.tracing(grad=True):
        warnings.simplefilter("error")
        train(network(), Adam(network().parameters()))


def test_an_attack_is_worth_a_note_on_the_network_that_is_not_trained():
    (note,) = found(attack)

    assert (note.rule, note.level) == ("parameters that no step changes", "note")


def test_nothing_is_left_of_what_followed_a_loop():
    backward, schedule = torch.autograd.backward.__code__, StepLR.step.__code__
    torch.manual_seed(0)
    net = network()

    with pytest.raises(KeyboardInterrupt), nnmagic.tracing():
        optimizer = train(net, clear=False)
        raise KeyboardInterrupt

    assert torch.autograd.backward.__code__ is backward
    assert StepLR.step.__code__ is schedule
    assert not optimizer._optimizer_step_pre_hooks
    assert not _global_optimizer_post_hooks
    assert not any(each._post_accumulate_grad_hooks for each in net.parameters())
