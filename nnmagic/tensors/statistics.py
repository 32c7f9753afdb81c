"""The statistics of many values, a piece at a time, exact to ten digits."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import frexp, hypot, inf, isfinite, nan, sqrt
from typing import Any

import numpy as np

from nnmagic.records.tensor import Statistics
from nnmagic.tensors.kernel import statistics_of_floats

PIECE = 1 << 18
"""So many values stay in a processor's cache while they are read several times."""

SMALL = 1 << 53
"""Integers up to this one are exact in float64."""


@dataclass(slots=True)
class Tally:
    """The statistics of the values seen so far.

    Attributes:
        zeros: how many values are zero.
        nan: how many are NaN.
        infinite: how many are +Inf or -Inf.
        negative_inf: how many of those are -Inf.
        finite: how many are finite; the rest is over these.
        low: the least.
        high: the greatest.
        mean: the mean.
        std: the standard deviation, correction 0.
    """

    zeros: int = 0
    nan: int = 0
    infinite: int = 0
    negative_inf: int = 0
    finite: int = 0
    low: float = inf
    high: float = -inf
    mean: float = 0.0
    std: float = 0.0

    def add(self, values: np.ndarray, *, fast: bool) -> None:
        """Count values, at least one."""
        compiled = statistics_of_floats(values) if fast else None
        if compiled is not None:
            low, high, mean, std, share = compiled[:5]
            size = values.size
            spread = std * sqrt((size - 1) / size) if size > 1 else 0.0
            self.merge(size, round(share * size), low, high, mean, spread)
            return
        low, high = np.minimum.reduce(values).item(), np.maximum.reduce(values).item()
        if not (-inf < low and high < inf):  # NaN makes both NaN
            finite = values[np.isfinite(values)]
            nan = int(np.count_nonzero(np.isnan(values)))
            self.nan += nan
            self.infinite += values.size - finite.size - nan
            self.negative_inf += int(np.count_nonzero(values == -inf))
            if finite.size:
                self.add(finite, fast=fast)
            return
        zeros = int(np.count_nonzero(values == 0)) if low <= 0 <= high else 0
        self.merge(values.size, zeros, low, high, *moments(values, low, high))

    def merge(
        self, number: int, zeros: int, low: float, high: float, mean: float, std: float
    ) -> None:
        """Take in the statistics of more finite values.

        Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm
        for computing sample variances", 1979; with standard deviations in place of sums of
        squares, which would overflow.
        """
        if not number:
            return
        together = self.finite + number
        before, now = self.finite / together, number / together
        apart = mean / 2 - self.mean / 2  # the difference itself may overflow
        between = apart * (2 * sqrt(before * now))
        self.std = hypot(self.std * sqrt(before), std * sqrt(now), between)
        self.mean = self.mean * before + mean * now
        self.finite = together
        self.zeros += zeros
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))

    def statistics(self, repeats: int = 1) -> Statistics:
        """Return the statistics of all values, each of which stands so many times in its tensor."""
        numel = self.finite + self.nan + self.infinite
        zeros = self.zeros / numel if numel else nan
        counts = self.nan * repeats, self.infinite * repeats, self.negative_inf * repeats
        if not self.finite:
            return Statistics(nan, nan, nan, nan, zeros, *counts)
        std, number = nan, self.finite * repeats
        if number > 1:
            std = self.std * sqrt(number / (number - 1))
        std = std if isfinite(std) else nan  # beyond the greatest double
        return Statistics(self.low, self.high, self.mean, std, zeros, *counts)


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
        tally.add(piece, fast=fast)
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
