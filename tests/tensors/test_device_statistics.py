"""The CPU stands in for a device, whose kernels are the same operations.

`python -m benchmarks.accelerator` names a real one in NNMAGIC_TEST_DEVICE.
"""

import os
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from exact_statistics import COMPLEX, FLOATS, INTEGERS, check, exact, noise_of
from hypothesis import example, given
from hypothesis import strategies as st

from nnmagic.records.kept_slices import PICTURE_VALUES, WHOLE
from nnmagic.records.tensor import tensor_record
from nnmagic.tensors import device_measure, device_statistics, devices
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import metadata_of

DEVICE = os.environ.get("NNMAGIC_TEST_DEVICE", "cpu")
WIDE = [torch.float64, torch.float32]
NARROW = [dtype for dtype in INTEGERS + FLOATS if dtype is not torch.float64]
CASES = [(torch.float64, dtype) for dtype in INTEGERS + FLOATS + COMPLEX]
CASES += [(torch.float32, dtype) for dtype in NARROW]

every_dtype = pytest.mark.parametrize(("wide", "dtype"), CASES, ids=str)


@contextmanager
def device(*, wide=torch.float64, copied=0, piece=devices.PIECE):
    """Let the tensors of the CPU be taken for those of a device."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ComplexHalf support is experimental")
        patch.setattr(devices, "on_accelerator", lambda tensor: not tensor.is_meta)
        patch.setattr(device_measure, "widest", lambda device: wide)
        patch.setattr(device_measure, "COPIED", copied)
        patch.setattr(devices, "PIECE", piece)
        yield


def record(tensor, picture_values=0, **options):
    there = tensor.to(DEVICE)
    begun = device_measure.begin(there, picture_values=picture_values, **options)
    measured = begun.finish(*devices.read_together(begun.tensors))
    cut = device_measure.begin_picture(there, picture_values)
    if cut is not None:
        picture = cut.finish(*devices.read_together([cut.values]))
        measured = measured._replace(samples=measured.samples._replace(picture=picture))
    return tensor_record(metadata_of(tensor), *measured, subsample_size(tensor, **options))


def on_the_host(tensor, **options):
    measured = measure(tensor, **options)
    return tensor_record(metadata_of(tensor), *measured, subsample_size(tensor, **options))


def subsample_size(tensor, max_values=None, **others):
    return max_values if max_values is not None and max_values < tensor.numel() else None


@every_dtype
@given(data=st.binary(max_size=96))
@example(data=b"")
def test_statistics_are_exact_for_any_bits_of_every_dtype(wide, dtype, data):
    tensor = torch.empty(0, dtype=dtype)
    size = tensor.element_size()
    if len(data) >= size:
        bits = np.frombuffer(data[: len(data) // size * size], np.uint8)
        tensor = torch.tensor(bits & 1 if dtype is torch.bool else bits).view(dtype)

    with device(wide=wide, piece=5):
        found = record(tensor)

    check(found, exact(tensor))


@every_dtype
@pytest.mark.parametrize("piece", [1000, 1 << 20])
def test_statistics_of_a_large_tensor_are_exact_for_every_dtype(wide, dtype, piece):
    tensor = noise_of(dtype, 20_001)

    with device(wide=wide, piece=piece):
        found = record(tensor)

    check(found, exact(tensor))


@pytest.mark.parametrize("dtype", [torch.complex32, torch.complex64], ids=str)
def test_a_device_without_float64_rounds_absolute_values(dtype):
    tensor = torch.randn(5000, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    expected = on_the_host(tensor.to(dtype))

    with device(wide=torch.float32):
        found = record(tensor.to(dtype))

    for name in ("min", "max", "mean", "std"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)


@pytest.mark.parametrize("wide", WIDE, ids=str)
@pytest.mark.parametrize("low", [2**62, -(2**63), 2**53 + 1, -5, 0])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64], ids=str)
def test_integers_that_no_float_holds_are_exact(dtype, low, wide):
    if dtype is torch.uint64:
        low %= 2**63
    tensor = torch.tensor([low + each for each in (0, 1, 3, 3, 1000)], dtype=dtype)

    with device(wide=wide):
        found = record(tensor)

    check(found, tensor.tolist())


@pytest.mark.parametrize("wide", WIDE, ids=str)
@pytest.mark.parametrize("mean", [0, 1, 100, 1e4, -1e4])
@pytest.mark.parametrize("spoiled", [False, True])
def test_a_small_spread_around_a_large_mean_is_exact(wide, mean, spoiled):
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(1)).double()
    tensor = (noise + mean).float()
    if spoiled:
        tensor[::7], tensor[1::7] = float("nan"), -float("inf")

    with device(wide=wide):
        found = record(tensor)

    check(found, exact(tensor))


@pytest.mark.parametrize("wide", WIDE, ids=str)
def test_an_outlier_takes_no_digits_from_the_rest(wide):
    tensor = torch.randn(100_000, generator=torch.Generator().manual_seed(1))
    tensor[5] = -1000.0

    with device(wide=wide):
        found = record(tensor)

    check(found, exact(tensor))


LIMITS = {
    torch.float32: (1e-44, 1e-30, 1e-20, 1e18, 1e30, 3e38),
    torch.float64: (5e-324, 1e-300, 1e-160, 1e160, 1.7e308),
    torch.float16: (6e-8, 6e4),
    torch.bfloat16: (1e-40, 3e38),
}


@pytest.mark.parametrize(
    ("dtype", "scale", "wide"),
    [
        (dtype, scale, wide)
        for dtype, scales in LIMITS.items()
        for scale in scales
        for wide in WIDE
        if dtype is not torch.float64 or wide is not torch.float32  # no device has that
    ],
    ids=str,
)
def test_values_near_the_limits_of_a_dtype_are_exact(dtype, scale, wide):
    noise = torch.rand(5000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    tensor = (noise * 2 * scale - scale).to(dtype)

    with device(wide=wide):
        found = record(tensor)

    check(found, exact(tensor))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_greatest_values_are_exact(dtype):
    greatest = torch.finfo(dtype).max
    tensor = torch.tensor([greatest, -greatest, greatest / 2, 1.0], dtype=dtype)

    with device(wide=dtype):
        found = record(tensor)

    check(found, exact(tensor))


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, 2),
    "with gaps": lambda x: x[:, ::2, 1:],
    "a column": lambda x: x[:, 3, 0],
    "expanded": lambda x: x[:, :1].expand(-1, 50, -1),
    "flipped parts": lambda x: x.flip(1)[1:],
    "overlapping": lambda x: x.reshape(-1).unfold(0, 5, 2),
    "channels last": lambda x: x[None].to(memory_format=torch.channels_last),
    "0-d": lambda x: x[0, 0, 0],
    "empty": lambda x: x[:0],
    "imaginary": lambda x: torch.complex(x, x + 1).conj().imag,
    "conjugate": lambda x: torch.complex(x, x + 1).conj(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [331, 1000, 1 << 20])
def test_a_tensor_is_measured_as_on_the_host_however_it_lies_in_memory(layout, piece):
    tensor = LAYOUTS[layout](torch.randn(20, 30, 40, generator=torch.Generator().manual_seed(0)))
    expected = on_the_host(tensor, picture_values=PICTURE_VALUES)

    with device(piece=piece):
        measured = record(tensor, keep="none")
    with device(piece=piece, copied=WHOLE):
        found = record(tensor, picture_values=PICTURE_VALUES)

    check(measured, exact(tensor))
    assert (found.leading, found.picture) == (expected.leading, expected.picture)
    assert found.spread == expected.spread


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options", [{"keep": "none"}, {"whole_rows": 3}, {"max_values": 256}, {}], ids=str
)
@pytest.mark.parametrize("copied", [WHOLE, 4096])
def test_what_is_kept_is_what_the_host_keeps(layout, options, copied):
    tensor = LAYOUTS[layout](torch.randn(20, 30, 40, generator=torch.Generator().manual_seed(0)))
    expected = on_the_host(tensor, **options)

    with device(copied=copied):
        found = record(tensor, **options)

    assert (found.leading, found.spread) == (expected.leading, expected.spread)
    for name in ("min", "max", "mean", "std", "zeros", "measured"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one == (other if other is None else pytest.approx(other, rel=1e-6, abs=1e-9)), name


def test_no_piece_is_larger_than_is_allowed():
    tensor = torch.randn(4, 6, 50)[:, ::2, 1:]

    with device(piece=10):
        sizes = [part.numel() for part in device_statistics.pieces(tensor)]

    assert max(sizes) <= 10
    assert sum(sizes) == tensor.numel()
