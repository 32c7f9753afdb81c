import math
import pickle
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.amp import GradScaler
from torch.optim import optimizer as optimizer_hooks

import nnmagic


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


ITERATIONS = 12
MANY = 50


def batches(count):
    source = torch.Generator().manual_seed(1)
    return [
        (torch.rand(5, 6, generator=source), torch.randint(3, (5,), generator=source))
        for _ in range(count)
    ]


class StepsGradients:
    """The gradients that each step gets, copied by the loop itself."""

    def __init__(self, net):
        self.net, self.copies = net, []

    def before(self, _):
        self.copies += [p.grad.clone() for p in self.net.parameters()]

    def unscale(self, scale):
        pass

    def after(self):
        pass


class Truth:
    """What the loop itself works out, in float64, of each iteration."""

    def __init__(self, net):
        self.net, self.rows = net, []

    def before(self, loss):
        named = dict(self.net.named_parameters())
        self.held = {name: p.detach().double().clone() for name, p in named.items()}
        grads = {name: p.grad.double().norm().item() for name, p in named.items()}
        self.rows.append({"loss": loss, "norm": {}, "grad_norm": grads, "update_ratio": {}})
        self.rows[-1]["norm"] = {name: p.norm().item() for name, p in self.held.items()}

    def unscale(self, scale):
        norms = self.rows[-1]["grad_norm"]
        self.rows[-1]["grad_norm"] = {name: norm / scale for name, norm in norms.items()}

    def after(self):
        for name, p in self.net.named_parameters():
            change = (p.detach().double() - self.held[name]).norm().item()
            before = self.rows[-1]["norm"][name]
            self.rows[-1]["update_ratio"][name] = change / before if before else math.nan


def plain_loop(net, optimizer, truth, count=ITERATIONS, *, clip=None):
    for x, y in batches(count):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        if truth:
            truth.before(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        if truth:
            truth.after()


def clipped_loop(net, optimizer, truth, count=ITERATIONS):
    plain_loop(net, optimizer, truth, count, clip=0.1)


def accumulating_loop(net, optimizer, truth, count=ITERATIONS):
    for i, (x, y) in enumerate(batches(count)):
        loss = F.cross_entropy(net(x), y) / 4
        loss.backward()
        if i % 4 == 3:
            if truth:
                truth.before(loss.item())
            optimizer.step()
            optimizer.zero_grad()
            if truth:
                truth.after()


def scaled_loop(net, optimizer, truth, count=ITERATIONS, *, unscale=True):
    scaler = GradScaler("cpu", init_scale=1024.0, growth_interval=5)
    for x, y in batches(count):
        loss = F.cross_entropy(net(x), y)
        scale = scaler.get_scale()
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
            scale = 1.0
        if truth:
            truth.before(loss.item())
            truth.unscale(scale)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if truth:
            truth.after()


def fused_scaled_loop(net, optimizer, truth, count=ITERATIONS):
    scaled_loop(net, optimizer, truth, count, unscale=False)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "fused adam": lambda p: torch.optim.Adam(p, 0.01, fused=True),
}

LOOPS = {
    "plain": plain_loop,
    "clipped": clipped_loop,
    "accumulating": accumulating_loop,
    "scaled": scaled_loop,
    "scaled, not by hand": fused_scaled_loop,
}

PAIRS = [(loop, optimizer) for loop in LOOPS for optimizer in OPTIMIZERS]


@pytest.mark.parametrize(("loop", "optimizer"), PAIRS)
def test_parameters_have_the_norms_that_the_loop_works_out_itself(loop, optimizer):
    net = network()
    truth = Truth(net)

    with nnmagic.tracing(net, grad=True) as t:
        LOOPS[loop](net, OPTIMIZERS[optimizer](net.parameters()), truth)

    history = t.history()
    step_after = 4 if loop == "accumulating" else 1
    numbers = [step_after * (i + 1) - 1 for i in range(len(truth.rows))]
    for quantity in ("norm", "grad_norm", "update_ratio"):
        for name in dict(net.named_parameters()):
            layer, _, own = name.rpartition(".")
            rows = history[(history.layer == layer) & (history.quantity == f"{own}.{quantity}")]
            found = rows[rows.iteration.isin(numbers)].value.tolist()
            expected = [row[quantity][name] for row in truth.rows]
            assert found == pytest.approx(expected, rel=2e-5, nan_ok=True), (name, quantity)
    losses = history[(history.layer == "") & (history.quantity == "loss")]
    assert losses[losses.iteration.isin(numbers)].value.tolist() == pytest.approx(
        [row["loss"] for row in truth.rows], rel=1e-6
    )
    assert losses.iteration.tolist() == list(range(ITERATIONS))


WATCHED = {
    "each iteration": {"every": 1},
    "one in three": {"every": 3},
    "with a probe": {"every": 1, "probe": torch.linspace(-1, 1, 12).reshape(2, 6)},
}


