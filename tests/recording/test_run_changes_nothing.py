"""A recorded run is the run that it would have been, and nothing is left of it."""

import copy
import gc
import weakref

import pytest
import torch
import torchvision
from torch import nn

import nnmagic

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state_of(network):
    """Return of each module its mode, and how many hooks of each kind it has."""
    return {
        name: (module.training, *(len(getattr(module, hooks)) for hooks in HOOKS))
        for name, module in network.named_modules()
    }


def assert_same_network(traced, plain):
    assert state_of(traced) == state_of(plain)
    for (name, mine), (_, theirs) in zip(
        traced.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    for mine, theirs in zip(traced.parameters(), plain.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad)
        assert mine.requires_grad == theirs.requires_grad


@pytest.mark.parametrize("train", [True, False])
def test_resnet18_gives_the_same_bits_gradients_and_state(train):
    plain = torchvision.models.resnet18().train(train)
    traced = copy.deepcopy(plain)
    x = torch.randn(2, 3, 64, 64)

    torch.manual_seed(1)
    expected = plain(x)
    expected.sum().backward()
    torch.manual_seed(1)
    found = nnmagic.trace(traced, x)
    found.output.sum().backward()

    assert torch.equal(found.output, expected)
    assert_same_network(traced, plain)


@pytest.mark.parametrize("train", [True, False])
def test_an_encoder_gives_the_same_bits(train):
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    plain = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(train)
    traced = copy.deepcopy(plain)
    x = torch.randn(2, 7, 32)

    with torch.no_grad():
        torch.manual_seed(1)
        expected = plain(x)
        state = torch.get_rng_state()
        torch.manual_seed(1)
        found = nnmagic.trace(traced, x)

    assert torch.equal(found.output, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_network(traced, plain)


class Interrupted(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        raise self.error


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code, reason):
        super().__init__(code, reason)


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), StopIteration(3), SlottedError(1, "why"), GeneratorExit()],
    ids=repr,
)
def test_any_exception_goes_on_unchanged(error):
    net = nn.Sequential(nn.ReLU(), Interrupted(error))
    before = state_of(net)

    with pytest.raises(type(error)) as caught, nnmagic.tracing() as found:
        net(torch.ones(2))

    assert caught.value is error
    assert found.failed.layer == "1"
    assert state_of(net) == before


def test_a_run_of_its_own_is_in_eval_mode_and_leaves_all_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    net[1].eval()
    before = copy.deepcopy(net)
    random_state = torch.get_rng_state()

    found = nnmagic.trace(net)

    assert not found.output.requires_grad
    assert [module.training for module in net] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_same_network(net, before)
    assert "network unchanged" in str(found)
    assert "input: torch.rand(1, 4), since 0 (Linear) takes 4 features" in str(found)


def test_a_record_keeps_nothing_of_the_users_alive():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4)
    with nnmagic.tracing() as found:
        out = net(x)
    references = [weakref.ref(each) for each in (net, x, out, net[0].weight)]

    del net, x, out
    gc.collect()

    assert [reference() for reference in references] == [None] * 4
    assert len(found) == 3


def test_two_hundred_traces_leave_nothing():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4)

    def alive():
        gc.collect()
        return sum(isinstance(each, torch.Tensor | nn.Module) for each in gc.get_objects())

    nnmagic.trace(net, x)
    before = alive()
    for _ in range(200):
        nnmagic.trace(net, x)

    assert alive() == before


def test_the_root_is_a_weak_reference():
    net = nn.Linear(4, 4)
    found = nnmagic.trace(net, torch.rand(2, 4))

    assert found.root() is net
    del net
    gc.collect()
    assert found.root() is None


def test_the_users_mode_is_kept():
    net = nn.Linear(4, 4)

    with torch.autocast("cpu", torch.bfloat16):
        found = nnmagic.trace(net, torch.rand(2, 4))

    assert found[""].dtype == "bfloat16"
    assert found.output.requires_grad
