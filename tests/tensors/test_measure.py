import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from exact_statistics import COMPLEX, FLOATS, INTEGERS, check, exact, noise_of
from hypothesis import example, given
from hypothesis import strategies as st
from measured import record
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nnmagic.records.kept_slices import PICTURE_VALUES, WHOLE
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import version_of


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX, ids=str)
@given(data=st.binary(max_size=96))
@example(data=b"")
def test_statistics_are_exact_for_any_bits_of_every_dtype(dtype, data):
    tensor = torch.empty(0, dtype=dtype)
    size = tensor.element_size()
    if len(data) >= size:
        bits = np.frombuffer(data[: len(data) // size * size], np.uint8)
        tensor = torch.tensor(bits & 1 if dtype is torch.bool else bits).view(dtype)

    check(record(tensor), exact(tensor))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX, ids=str)
@pytest.mark.parametrize("size", [WHOLE + 1, 5000, 140_001])
def test_statistics_of_a_large_tensor_are_exact_for_every_dtype(dtype, size):
    tensor = noise_of(dtype, size)

    check(record(tensor), exact(tensor))


@pytest.mark.parametrize("low", [2**62, -(2**63), 2**53 + 1, -5])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64], ids=str)
def test_integers_that_no_float_holds_are_exact(dtype, low):
    if dtype is torch.uint64:
        low %= 2**63
    above = [0, 1, 3, 3, 1000]
    tensor = torch.tensor([low + each for each in above], dtype=dtype)

    found = record(tensor)

    check(found, tensor.tolist())
    assert found.std == pytest.approx(np.std(above, ddof=1), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mean", [0, 1, 100, 1e4, -1e4, 1e6])
@pytest.mark.parametrize("size", [100, 20_000])
def test_a_small_spread_around_a_large_mean_is_exact(dtype, mean, size):
    noise = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tensor = (noise + mean).to(dtype)

    check(record(tensor), exact(tensor))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float32, each) for each in (1e-44, 1e-30, 1e-20, 1e18, 1e30, 3e38)]
    + [(torch.float64, each) for each in (5e-324, 1e-300, 1e-160, 1e160, 1e308)]
    + [(torch.float16, each) for each in (6e-8, 6e4)]
    + [(torch.bfloat16, each) for each in (1e-40, 3e38)],
)
def test_values_near_the_limits_of_a_dtype_are_exact(dtype, scale):
    noise = torch.rand(5000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    tensor = (noise * 2 * scale - scale).to(dtype)

    check(record(tensor), exact(tensor))


def test_an_empty_tensor_has_no_mean():
    found = record(torch.empty(0, 3))

    assert (found.numel, found.mean, found.zeros, found.nan) == (0, None, None, 0)


def test_a_0d_tensor_has_a_mean_and_no_spread():
    found = record(torch.tensor(2.5))

    assert (found.shape, found.mean, found.std, found.values) == ((), 2.5, None, 2.5)


def test_an_expanded_tensor_is_measured_as_if_it_were_whole():
    tensor = torch.randn(3, 1).expand(3, 5000)

    check(record(tensor), exact(tensor))
    assert record(torch.ones(1).expand(10**12)).std == 0.0


SHAPED = {
    "transposed": lambda: torch.randn(30, 40, 5).transpose(0, 2),
    "cut": lambda: torch.randn(30, 40, 5).transpose(0, 2)[::2, :, 1:],
    "channels last": lambda: torch.randn(2, 3, 20, 20).to(memory_format=torch.channels_last),
    "negative": lambda: torch.randn(600, 2, dtype=torch.complex64).conj().imag,
    "conjugate": lambda: torch.randn(1100, dtype=torch.complex64).conj(),
    "half, transposed": lambda: torch.randn(30, 50).half().t(),
    "bfloat16, expanded": lambda: torch.randn(3, 1).bfloat16().expand(3, 500),
    "in a graph": lambda: torch.randn(40, 40, requires_grad=True) * 2,
    "of inference mode": torch.inference_mode()(lambda: torch.randn(40, 40)),
    "mkldnn": lambda: torch.randn(40, 40).to_mkldnn(),
    "broadcast view": lambda: torch.randn(5).expand(3, 4, 5)[:, 1:],
}


@pytest.mark.parametrize("make", SHAPED.values(), ids=SHAPED)
def test_a_tensor_is_measured_whole_however_it_lies_in_memory(make):
    tensor = make()
    dense = tensor.to_dense() if tensor.is_mkldnn else tensor

    found = record(tensor)

    check(found, exact(dense.detach()))


class Functions(TorchFunctionMode):
    def __init__(self, seen):
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


class Logging(torch.Tensor):
    seen: ClassVar = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})


def kinds():
    noise = torch.randn(100, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            noise,
            noise[:3, :3],
            noise.t(),
            noise.bfloat16(),
            noise.to(torch.complex64),
            noise.relu().to_sparse(),
            noise.to_sparse_csr(),
            torch.nested.nested_tensor([noise, noise[:5]]),
            torch.nested.nested_tensor([noise, noise[:5]], layout=torch.jagged),
            torch.quantize_per_tensor(noise, 0.1, 0, torch.qint8),
            noise.clone().requires_grad_(),
        ]


@pytest.mark.parametrize("tensor", kinds(), ids=lambda each: f"{each.dtype}, {each.layout}")
def test_no_code_of_the_users_sees_a_measurement(tensor):
    seen = []
    with Functions(seen), Dispatches(seen):
        found = record(tensor, picture_values=PICTURE_VALUES)
        record(tensor, whole_rows=2)
        record(tensor, max_values=100)
        version_of(tensor)

    assert seen == []
    assert found.mean == record(tensor).mean


def test_a_subclass_that_logs_its_functions_sees_no_measurement():
    plain = torch.randn(100, 100)
    tensor = plain.as_subclass(Logging)
    Logging.seen.clear()

    found = record(tensor, picture_values=PICTURE_VALUES)
    version_of(tensor)

    assert Logging.seen == []
    check(found, exact(plain))


@pytest.mark.parametrize("tensor", kinds(), ids=lambda each: f"{each.dtype}, {each.layout}")
def test_a_measurement_changes_nothing(tensor):
    values = tensor._values if tensor.is_nested and tensor.layout is torch.jagged else tensor
    before = values.dequantize() if values.is_quantized else values.detach().clone()
    state = tensor._version, tensor.requires_grad, tensor.grad, tensor.layout

    for options in (
        {},
        {"keep": "all"},
        {"whole_rows": 2},
        {"picture_values": PICTURE_VALUES},
        {"max_values": 100},
    ):
        measure(tensor, **options)

    after = values.dequantize() if values.is_quantized else values.detach()
    assert (tensor._version, tensor.requires_grad, tensor.grad, tensor.layout) == state
    if tensor.is_nested and tensor.layout is torch.strided:
        before, after = torch.cat(before.unbind()), torch.cat(after.unbind())
    assert torch.equal(before.to_dense(), after.to_dense())


def test_a_coalesced_view_is_not_forced_on_a_sparse_tensor():
    tensor = torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,), check_invariants=True)

    measure(tensor)

    assert not tensor.is_coalesced()
