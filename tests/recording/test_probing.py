import random

import numpy as np
import pytest
import torch
from torch import nn

import nnmagic


class Odd(nn.Module):
    """Draws, stores and counts in every mode; the probe must leave no trace of that."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.3)
        self.seen = []
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.seen.append(self.training)
        self.count += 1
        noise = torch.rand_like(x) * random.random() * float(np.random.rand())
        self.last = self.drop(self.norm(self.linear(x))) + noise
        return self.last


def train(net, probe, every=1, count=12, **options):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    block = nnmagic.tracing(net, probe=probe, every=every, **options)
    with block as trace:
        for _ in range(count):
            optimizer.zero_grad()
            net(torch.rand(5, 4)).square().mean().backward()
            optimizer.step()
    state = [*net.state_dict().values(), torch.get_rng_state(), net.last.detach()]
    state += [each["momentum_buffer"] for each in optimizer.state_dict()["state"].values()]
    return trace, state, (net.seen, random.getstate(), np.random.get_state()[1].tolist())


def network():
    torch.manual_seed(1)
    return Odd()


PROBE = torch.linspace(-1, 1, 8).reshape(2, 4)


@pytest.mark.parametrize("ops", [False, True])
def test_the_probe_leaves_the_loop_as_it_is(ops):
    _, plain, others = train(network(), None)

    _, probed, others_probed = train(network(), PROBE, ops=ops)

    assert all(one.equal(two) for one, two in zip(plain, probed, strict=True))
    assert others == others_probed


def test_the_probes_rows_are_what_the_network_gives_on_it_in_eval_mode():
    net = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    truth = []

    with nnmagic.tracing(net, probe=PROBE, every=2) as t:
        for i in range(6):
            if i % 2 == 0:
                with torch.no_grad():
                    truth.append((PROBE @ net[0].weight.T + net[0].bias).mean().item())
            net(torch.rand(3, 4)).square().mean().backward()
            optimizer.step()

    rows = t.history().query("network == 'Sequential (probe)' and quantity == 'mean'")
    assert rows[rows.layer == ""].value.tolist() == pytest.approx(truth)
    assert rows[rows.layer == ""].iteration.tolist() == [0, 2, 4]
    assert set(rows.layer) == {"", "0", "1"}
    assert "Sequential (probe)" in str(t)
    assert net.training


def test_arguments_may_be_several():
    net = nn.Bilinear(3, 4, 2)
    with nnmagic.tracing(net, probe=(torch.ones(1, 3), torch.ones(1, 4))) as t:
        net(torch.rand(2, 3), torch.rand(2, 4)).sum().backward()

    assert len(t.calls("Bilinear (probe):")) == 1


def test_a_probe_that_does_not_fit_is_said_and_the_loop_goes_on():
    net = nn.Linear(4, 2)
    with nnmagic.tracing(net, probe=torch.ones(1, 3)) as t:
        for _ in range(3):
            net(torch.rand(2, 4)).sum().backward()

    assert sum(note.startswith("the probe failed: RuntimeError") for note in t.log.notes) == 1
    assert len(t.calls("Linear:")) == 3
    assert "failed" not in str(t).splitlines()[0]


def test_a_probe_of_a_loop_that_does_not_learn_is_said():
    net = nn.Linear(4, 2).requires_grad_(False)
    with nnmagic.tracing(net, probe=torch.ones(1, 4)) as t:
        net(torch.rand(2, 4))

    assert "the probe was not run: no network was called to learn" in t.log.notes
