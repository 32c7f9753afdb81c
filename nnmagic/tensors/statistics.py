"""The statistics of many values, a piece at a time, exact to ten digits."""

from collections.abc import Iterable
from math import frexp, inf, sqrt
from typing import Any

import numpy as np

from nnmagic.records.tally import Tally
from nnmagic.records.tensor import Statistics
from nnmagic.tensors.kernel import statistics_of_floats

PIECE = 1 << 18
"""So many values stay in a processor's cache while they are read several times."""

SMALL = 1 << 53
"""Integers up to this one are exact in float64."""


def count(tally: Tally, values: np.ndarray, *, fast: bool) -> None:
    """Count values, at least one, into a tally."""
    compiled = statistics_of_floats(values) if fast else None
    if compiled is not None:
        low, high, mean, std, share = compiled[:5]
        size = values.size
        spread = std * sqrt((size - 1) / size) if size > 1 else 0.0
        tally.merge(size, round(share * size), low, high, mean, spread)
        return
    low, high = np.minimum.reduce(values).item(), np.maximum.reduce(values).item()
    if not (-inf < low and high < inf):  # NaN makes both NaN
        finite = values[np.isfinite(values)]
        nan = int(np.count_nonzero(np.isnan(values)))
        tally.nan += nan
        tally.infinite += values.size - finite.size - nan
        tally.negative_inf += int(np.count_nonzero(values == -inf))
        if finite.size:
            count(tally, finite, fast=fast)
        return
    zeros = int(np.count_nonzero(values == 0)) if low <= 0 <= high else 0
    tally.merge(values.size, zeros, low, high, *moments(values, low, high))


def statistics_of(
    pieces: Iterable[np.ndarray], *, repeats: int = 1, zeros: int = 0, fast: bool = True
) -> Statistics:
    """Return the statistics of values that come in pieces.

    Args:
        pieces: one-dimensional arrays of PIECE values at most, of any real dtype.
        repeats: how many times each value stands in its tensor.
        zeros: how many zeros there are besides.
        fast: whether floats may be read by compiled code.
    """
    tally = Tally()
    for piece in pieces:
        count(tally, piece, fast=fast)
    tally.merge(zeros, zeros, 0.0, 0.0, 0.0, 0.0)
    return tally.statistics(repeats)


def moments(values: np.ndarray, low: Any, high: Any) -> tuple[float, float]:
    """Return the mean and the standard deviation (correction 0) of finite values.

    Args:
        values: at least one.
        low: the least of them.
        high: the greatest.
    """
    if low == high:
        return float(low), 0.0
    if values.dtype.kind != "f":
        return _integer_moments(values, low, high)
    return exact_moments(values.astype(np.float64), max(-low, high))


def exact_moments(values: np.ndarray, largest: float) -> tuple[float, float]:
    """Return mean and standard deviation (correction 0) in float64, in two passes.

    Args:
        values: float64, overwritten.
        largest: the greatest absolute value.
    """
    scale = 1.0
    if largest and not 1e-100 < largest < 1e100:  # squares would not fit
        scale = 2.0 ** (frexp(largest)[1] - 1)  # no digit is lost by a power of two
        values /= scale
    size = values.size
    mean = float(np.add.reduce(values)) / size
    values -= mean
    rest = float(np.add.reduce(values)) / size  # what the first sum rounded away
    squares = np.add.reduce(np.square(values, out=values))
    variance = float(squares) / size - rest * rest
    return (mean + rest) * scale, sqrt(max(variance, 0.0)) * scale


def _integer_moments(values: np.ndarray, low: int, high: int) -> tuple[float, float]:
    if values.dtype.itemsize < 8 or max(-low, high) <= SMALL:
        return exact_moments(values.astype(np.float64), max(-low, high))
    above = values.view(np.uint64) - np.uint64(low % 2**64)  # wraps to the distance from the least
    mean, std = exact_moments(above.astype(np.float64), high - low)
    return low + mean, std
