"""The statistics of a tensor on an accelerator, computed there while the host goes on."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import inf, prod, sqrt

import torch

from nnmagic.records.tally import Tally
from nnmagic.records.tensor import Statistics
from nnmagic.tensors import devices

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


def sums_of(values: torch.Tensor, wide: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two small tensors on the same device that tell the statistics of a piece.

    No operation depends on what the values are, so that the host never waits for one. NaN and Inf
    are counted and then replaced, since to leave them out would change the shape.

    Args:
        values: a piece, of any dtype that the device can convert.
        wide: in which dtype to compute, `widest` of the device.

    Returns:
        int64: how many values are zero, NaN, +Inf and -Inf; of integers how many are zero, the
        least and the greatest. And, as `wide`, of floats the least and the greatest; then a center,
        mean and variance of the distances from it, and the power of two that these are to be
        multiplied by.
    """
    if not values.is_floating_point() and not values.is_complex():
        return _sums_of_integers(values, wide)
    if values.is_complex():
        exact = values.to(torch.complex128 if wide is torch.float64 else torch.complex64).abs()
    else:
        exact = values.to(wide)
    low = exact.nan_to_num(inf, inf, inf).amin()
    high = exact.nan_to_num(-inf, -inf, -inf).amax()
    counts = torch.stack((exact == 0, exact != exact, exact == inf, exact == -inf)).sum(1)
    scale = torch.ones_like(low)
    if torch.finfo(values.dtype).max > sqrt(torch.finfo(wide).max):  # a square may overflow
        scale = _power_of_two(low, high)
        exact = exact / scale
    return counts, torch.stack((low, high, *_moments(exact, low / scale), scale))


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


def _sums_of_integers(values: torch.Tensor, wide: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
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
    return torch.stack((zeros, low, high)), moments


def statistics_of_sums(
    sums: Iterable[torch.Tensor], sizes: Sequence[int], dtype: torch.dtype, repeats: int = 1
) -> Statistics:
    """Return the statistics of a tensor from the sums of its pieces.

    Args:
        sums: the pairs that `sums_of` returned of each piece, on the host, one after the other.
        sizes: how many values each piece has.
        dtype: the dtype of the tensor.
        repeats: how many times each value stands in it.
    """
    tally, numbers = Tally(), (each.tolist() for each in sums)
    for counts, floats, size in zip(numbers, numbers, sizes, strict=True):
        if dtype.is_floating_point or dtype.is_complex:
            _merge_floats(tally, counts, floats, size)
        else:
            offset = -LOWEST if dtype is torch.uint64 else 0
            zeros, low, high = counts[0], counts[1] + offset, counts[2] + offset
            center, mean, variance = floats
            std = sqrt(max(variance, 0.0))
            tally.merge(size, zeros, low, high, low + center + mean, std)
    return tally.statistics(repeats)


def _merge_floats(tally: Tally, counts: list[int], floats: list[float], size: int) -> None:
    zeros, nan, positive, negative = counts
    low, high, center, mean, variance, scale = floats
    apart = nan + positive + negative  # among the distances these are zeros that do not count
    finite = size - apart
    tally.nan += nan
    tally.infinite += positive + negative
    tally.negative_inf += negative
    if finite:
        variance = size / finite * (variance - mean * mean * apart / finite)
        mean = (center + mean * size / finite) * scale
        tally.merge(finite, zeros, low, high, mean, sqrt(max(variance, 0.0)) * scale)