def trained(loop, optimizer, watched=None):
    """Return the gradients of each step, and what a loop leaves: all as tensors, in one list."""
    net = network()
    gradients, made = StepsGradients(net), OPTIMIZERS[optimizer](net.parameters())
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    with nullcontext() if watched is None else nnmagic.tracing(net, grad=True, **watched):
        LOOPS[loop](net, made, gradients, MANY)
    state = made.state_dict()["state"]
    numbers = [random.getstate()[1], np.random.get_state()[1].tolist()]
    return [
        *gradients.copies,
        *(p.detach() for p in net.parameters()),
        *(p.grad for p in net.parameters() if p.grad is not None),
        *(v for each in state.values() for v in each.values() if torch.is_tensor(v)),
        torch.get_rng_state(),
        *map(torch.tensor, numbers),
    ]


@pytest.mark.parametrize(("loop", "optimizer"), PAIRS)
def test_a_loop_is_bit_identical_to_one_that_nothing_looks_at(loop, optimizer):
    plain = trained(loop, optimizer)

    steps = MANY // 4 if loop == "accumulating" else MANY
    assert len(plain) > 4 * steps
    for name, watched in WATCHED.items():
        pairs = zip(plain, trained(loop, optimizer, watched), strict=True)
        assert all(one.equal(other) for one, other in pairs), name


def test_the_history_survives_a_file_and_a_pickle(tmp_path):
    net = network()
    with nnmagic.tracing(net, grad=True) as t:
        plain_loop(net, OPTIMIZERS["sgd"](net.parameters()), None)

    t.save(tmp_path / "t.safetensors")

    for other in (nnmagic.load(tmp_path / "t.safetensors"), pickle.loads(pickle.dumps(t))):
        assert other == t
        assert other.history().equals(t.history())


def test_no_hook_of_ours_is_left_anywhere():
    net = network()
    optimizer = OPTIMIZERS["adam"](net.parameters())
    before = torch.autograd.backward.__code__, GradScaler.scale

    with pytest.raises(KeyboardInterrupt), nnmagic.tracing(net, grad=True) as t:
        for i, (x, y) in enumerate(batches(ITERATIONS)):
            output = net(x)
            F.cross_entropy(output, y).backward()
            optimizer.step()
            if i == 4:
                raise KeyboardInterrupt

    assert before == (torch.autograd.backward.__code__, GradScaler.scale)
    assert not any(p._post_accumulate_grad_hooks for p in net.parameters())
    assert not output._backward_hooks
    assert not optimizer_hooks._global_optimizer_pre_hooks
    assert not optimizer_hooks._global_optimizer_post_hooks
    assert not optimizer._optimizer_step_pre_hooks
    losses = t.history().query("quantity == 'loss'")
    assert losses.iteration.tolist() == [0, 1, 2, 3, 4]
    assert "interrupted after 5 iterations" in str(t)


def test_accumulation_and_clipping_are_said():
    notes = {}
    for name, loop in LOOPS.items():
        net = network()
        with nnmagic.tracing(net, grad=True) as t:
            loop(net, OPTIMIZERS["sgd"](net.parameters()), None)
        notes[name] = " ".join(t.log.notes)

    assert [name for name in LOOPS if "4 backwards a step" in notes[name]] == ["accumulating"]
    assert [name for name in LOOPS if "as by clipping" in notes[name]] == ["clipped"]
    assert [name for name in LOOPS if "unscaled" in notes[name]] == [*LOOPS][3:]


def test_a_step_that_runs_the_network_within_it_is_followed():
    net = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    truth = []

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    with nnmagic.tracing(net, grad=True) as t:
        for x, y in batches(4):  # noqa: B007 - the closure reads them
            held = net.weight.detach().double().clone()
            optimizer.step(closure)
            truth.append(((net.weight.detach() - held).norm() / held.norm()).item())

    ratios = t.history().query("quantity == 'weight.update_ratio'")
    assert ratios.value.tolist() == pytest.approx(truth, rel=1e-5)


def test_two_optimizers_of_two_networks_are_told_apart():
    torch.manual_seed(0)
    gen, disc = nn.Linear(2, 4), nn.Linear(4, 1)
    of_gen, of_disc = (torch.optim.SGD(n.parameters(), 0.1) for n in (gen, disc))
    truth = []
    with nnmagic.tracing(gen, disc, grad=True) as t:
        for _ in range(3):
            fake = gen(torch.rand(5, 2))
            of_disc.zero_grad()
            (disc(torch.rand(5, 4)).mean() - disc(fake.detach()).mean()).backward()
            of_disc.step()
            of_gen.zero_grad()
            disc(fake).mean().backward()
            truth.append(gen.weight.grad.double().norm().item())
            of_gen.step()

    history = t.history()
    norms = history[(history.network == "Linear") & (history.quantity == "weight.grad_norm")]
    assert norms.value.tolist() == pytest.approx(truth, rel=1e-5)
    moved = history[(history.network == "Linear#2") & (history.quantity == "weight.update_ratio")]
    assert len(moved) == 3
