"""What is wrong with the gradients that steps get, and with what they change, is told."""

import pytest
import torch
import torch.nn.functional as F
from learning.healthy import train
from learning.healthy_networks import X, Y, network
from torch import nn
from torch.optim import SGD, Adam

import nnmagic
from nnmagic.recording.stepped_optimizers import MOVED_BY_RATE

CLEARED, UNCHANGED = "gradients that are cleared before the step", "parameters that no step changes"


def found(run, **options):
    torch.manual_seed(0)
    with nnmagic.tracing(**options) as trace:
        run()
    return trace.findings


def clearing(kind=SGD, *, to_none, iterations=5):
    net = network()
    optimizer = kind(net.parameters(), lr=0.1)
    for _ in range(iterations):
        F.cross_entropy(net(X), Y).backward()
        optimizer.zero_grad(set_to_none=to_none)
        optimizer.step()


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_are_cleared_before_the_step_are_the_cause(to_none, kind, grad):
    (finding,) = found(lambda: clearing(kind, to_none=to_none), grad=grad)

    assert (finding.rule, finding.level, finding.number) == (CLEARED, "finding", 4)
    assert "zero_grad() before the backward" in finding.text


def test_one_iteration_of_them_is_enough_where_none_is_left():
    (finding,) = found(lambda: clearing(to_none=True, iterations=1))

    assert finding.rule == CLEARED


def test_gradients_that_are_0_by_themselves_were_not_cleared():
    net = network()

    def clipped():
        optimizer = SGD(net.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            (F.cross_entropy(net(X), Y) * 0).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

    assert CLEARED not in {each.rule for each in found(clipped)}


def test_an_optimizer_that_clears_in_its_own_step_is_in_order():
    class Own(SGD):
        def step(self, closure=None):
            super().step(closure)
            self.zero_grad()

    def run():
        net = network()
        optimizer = Own(net.parameters(), lr=0.1)
        for _ in range(4):
            F.cross_entropy(net(X), Y).backward()
            optimizer.step()

    assert found(run) == ()


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("iterations", [2, 12])
@pytest.mark.parametrize("kind", MOVED_BY_RATE)
def test_a_learning_rate_of_0_moves_nothing(kind, iterations, grad):
    net = network()
    optimizer = kind(net.parameters(), lr=0.0, weight_decay=0.1)
    before = [each.detach().clone() for each in net.parameters()]

    (finding,) = found(lambda: train(net, optimizer, iterations=iterations), grad=grad)

    assert all(map(torch.equal, before, net.parameters()))
    assert (finding.rule, finding.level, finding.layer) == (UNCHANGED, "finding", "")
    assert "a learning rate of 0" in finding.text


def test_a_learning_rate_of_0_is_a_note_where_other_parameters_are_moved():
    net = network()
    groups = [{"params": net[0].parameters(), "lr": 0.0}, {"params": net[2].parameters()}]

    (finding,) = found(lambda: train(net, SGD(groups, lr=0.1)))

    assert (finding.level, finding.layer, finding.number) == ("note", "0", 2)


def test_a_schedule_that_begins_at_0_is_in_order():
    def warmed(iterations):
        net = network()
        optimizer = SGD(net.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: at / 10)
        for _ in range(iterations):
            train(net, optimizer, iterations=1)
            schedule.step()

    assert found(lambda: warmed(1)) == found(lambda: warmed(4)) == ()
