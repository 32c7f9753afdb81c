"""What must not happen to anybody: one test for each way in which it once did."""

import collections
import random
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import nnmagic


class Applying(nn.Module):
    """Runs a function as its forward."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def test_recordings_may_end_in_any_order():
    call, limit = nn.Module.__call__.__code__, sys.getrecursionlimit()
    first, second = nnmagic.tracing(), nnmagic.tracing()

    a = first.__enter__()
    b = second.__enter__()
    first.__exit__(None, None, None)
    nn.ReLU()(torch.ones(1))
    second.__exit__(None, None, None)

    assert (len(a), len(b)) == (0, 1)
    assert nn.Module.__call__.__code__ is call
    assert sys.getrecursionlimit() == limit


def test_a_sparse_buffer_is_no_obstacle():
    net = nn.Linear(4, 4)
    net.register_buffer("adjacency", torch.eye(2).to_sparse())

    assert len(nnmagic.trace(net, torch.rand(2, 4))) == 1
    assert len(nnmagic.trace(net)) == 1


def test_an_ensemble_under_vmap_is_traced():
    nets = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(nets)

    def run(parameters, buffers, x):
        return torch.func.functional_call(nets[0], (parameters, buffers), (x,))

    with nnmagic.tracing() as trace:
        out = torch.vmap(run, (0, 0, None))(parameters, buffers, torch.rand(2, 4))

    assert out.shape == (3, 2, 4)
    assert trace["0"].output_shape == (2, 4)
    assert "changed" not in str(trace)


def test_what_refuses_to_be_read_is_blank():
    class Refusing(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            raise TypeError("no")

    class Closed(collections.UserDict):
        def __iter__(self):
            raise TypeError("no")

    for value in (torch.ones(2).as_subclass(Refusing), Closed(a=1)):
        trace = nnmagic.trace(Applying(lambda value: torch.ones(1)), value)

        assert trace[""].output_shape == (1,)
        assert all(tensor.mean is None and tensor.unknown for tensor in trace[""].inputs)


def test_a_hook_that_fails_on_meta_is_reported_in_a_line():
    net, seen = nn.Linear(4, 4), []
    net.register_forward_hook(lambda module, args, out: seen.append(out.mean().item()))

    summary = nnmagic.summary(net, torch.rand(2, 4))

    assert summary.rows[0].output_shape == (2, 4)
    assert "fails on meta tensors" in str(summary)
    net(torch.rand(2, 4))
    assert len(seen) == 1


def test_the_shape_only_run_leaves_nothing_in_containers_or_random_states():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.queue, self.space = collections.deque(), types.SimpleNamespace(n=0)
            self.pair = ([], 1)

        def forward(self, x):
            self.queue.append(x)
            self.space.n += 1
            self.pair[0].append(random.random())
            return x

    net, state = Keeping(), random.getstate()

    nnmagic.summary(net, torch.ones(2))

    assert (len(net.queue), net.space.n, net.pair) == (0, 0, ([], 1))
    assert random.getstate() == state


def test_an_exception_that_refuses_everything_goes_on():
    class RefusingError(Exception):
        def __str__(self):
            raise ValueError

        def add_note(self, note):
            raise ValueError

    error = RefusingError()

    def fail(x):
        raise error

    for run in (nnmagic.trace, nnmagic.summary):
        with pytest.raises(RefusingError) as caught:
            run(Applying(fail), torch.ones(1))
        assert caught.value is error


def test_the_users_own_error_is_not_taken_for_a_want_of_values():
    def fail(x):
        raise ValueError("convert the labels to numpy first")

    with pytest.raises(ValueError, match="labels to numpy"):
        nnmagic.summary(Applying(fail), torch.ones(1))
    assert nnmagic.summary(Applying(lambda x: torch.tensor(x.numpy())), torch.ones(1)).rows


def test_flops_are_counted_in_inference_mode_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.rand(1, 3, 8)
    expected = nnmagic.summary(layer, x).total_flops

    with torch.inference_mode():
        assert nnmagic.summary(layer, x).total_flops == expected > 0


def test_norms_are_no_products_and_vectors_are():
    net = Applying(lambda x, v: nn.functional.normalize(x) @ v)

    assert nnmagic.summary(net, torch.rand(3, 4), torch.rand(4)).total_flops == 2 * 3 * 4


def test_a_write_that_no_version_counts_is_seen():
    def double(x):
        x.data.mul_(2)
        return x

    net = nn.Sequential(nn.Identity(), Applying(double))

    assert nnmagic.trace(net, torch.ones(2))["1"].max == 2


def test_views_of_one_storage_are_counted_together():
    flat = torch.zeros(100)
    net = nn.Module()
    net.a, net.b = nn.Parameter(flat[:50]), nn.Parameter(flat[50:])

    assert nnmagic.params(net).total_bytes == 400


def test_a_containers_own_parameters_are_counted():
    class Owning(nn.ModuleList):
        def __init__(self):
            super().__init__([nn.Linear(2, 2)])
            self.scale = nn.Parameter(torch.ones(7))

    net = nn.Module()
    net.parts = Owning()
    net.forward = lambda x: net.parts[0](x) * net.parts.scale[0]

    summary = nnmagic.summary(net, torch.rand(1, 2))

    assert sum(row.own_params for row in summary.rows) == summary.total_params == 13


@pytest.mark.parametrize("values", [[0, 1e-310], [-1.7e308, 1.7e308]])
def test_values_at_the_limits_of_float64_are_drawn(values):
    trace = nnmagic.trace(nn.Identity(), torch.tensor(values, dtype=torch.float64))

    assert trace[""].outputs[0].histogram.counts == (1, *[0] * 8, 1)
    assert str(trace)


def test_after_inf_everything_inherits():
    net = nn.Sequential(Applying(torch.log), nn.Linear(2, 2))

    table = nnmagic.trace(net, torch.zeros(1, 2)).drawn(text=True)

    assert table.cells("flags")[1] == "2 Inf, made here from 0.000 … 0.000"
    assert table.cells("flags")[2].endswith("inherited")


def test_a_caught_failure_before_an_uncaught_one_is_told_apart():
    class Retrying(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(3, 3)

        def forward(self, x):
            try:
                self.a(x)
            except RuntimeError:
                self.b(x)

    with pytest.raises(RuntimeError), nnmagic.tracing() as trace:
        Retrying()(torch.rand(1, 5))

    messages = {row.label: row.message for row in trace.drawn(text=True).rows}
    assert messages["a"] == "FAILED, caught: RuntimeError"
    assert messages["Retrying"] == "FAILED inside"


def test_keys_of_a_dict_keep_nothing_alive():
    layer = nn.Linear(2, 2)

    shape = nnmagic.trace(Applying(lambda x: {layer: x, "a": x}), torch.ones(1))[""].output_shape

    assert all(isinstance(key, str) for key in shape)


def test_a_dataclass_argument_goes_to_meta():
    from dataclasses import dataclass

    @dataclass
    class Batch:
        x: torch.Tensor

    net = nn.Linear(2, 3)
    net.forward = lambda batch: nn.functional.linear(batch.x, net.weight)

    assert nnmagic.summary(net, Batch(torch.rand(4, 2))).rows[0].output_shape == (4, 3)


def test_the_default_network_is_float32_and_trainable_in_any_mode():
    from nnmagic.tutorial import forget_default_network

    forget_default_network()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            network = nnmagic.default_network()
    finally:
        torch.set_default_dtype(torch.float32)

    weight = network.linear_relu_stack[0].weight
    assert weight.dtype == torch.float32
    assert not weight.is_inference()


def test_numpy_and_torch_agree_on_the_share_of_zeros():
    x = torch.ones(10)
    x[3] = 0

    assert nnmagic.trace(nn.Identity(), x)[""].zeros == np.float64(0.1)


def test_two_embeddings_get_ids_that_both_have():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.users, self.items = nn.Embedding(50, 4), nn.Embedding(30, 4)

        def forward(self, user, item):
            return (self.users(user) * self.items(item)).sum(-1)

    assert nnmagic.trace(Pair()).output.shape == (1, 16)
