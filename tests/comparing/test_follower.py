"""A run beside a leading one: it waits, holds little, and ends with it."""

import threading
import weakref

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.comparing.follower import Follower


def no_thread_is_left():
    return not any("nnmagic" in each.name for each in threading.enumerate())


def test_a_forward_that_is_bound_to_another_network_blocks_nothing():
    net = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU())).eval()
    inner, forward = net[1], net[1].forward
    inner.forward = lambda x: forward(x) + x  # a deep copy calls the layers of this one

    comparison = nnmagic.against("bfloat16", isolate=True)(net, torch.rand(2, 3))

    assert comparison[""].verdict is not None
    assert comparison["0"].own_error < 0.05
    assert no_thread_is_left()


def test_an_interrupt_in_the_users_call_is_the_users():
    class Interrupted(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            x = self.fc(x)
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return self.fc(x)

    net = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        nnmagic.against("eval", isolate=True)(net, torch.rand(1, 2))
    assert no_thread_is_left()
    assert nnmagic.trace(net.fc, torch.rand(1, 2))


def test_an_error_that_the_network_catches_ends_no_comparison():
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, x):
            try:
                return self.narrow(x)
            except RuntimeError:
                return self.wide(x)

    comparison = nnmagic.against("eval", isolate=True)(Catching(), torch.rand(5, 4))

    assert comparison["wide"].verdict == "equal"
    assert comparison["wide"].own_error == 0
    assert no_thread_is_left()


def test_what_only_one_side_calls_is_not_held(monkeypatch):
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(20))
            self.head = nn.Linear(8, 8)

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
                if self.training:
                    self.head(x)
            return x

    most = []

    def hold(follower, event, tensors):
        held_before(follower, event, tensors)
        most.append(len(follower._held))

    held_before = Follower.meet
    monkeypatch.setattr(Follower, "meet", hold)
    nested = nn.Sequential(*[Auxiliary() for _ in range(3)])

    comparison = nnmagic.against("eval")(nested, torch.rand(2, 8))

    assert comparison.first_divergence is None
    assert max(most) <= 2 * 20  # those of one block of the three, not of all
    assert sum(row.other_layer is None for row in comparison) == 60


def test_nothing_keeps_the_networks_of_a_comparison_alive():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    gone = weakref.ref(net)

    comparison = nnmagic.against("bfloat16", isolate=True)(net, torch.rand(2, 3))
    del net

    assert gone() is None
    assert comparison["0"].output_error < 0.1
