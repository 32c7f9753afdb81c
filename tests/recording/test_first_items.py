import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from watched import settled

import nnmagic
from nnmagic.records.thinning import MOST_ITERATIONS, thin
from nnmagic.tensors.pictures import BUDGET


class Attending(nn.Module):
    """Attends by tensors that it makes itself, which are drawn no larger than any other."""

    def __init__(self, layer, times=1, drawn=0):
        super().__init__()
        self.layer = layer
        self.times = times
        self.drawn = nn.ModuleList(nn.Tanh() for _ in range(drawn))

    def forward(self, x):
        for _ in range(self.times):
            x = x + 1
            x = self.layer(x, x, x, need_weights=False)[0]
        for each in self.drawn:
            x = each(x)
        return x.mean()


class OfTheUsersOwn(nn.MultiheadAttention):
    """An attention with a forward that is not torch's."""

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


def attention(features=64, heads=2):
    return nn.MultiheadAttention(features, heads, batch_first=True).eval()


def pictures_of(log):
    samples = map(log.tensors.samples_of, range(len(log.tensors)))
    return [each.picture.sample for each in samples if each.picture is not None]


def kept_bytes(log):
    items = log.first_items.values()
    return sum(len(each.data) for item in items for each in (*item.values, item.output))


def attending_calls(log):
    return [call for call in range(len(log)) if log.layer_of(call).name == "layer"]


def test_of_a_batch_the_first_item_is_kept_once_and_the_tensor_keeps_its_sample():
    net, x = Attending(attention()), torch.randn(3, 300, 64)

    with torch.no_grad():
        trace = nnmagic.trace(net, x)

    (item,) = trace.log.first_items.values()
    assert item.arguments == {"query": 0, "key": 0, "value": 0}
    assert (item.items, item.axis, item.dtypes) == (3, 0, ("float32",))
    np.testing.assert_array_equal(item.values[0].array(), (x[:1] + 1).numpy())
    got = trace["layer"].inputs[0]
    assert got.whole is None
    assert got.values is not None
    assert got.spread.numel < 1024
    assert got.caption == "(3, 300, 64) float32, 240 of 57,600 values kept"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_values_of_any_precision_are_kept_as_they_are(dtype):
    net, x = Attending(attention()).to(dtype), torch.randn(2, 300, 64, dtype=dtype)

    trace = nnmagic.trace(net, x)

    (item,) = trace.log.first_items.values()
    kept = torch.from_numpy(item.values[0].array().copy()).to(dtype)
    assert kept.equal(x[:1] + 1)


@pytest.mark.parametrize("keep", ["none", "all"])
def test_nothing_is_kept_where_no_values_are_or_all(keep):
    net, x = Attending(attention()), torch.randn(2, 300, 64)

    with nnmagic.tracing(net, keep=keep) as trace:
        net(x)

    assert trace.log.first_items == {}


def test_with_ops_nothing_is_kept_as_the_maps_are_there():
    net, x = Attending(attention()), torch.randn(2, 300, 64)

    with nnmagic.tracing(net, ops=True) as trace:
        net(x)

    assert trace.log.first_items == {}
    assert len(trace.log.attention) == 1


def test_items_take_the_room_that_pictures_leave_and_give_way_to_them():
    x = torch.randn(1, 512, 512)
    layer, of_the_users_own = attention(512, 8), OfTheUsersOwn(512, 8, batch_first=True).eval()
    of_the_users_own.load_state_dict(layer.state_dict())

    with torch.no_grad():
        many = nnmagic.trace(Attending(layer, times=40), x)
        fewer = nnmagic.trace(Attending(layer, times=40, drawn=120), x)
        without = nnmagic.trace(Attending(of_the_users_own, times=40, drawn=120), x)

    assert without.log.first_items == {}
    assert pictures_of(without.log) == pictures_of(fewer.log)
    assert 0 < len(fewer.log.first_items) < len(many.log.first_items) < 40
    for log in (many.log, fewer.log):
        drawn = [len(each.data) for each in pictures_of(log)]
        assert kept_bytes(log) + sum(drawn) <= BUDGET
        assert list(log.first_items) == attending_calls(log)[: len(log.first_items)]


@pytest.mark.parametrize(
    ("positions", "features", "why"),
    [
        (5000, 8, "2 x 5,000 x 5,000 logits"),
        (1025, 1024, "1,049,600 values"),
        (256, 64, "the trace keeps all 16,384 values of what it got"),
    ],
)
def test_an_item_that_is_too_large_is_not_kept_nor_one_that_is_there(positions, features, why):
    trace = nnmagic.trace(Attending(attention(features)), torch.randn(1, positions, features))

    assert trace.log.first_items == {}, why


def test_a_watched_network_which_is_measured_on_samples_keeps_no_items(page):
    net, x = Attending(attention()), torch.randn(2, 300, 64)
    widget = page.show(nnmagic.watch(net))

    for _ in range(20):  # the first call after a pause is measured in full
        net(x)
        net(x)
        trace = settled(widget).trace
        if trace["layer"].inputs[0].measured is not None:
            break

    assert trace["layer"].inputs[0].measured is not None
    assert trace.log.first_items == {}


def test_of_a_loop_the_last_iteration_is_kept_alone():
    net = Attending(attention(), times=2)

    with torch.no_grad(), nnmagic.tracing(net) as trace:
        for number in range(3):
            net(torch.full((1, 300, 64), float(number)))

    log = trace.log
    assert list(log.first_items) == attending_calls(log)[-2:]
    first = log.first_items[attending_calls(log)[-2]]
    assert set(first.values[0].flat()) == {3.0}


def test_items_follow_their_calls_where_iterations_are_left_out():
    net = Attending(attention())
    with torch.no_grad(), nnmagic.tracing(net) as trace:
        for _ in range(9):
            net(torch.randn(1, 300, 64))

    assert thin(trace.log, [0], 1, 3) is not None

    assert len(attending_calls(trace.log)) < 9
    assert list(trace.log.first_items) == attending_calls(trace.log)[-1:]


def test_items_are_let_go_also_after_iterations_were_left_out():
    net, x = Attending(attention(128, 1)), torch.randn(1, 130, 128)

    with torch.no_grad(), nnmagic.tracing(net) as trace:
        for _ in range(MOST_ITERATIONS + 2):
            net(x)
        during = list(trace.log.first_items)
        of_the_last = attending_calls(trace.log)[-1:]

    assert trace.log.left_out > 0
    assert during == of_the_last


def test_files_and_pickles_leave_the_items_out_and_are_equal(tmp_path):
    trace = nnmagic.trace(Attending(attention()), torch.randn(2, 300, 64))
    trace.save(tmp_path / "trace")

    loaded, pickled = nnmagic.load(tmp_path / "trace"), pickle.loads(pickle.dumps(trace))

    assert len(trace.log.first_items) == 1
    assert loaded == trace
    assert pickled == trace
    assert loaded.log.first_items == pickled.log.first_items == {}


def test_an_item_changes_nothing_and_keeps_nothing_alive():
    net, x = Attending(attention()).train(), torch.randn(2, 300, 64, requires_grad=True)
    plain = net(x)
    plain.backward()
    grad, x.grad, state = x.grad, None, torch.get_rng_state()

    with nnmagic.tracing(net) as trace:
        seen = net(x)
    seen.backward()

    assert seen.equal(plain)
    assert x.grad.equal(grad)
    assert torch.get_rng_state().equal(state)
    assert len(trace.log.first_items) == 1
    alive = weakref.ref(x)
    trace = trace.log
    del x, plain, seen
    gc.collect()
    assert alive() is None
