import sys

import pytest
import torch
from torch import nn

from nnmagic.network.preserve import preserved


def network():
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def test_everything_that_a_module_holds_is_put_back():
    net = network()
    net.history, net.cache, net.count = [1], {"a": [2]}, 0
    weight, mean = net[0].weight, net[1].running_mean.clone()

    with pytest.raises(ValueError, match="stop"), preserved(net):
        net.train(False)
        net.history.append(2)
        net.cache["a"].append(3)
        net.cache["b"] = 4
        net.count += 1
        net.extra = nn.ReLU()
        net[0].weight = nn.Parameter(torch.zeros(3, 3))
        net[1].running_mean.add_(1)
        net.register_forward_hook(lambda *args: None)
        raise ValueError("stop")

    assert net.training
    assert net[1].training
    assert (net.history, net.cache, net.count) == ([1], {"a": [2]}, 0)
    assert not hasattr(net, "extra")
    assert net[0].weight is weight
    assert torch.equal(net[1].running_mean, mean)
    assert len(net._forward_hooks) == 0


def test_each_layer_gets_its_own_mode_back():
    net = network().train()
    net[1].eval()

    with preserved(net):
        net.eval()

    assert [module.training for module in net.modules()] == [True, True, False]


def test_a_module_that_nothing_was_done_to_keeps_its_dictionary():
    net = network()
    sizes = [sys.getsizeof(module.__dict__) for module in net.modules()]

    with preserved(net):
        net(torch.rand(4, 3))

    assert [sys.getsizeof(module.__dict__) for module in net.modules()] == sizes


def test_an_attribute_under_another_name_or_of_an_equal_value_is_put_back():
    net = network()
    net.known = known = [1]

    with preserved(net):
        net.known = [1]
    assert net.known is known
    with preserved(net):
        net.called = net.__dict__.pop("known")

    assert net.known is known
    assert not hasattr(net, "called")


class Odd(dict):
    """A container of the user's."""


@pytest.mark.parametrize("kind", ["usual", "odd container", "without an attribute"])
def test_what_hooks_and_containers_hold_is_put_back_whatever_a_module_is_made_of(kind):
    net = network()
    net.hosts = {"inner": {"deep": [1]}, "pair": ([2], 3)}
    first = net.register_forward_hook(lambda *_: None)
    if kind == "odd container":
        net[0]._buffers = Odd(count=torch.zeros(1))
    if kind == "without an attribute":
        del net[1]._state_dict_hooks

    with preserved(net):
        net.hosts["inner"]["deep"].append(2)
        net.hosts["pair"][0].append(3)
        net[0].register_buffer("more", torch.zeros(1))
        net[0]._non_persistent_buffers_set.add("more")
        net[1].register_forward_pre_hook(lambda *_: None)
        net[1].append = nn.ReLU()
        first.remove()

    assert net.hosts == {"inner": {"deep": [1]}, "pair": ([2], 3)}
    assert list(net[0]._buffers) == (["count"] if kind == "odd container" else [])
    assert net[0]._non_persistent_buffers_set == set()
    assert (list(net[1]._modules), len(net[1]._forward_pre_hooks)) == ([], 0)
    assert list(net._forward_hooks) == [first.id]
