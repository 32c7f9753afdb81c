"""What is wrong with a loop that trains is told, and healthy loops raise no alarm."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import _global_optimizer_post_hooks

import nnmagic
from nnmagic.display.table import State

X, Y = torch.randn(64, 8), torch.arange(64) % 3
REAL = torch.randn(16, 4)


def found(run):
    """Return the findings of a block, all of which the display tells."""
    torch.manual_seed(0)
    with warnings.catch_warnings(), nnmagic.tracing() as trace:
        warnings.simplefilter("ignore")
        run()
    assert all(each.text in trace.table().notes for each in trace.findings)
    return trace.findings


def network(*, norm=False, dropout=False):
    middle = [nn.BatchNorm1d(16)] if norm else [nn.Dropout(0.5)] if dropout else []
    return nn.Sequential(nn.Linear(8, 16, bias=not norm), *middle, nn.ReLU(), nn.Linear(16, 3))


def train(net, optimizer=None, *, iterations=4, sign=1.0, clear=True, backwards=1):
    optimizer = optimizer or SGD(net.parameters(), 0.1)
    for _ in range(iterations):
        if clear:
            optimizer.zero_grad()
        for _ in range(backwards):
            loss = F.cross_entropy(net(X), Y) / backwards
            (loss if sign > 0 else -loss).backward()
        optimizer.step()
    return optimizer


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


def scheduled(order):
    net = network()
    optimizer = SGD(net.parameters(), 0.1)
    scheduler = StepLR(optimizer, 1)
    for _ in range(3):
        for what in order:
            if what == "backward":
                optimizer.zero_grad()
                F.cross_entropy(net(X), Y).backward()
            else:
                (optimizer if what == "step" else scheduler).step()


def validated(*, training, once=False):
    net = network(dropout=True)
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(2):
        net.train()
        train(net, optimizer)
        net.train(training)
        with torch.no_grad():
            for _ in range(1 if once else 3):
                net(X)


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


def gan(*, minimax=False):
    generator, critic = nn.Linear(2, 4), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    generators, critics = Adam(generator.parameters(), 1e-3), Adam(critic.parameters(), 1e-3)
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    bce = nn.BCEWithLogitsLoss()
    for _ in range(4):
        fake = generator(torch.randn(16, 2))
        critics.zero_grad()
        (bce(critic(REAL), ones) + bce(critic(fake.detach()), zeros)).backward()
        critics.step()
        generators.zero_grad()
        loss = -bce(critic(fake), zeros) if minimax else bce(critic(fake), ones)
        loss.backward()
        generators.step()


class Averaged(nn.Module):
    """A network with a copy of itself that a moving average writes to, as BYOL and DQN have."""

    def __init__(self):
        super().__init__()
        self.online, self.target = network(norm=True), network(norm=True)
        self.predictor = nn.Linear(3, 3)

    def forward(self, x):
        with torch.no_grad():
            goal = self.target(x)
        return F.mse_loss(self.predictor(self.online(x)), goal)

    @torch.no_grad()
    def average(self):
        for ours, theirs in zip(self.target.parameters(), self.online.parameters(), strict=True):
            ours.lerp_(theirs, 0.1)


def average(*, updates=True):
    net = Averaged()
    optimizer = SGD(net.online.parameters(), 0.01)
    optimizer.add_param_group({"params": net.predictor.parameters()})
    for _ in range(4):
        optimizer.zero_grad()
        net(X).backward()
        optimizer.step()
        if updates:
            net.average()


def teacher():
    net, wise = network(dropout=True), network(dropout=True)
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(4):
        with torch.no_grad():
            goal = wise(X)
        optimizer.zero_grad()
        F.mse_loss(net(X), goal).backward()
        optimizer.step()


class Experts(nn.Module):
    """A mixture of which each call takes one expert, and drops the others."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 3) for _ in range(3))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.experts[self.calls % 3](x)


class Heads(nn.Module):
    """Two heads that both run; the loss is of one of them in turn."""

    def __init__(self):
        super().__init__()
        self.body, self.heads = nn.Linear(8, 8), nn.ModuleList(nn.Linear(8, 3) for _ in range(2))

    def forward(self, x):
        return [head(self.body(x).relu()) for head in self.heads]


def heads():
    net = Heads()
    optimizer = SGD(net.parameters(), 0.1)
    for i in range(4):
        optimizer.zero_grad()
        F.cross_entropy(net(X)[i % 2], Y).backward()
        optimizer.step()


def lbfgs():
    net = network()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)


def cleared_in_place():
    net = network()
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(4):
        F.cross_entropy(net(X), Y).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def by_hand():
    net = network()
    for _ in range(3):
        F.cross_entropy(net(X), Y).backward()
        with torch.no_grad():
            for each in net.parameters():
                each -= 0.1 * each.grad
                each.grad = None


def scaled(*, overflows):
    net = network()
    optimizer, scaler = SGD(net.parameters(), 0.1), torch.amp.GradScaler("cpu")
    scheduler = StepLR(optimizer, 1)
    for i in range(4):
        optimizer.zero_grad()
        scores = net(X)
        if overflows and i == 0:
            scores.register_hook(lambda gradient: gradient * float("inf"))
        loss = F.cross_entropy(scores, Y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()


def attack():
    """An input is trained against a network, whose loss is turned round."""
    net, x = network(), X.clone().requires_grad_()
    optimizer = SGD([x], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (-F.cross_entropy(net(x), Y)).backward()
        optimizer.step()


def reinforce():
    net = network()
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (F.cross_entropy(net(X), Y, reduction="none") * torch.randn(64).sub(9)).mean().backward()
        optimizer.step()


def sharpness_aware():
    net = network(norm=True)
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(3):
        F.cross_entropy(net(X), Y).backward()
        with torch.no_grad():
            moves = [0.05 * each.grad for each in net.parameters()]
            for each, move in zip(net.parameters(), moves, strict=True):
                each += move
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()
        with torch.no_grad():
            for each, move in zip(net.parameters(), moves, strict=True):
                each -= move
        optimizer.step()
        optimizer.zero_grad()


HEALTHY = {
    "a plain loop": lambda: train(network(norm=True)),
    "accumulation": lambda: train(network(), backwards=4),
    "gradients cleared in place": cleared_in_place,
    "a GAN": gan,
    "a GAN by its first recipe": lambda: gan(minimax=True),
    "an averaged copy": average,
    "a target that waits": lambda: average(updates=False),
    "a teacher": teacher,
    "experts": lambda: train(Experts()),
    "heads in turn": heads,
    "LBFGS": lbfgs,
    "steps by hand": by_hand,
    "a validation": lambda: validated(training=False),
    "one look at a batch": lambda: validated(training=True, once=True),
    "a schedule": lambda: scheduled(["backward", "step", "schedule"]),
    "a GradScaler": lambda: scaled(overflows=False),
    "a GradScaler that leaves a step out": lambda: scaled(overflows=True),
    "sharpness-aware steps": sharpness_aware,
    "REINFORCE": reinforce,
    "eval mode without a layer that minds": lambda: train(network().eval()),
    "a copy of the network": lambda: train(copy.deepcopy(network(norm=True))),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_loop_raises_no_alarm(name):
    assert found(HEALTHY[name]) == ()


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
