import gc
import pickle
import sys
import weakref

import pytest
import torch
from torch import nn

from nnmagic.network.state import Fingerprint, change_text, preserved, uncollected


def network():
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def fingerprint_of(net):
    return Fingerprint([(name, weakref.ref(layer)) for name, layer in net.named_modules()])


def test_a_network_that_only_ran_is_unchanged():
    net = network().eval()
    before = fingerprint_of(net)

    net(torch.rand(4, 3))

    assert before.changes() == []
    assert change_text([]) == "network unchanged"


def test_batch_norm_statistics_are_seen_by_value():
    net = network().train()
    before = fingerprint_of(net)

    net(torch.rand(4, 3))

    changed = before.changes()
    assert changed == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert change_text(changed) == "the run changed 3 batch-norm statistics (train mode)"


def test_a_parameter_changed_in_place_or_replaced_is_seen():
    net = network()
    before = fingerprint_of(net)

    with torch.no_grad():
        net[0].weight.add_(1)
    net[0].bias = nn.Parameter(net[0].bias.detach().clone())

    assert before.changes() == ["0.weight", "0.bias"]


@pytest.mark.parametrize("shape", [(1 << 10, 1 << 9), (3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
@pytest.mark.parametrize("turned", [False, True])
def test_a_value_in_a_buffer_is_seen_whatever_the_buffers_size_and_layout(shape, dtype, turned):
    net = nn.Module()
    table = torch.zeros(shape, dtype=dtype)
    net.register_buffer("table", table.t() if turned else table)
    before = fingerprint_of(net)
    unchanged = before.changes()

    net.table[2, 1] = 1

    assert unchanged == []
    assert before.changes() == ["table"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_a_large_buffer_a_checksum_is_kept(dtype):
    net = nn.Module()
    net.register_buffer("table", torch.zeros(1 << 20, dtype=dtype))

    assert len(pickle.dumps(fingerprint_of(net).buffers)) < 1000


def test_a_buffer_on_meta_has_no_value():
    net = nn.Module()
    net.register_buffer("table", torch.zeros(3, device="meta"))

    assert fingerprint_of(net).changes() == []


def test_nan_in_a_buffer_is_equal_to_itself():
    net = nn.Module()
    net.register_buffer("table", torch.full((3,), float("nan")))

    assert fingerprint_of(net).changes() == []


def test_a_fingerprint_keeps_no_network_alive():
    net = network()
    before = fingerprint_of(net)
    reference = weakref.ref(net)

    del net
    gc.collect()

    assert reference() is None
    assert before.parameters


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


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_again_after_a_function_whatever_ends_it(enabled):
    @uncollected
    def seen(error=None):
        if error is not None:
            raise error
        return gc.isenabled()

    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        assert seen() is False
        assert gc.isenabled() is enabled
        with pytest.raises(KeyboardInterrupt):
            seen(KeyboardInterrupt())
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


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
