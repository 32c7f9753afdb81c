"""The statistics of a tensor on an accelerator, computed there while the host goes on."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import inf, prod, sqrt
from typing import Any

import torch

from nnmagic.records.tensor import Statistics
from nnmagic.tensors import devices
from nnmagic.tensors.statistics import Tally

LOWEST = -(1 << 63)
"""The least int64."""


@lru_cache
def widest(device: torch.device) -> torch.dtype:
    """Return float64 where a device computes in it, else float32."""
    try:
        torch.ones(1, dtype=torch.float64, device=device).sum()
    except (RuntimeError, TypeError):  # Apple's and some of Intel's do not
        return torch.float32
    return torch.float64


def pieces(values: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield values in one dimension, a bounded number at a time.

    Args:
        values: at least one, with the axes in the order of the memory.
    """
    if values.numel() <= devices.PIECE or values.is_contiguous():
        yield from values.reshape(-1).split(devices.PIECE)
        return
    rows = devices.PIECE // prod(values.shape[1:])
    for each in values.split(rows) if rows else values.unbind():
        yield from pieces(each)


def row_of(values: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    """Return a small tensor on the same device that tells the numbers of a piece.

    No operation depends on what the values are, so that the host never waits for one. NaN and Inf
    are counted and then replaced, since to leave them out would change the shape.

    Args:
        values: a piece, of any dtype that the device can convert.
        wide: in which dtype to compute, `widest` of the device.

    Returns:
        What `statistics_of_rows` understands.
    """
    if not values.is_floating_point() and not values.is_complex():
        return _row_of_integers(values, wide)
    if values.is_complex():
        exact = values.to(torch.complex128 if wide is torch.float64 else torch.complex64).abs()
    else:
        exact = values.to(wide)
    low = exact.nan_to_num(inf, inf, inf).amin()
    high = exact.nan_to_num(-inf, -inf, -inf).amax()
    counts = torch.stack((exact == 0, exact != exact, exact == inf, exact == -inf)).sum(1)
    scale: tuple[torch.Tensor, ...] = ()
    if torch.finfo(values.dtype).max > sqrt(torch.finfo(wide).max):  # a square may overflow
        scale = (_power_of_two(low, high),)
        exact = exact / scale[0]
    numbers = (low, high, *_moments(exact, low / scale[0] if scale else low), *scale)
    return torch.cat((counts.to(wide), torch.stack(numbers)))


def _power_of_two(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return a power of two at most four times below the greatest absolute value."""
    limits = torch.finfo(low.dtype)
    greatest = torch.maximum(-low, high).clamp(4 * limits.tiny, limits.max)
    return (greatest.log2().floor() - 1).exp2()  # a logarithm may be rounded up


def _moments(values: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return a center, and mean and variance of the distances from it, those of NaN and Inf 0."""
    if values.dtype is torch.float64:
        return low, *torch.var_mean(_distances(values, low), correction=0)[::-1]
    # distances from an outlier would have lost digits, and so would squares of those from it
    center = low + _distances(values, low).mean()
    apart = _distances(values, center)
    mean = apart.mean()
    return center, mean, (apart * apart).mean() - mean * mean


def _distances(values: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    return (values - center).nan_to_num_(0.0, 0.0, 0.0)


def _row_of_integers(values: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    if values.dtype is torch.uint64:  # few kernels know it: the least of it becomes that of int64
        exact = values.view(torch.int64) + LOWEST
    else:
        exact = values.to(torch.int64)
    low, high = exact.amin(), exact.amax()
    above = (exact - low).to(wide)
    if values.element_size() == 8:  # the difference may have wrapped
        above = torch.where(above < 0, above + 2.0**64, above)
    zeros = (exact == (LOWEST if values.dtype is torch.uint64 else 0)).sum()
    moments = torch.stack(_moments(above, above.new_zeros(())))
    bits = moments.view(torch.int64 if wide is torch.float64 else torch.int32)
    return torch.cat((torch.stack((zeros, low, high)), bits.to(torch.int64)))


def statistics_of_rows(
    rows: Sequence[torch.Tensor],
    sizes: Sequence[int],
    dtype: torch.dtype,
    wide: torch.dtype,
    times: int = 1,
) -> Statistics:
    """Return the numbers of a tensor from those of its pieces.

    Args:
        rows: what `row_of` returned of each piece, on the host.
        sizes: how many values each piece has.
        dtype: the dtype of the tensor.
        wide: the dtype in which it was measured.
        times: how many times each value stands in it.
    """
    tally = Tally()
    for row, size in zip(rows, sizes, strict=True):
        if row.dtype is torch.int64:
            _add_integers(tally, row, size, -LOWEST if dtype is torch.uint64 else 0, wide)
        else:
            _add(tally, row.tolist(), size)
    return tally.statistics(times)


def _add(tally: Tally, row: list[float], size: int) -> None:
    zeros, nan, positive, negative, low, high, center, mean, variance, *scales = row
    apart = nan + positive + negative  # among the distances these are zeros that do not count
    finite = size - apart
    tally.numel += size
    tally.zeros += int(zeros)
    tally.nan += int(nan)
    tally.negative_inf += int(negative)
    if not finite:
        return
    tally.low, tally.high = min(tally.low, low), max(tally.high, high)
    variance = size / finite * (variance - mean * mean * apart / finite)
    scale = scales[0] if scales else 1.0
    mean = (center + mean * size / finite) * scale
    tally.merge(int(finite), mean, sqrt(max(variance, 0.0)) * scale)


def _add_integers(tally: Tally, row: torch.Tensor, size: int, offset: int, wide: Any) -> None:
    zeros, low, high = row[:3].tolist()
    bits = row[3:] if wide is torch.float64 else row[3:].to(torch.int32)
    center, mean, variance = bits.view(wide).tolist()
    tally.numel += size
    tally.zeros += zeros
    low, high = low + offset, high + offset
    tally.low, tally.high = min(tally.low, float(low)), max(tally.high, float(high))
    tally.merge(size, low + center + mean, sqrt(max(variance, 0.0)))
