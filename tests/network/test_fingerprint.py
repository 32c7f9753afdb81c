import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from nnmagic.network.fingerprint import Fingerprint, change_text


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
