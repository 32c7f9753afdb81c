"""The statistics of values that come in parts, put together."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import hypot, inf, isfinite, isnan, nan, sqrt

from nnmagic.records.tensor import Statistics


@dataclass(slots=True)
class Tally:
    """The statistics of the values counted so far.

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


def merged(parts: Iterable[tuple[Statistics, int]]) -> Statistics | None:
    """Return the statistics of a tensor from those of its parts; None where one is unknown.

    Counts, min and max are exact; mean and std are to the last digits of a double.

    Args:
        parts: the statistics of each part, all of its values measured, and how many it has.
    """
    tally = Tally()
    for numbers, numel in parts:
        if not numel:
            continue
        if isnan(numbers.nan) or isnan(numbers.inf):
            return None
        finite = numel - int(numbers.nan) - int(numbers.inf)
        tally.nan += int(numbers.nan)
        tally.infinite += int(numbers.inf)
        tally.negative_inf += int(numbers.negative_inf)
        zeros = round(numbers.zeros * numel)
        if isnan(numbers.mean if finite == 1 else numbers.std) and finite:
            return None
        std = numbers.std * sqrt((finite - 1) / finite) if finite > 1 else 0.0
        tally.merge(finite, zeros, numbers.min, numbers.max, numbers.mean, std)
    return tally.statistics()
