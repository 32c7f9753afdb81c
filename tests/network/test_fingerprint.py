import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.network.fingerprint import Fingerprint, change_text


def network():
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def test_a_network_that_only_ran_is_unchanged():
    net = network().eval()
    before = Fingerprint(net)

    net(torch.rand(4, 3))

    assert before.changes() == []


def test_batch_norm_statistics_are_seen_by_value():
    net = network().train()
    before = Fingerprint(net)

    net(torch.rand(4, 3))

    changed = before.changes()
    assert changed == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert change_text(changed, net) == "the run changed 3 batch-norm statistics (train mode)"


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.InstanceNorm1d])
@pytest.mark.parametrize("name", ["", "1."])
def test_statistics_that_somebody_wrote_are_not_those_of_train_mode(kind, name):
    norm = kind(3, track_running_stats=True)
    net = nn.Sequential(nn.Identity(), norm) if name else norm
    net.eval()
    before = Fingerprint(net)

    norm.running_var.fill_(2)

    assert before.changes() == [f"{name}running_var"]
    assert change_text(before.changes(), net) == "the run changed 1 batch-norm statistic"
    net.train()(torch.rand(4, 3, 5))
    assert change_text(before.changes(), net).endswith("batch-norm statistics (train mode)")


def test_a_parameter_changed_in_place_or_replaced_is_seen():
    net = network()
    before = Fingerprint(net)

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
    before = Fingerprint(net)
    unchanged = before.changes()

    net.table[2, 1] = 1

    assert unchanged == []
    assert before.changes() == ["table"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_a_large_buffer_a_checksum_is_kept(dtype):
    net = nn.Module()
    net.register_buffer("table", torch.zeros(1 << 20, dtype=dtype))

    assert len(pickle.dumps(Fingerprint(net).buffers)) < 1000


def test_a_buffer_on_meta_has_no_value():
    net = nn.Module()
    net.register_buffer("table", torch.zeros(3, device="meta"))

    assert Fingerprint(net).changes() == []


def test_nan_in_a_buffer_is_equal_to_itself():
    net = nn.Module()
    net.register_buffer("table", torch.full((3,), float("nan")))

    assert Fingerprint(net).changes() == []


def test_a_fingerprint_keeps_no_network_alive():
    net = network()
    before = Fingerprint(net)
    reference = weakref.ref(net)

    del net
    gc.collect()

    assert reference() is None
    assert before.identities


def pruned():
    return nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 4))


WITHOUT_A_VERSION = {
    "data": lambda p: p.data.clamp_(-0.01, 0.01),
    "numpy": lambda p: p.detach().numpy().fill(0),
    "dlpack": lambda p: torch.from_dlpack(p.detach()).mul_(2),
    "storage": lambda p: p.untyped_storage().copy_(torch.rand(p.shape).untyped_storage()),
}


@pytest.mark.parametrize("how", WITHOUT_A_VERSION)
def test_a_write_that_no_version_counter_sees_is_told_with_its_name(how):
    net = pruned()
    before = Fingerprint(net)
    version = net[1].weight._version

    WITHOUT_A_VERSION[how](net[1].weight)

    assert how == "dlpack" or net[1].weight._version == version
    assert before.changes() == ["1.weight"]


def test_a_layer_that_was_added_counts():
    net = pruned()
    before, kept = Fingerprint(net), net[1]

    net[1] = nn.Sequential(kept, nn.Linear(4, 4))

    assert set(before.changes()) >= {"1.0.weight", "1.1.bias"}


def test_values_that_cannot_be_read_are_not_said_to_be_unchanged():
    net = nn.Linear(4, 4)
    net.weight.untyped_storage().resize_(0)

    assert Fingerprint(net).changes() is None


def test_parameters_of_a_lazy_layer_are_made_and_not_changed():
    lazy = nn.Sequential(nn.LazyLinear(3))

    assert "the run made 2 parameters that had no values: 0.weight, 0.bias" in str(
        nnmagic.trace(lazy)
    )
    assert isinstance(lazy[0], nn.LazyLinear)
    with nnmagic.tracing(lazy) as trace:
        lazy(torch.rand(2, 4))
        lazy(torch.rand(2, 4))
    assert "made 2 parameters that had no values" in str(trace)
    assert "network unchanged" in str(nnmagic.trace(lazy, torch.rand(2, 4)))


def test_what_an_optimizer_wrote_is_changed_though_its_values_look_the_same():
    net = nn.Sequential(nn.Embedding(100_000, 4), nn.Linear(4, 4))
    before = Fingerprint(net)

    assert before.changes({id(net[0].weight)}) == ["0.weight"]
