import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.records.tensor_log import TensorLog
from nnmagic.tensors.writer import TensorWriter


class Returning(nn.Module):
    def __init__(self, tensors):
        super().__init__()
        self.tensors = tensors

    def forward(self, x):
        return self.tensors


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return [
        torch.randn(7),
        torch.randn(3, 5).double() * 1e-160,
        torch.randn(30, 30).t(),
        torch.tensor(2.5),
        torch.tensor([1.0, float("nan"), -float("inf")]),
        torch.full((4,), 1e30),
        torch.randn(4, 1).expand(4, 9),
        torch.zeros(6),
        torch.randn(5).requires_grad_() * 2,
        torch.randn(3, 700),
        torch.randn(2, 200_000).relu(),
        torch.randn(40, 50).double() + 1e4,
        torch.randn(40, 50).t(),
        torch.zeros(2000),
        torch.full((2000,), float("nan")),
        torch.randn(2000, dtype=torch.bfloat16),
    ]


def written(tensors, max_values, *, scores):
    writer = TensorWriter(TensorLog(), "sample")
    writer.max_values = max_values
    numbers = [writer.write(tensor, series=0, scores=scores) for tensor in tensors]
    writer.finish()
    return [writer.log.record(number) for number in numbers]


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("max_values", [None, 256, 1500])
def test_usual_tensors_measured_in_the_fast_ways_are_as_measured_in_the_slow_one(
    tensors, monkeypatch, max_values, scores
):
    together = written(tensors, max_values, scores=scores)
    monkeypatch.setattr(TensorWriter, "_write_floats", lambda self, *args, **options: None)

    alone = written(tensors, max_values, scores=scores)

    for one, other in zip(together, alone, strict=True):
        exact = ("min", "max", "zeros", "nan", "inf", "negative_inf", "shape", "dtype", "measured")
        for name in (*exact, "leading", "spread", "picture"):
            assert getattr(one, name) == getattr(other, name), name
        size = max(abs(other.mean or 0), other.std or 0)
        assert one.mean == (
            None if other.mean is None else pytest.approx(other.mean, abs=1e-7 * size)
        )
        assert one.std == (None if other.std is None else pytest.approx(other.std, rel=1e-7))


def test_a_trace_that_is_read_while_it_fills_has_all_numbers():
    with nnmagic.tracing() as t:
        y = nn.ReLU()(torch.tensor([1.0, 3.0]))
        first = t[""].mean
        nn.Tanh()(y)

    assert first == 2.0
    assert [call.mean for call in t] == [2.0, torch.tanh(y).double().mean().item()]


def test_many_small_tensors_are_measured_before_the_run_ends():
    net = nn.Sequential(*[nn.ReLU() for _ in range(300)])
    x = torch.rand(1000)

    with nnmagic.tracing() as t:
        net(x)
        first = t.log.tensors.statistics_of(0)

    assert first.mean == pytest.approx(x.double().mean().item())
    assert all(call.max == x.max() for call in t)


@pytest.mark.parametrize("start", [0, 40])
@pytest.mark.parametrize("size", [50, 5000])
def test_a_storage_that_was_cut_is_not_read_past_its_end(size, start):
    whole = torch.rand(start + size)
    x = whole[start:]
    whole.untyped_storage().resize_(4 * (start + size - 1))

    with nnmagic.tracing() as t:
        nn.Identity()(x)

    assert t[""].mean is None
    assert t[""].outputs[0].unknown == "its storage was freed"


def test_the_numbers_of_many_large_tensors_are_each_ones_own():
    net = nn.Sequential(*[nn.Threshold(i, i) for i in range(300)])

    with nnmagic.tracing() as t:
        net(torch.zeros(1100))
        early = t.log.tensors.statistics_of(7)  # leaves no room behind the numbers that are there
        net(torch.ones(1100))

    assert early.max == 6
    assert [call.max for call in t if call.layer] == [*range(300), 1, *range(1, 300)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bfloat16])
@pytest.mark.parametrize("size", [5, 5000])
def test_a_network_may_resize_what_was_measured(dtype, size):
    x = torch.ones(2, size, dtype=dtype)

    nnmagic.trace(nn.Identity(), x)
    nnmagic.trace(nn.Identity(), x[:, ::2])

    x.untyped_storage().resize_(0)
    assert x.resize_(3).shape == (3,)


def test_a_network_may_resize_its_parameters_and_buffers_afterwards():
    net = nn.BatchNorm1d(3)

    nnmagic.trace(net, torch.rand(4, 3))
    nnmagic.params(net)

    for tensor in (*net.parameters(), *net.buffers()):
        assert tensor.untyped_storage().resizable()


def test_a_tensor_without_memory_is_read_as_zeros():
    zeros = torch._efficientzerotensor(5)

    found = nnmagic.trace(nn.Identity(), zeros)[""].outputs[0]

    assert (found.max, found.zeros) == (0, 1)


@pytest.mark.parametrize("numel", [100, 5000])
@pytest.mark.parametrize("max_values", [None, 64])
def test_no_tensor_with_a_shape_is_taken_for_a_nested_one(max_values, numel):
    writer = TensorWriter(TensorLog(), "sample")
    writer.max_values = max_values

    index = writer.write(torch.rand(2, numel // 2), 0)

    assert not writer.log.record(index).is_nested
