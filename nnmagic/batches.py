"""The statistics of many small tensors at once, from copies of their values."""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from math import isnan, nan

import numpy as np

from nnmagic.trace_log import NOTHING_KNOWN

LARGEST, SMALLEST = 1e200, 1e-200
"""Between them a mean square may lie: no square over- or underflowed."""

KEPT = 1e-8
"""A variance that is a smaller share of the mean square has lost digits in the subtraction."""


def put(numbers: array, rows: Sequence[int], table: np.ndarray) -> list[int]:
    """Write the statistics of many tensors into the column of all; return those still unknown.

    Args:
        numbers: doubles, the statistics of one tensor after those of the other.
        rows: the numbers of the tensors.
        table: float64, (rows, statistics).
    """
    column = np.frombuffer(numbers, dtype=np.float64).reshape(-1, table.shape[1])
    column[rows] = table
    return [row for row, low in zip(rows, table[:, 0].tolist(), strict=True) if isnan(low)]


def statistics_of_many(form: str, buffers: Sequence[bytes]) -> np.ndarray:
    """Return the statistics of each buffer, from sums of the values and their squares in float64.

    Args:
        form: the format of the values, `"f"` or `"d"`.
        buffers: the values of each tensor, at least one.

    Returns:
        float64, (buffers, statistics), in the order of `Statistics`; NaN in the rows of tensors
        that need another way: with values that are not finite, or too large or small to be squared,
        or with a spread that is lost beside the mean.
    """
    values = np.frombuffer(b"".join(buffers), dtype=form)
    sizes = [len(each) // values.itemsize for each in buffers]
    starts = list(accumulate(sizes[:-1], initial=0))
    terms = np.empty((3, values.size))
    table = np.zeros((len(NOTHING_KNOWN), len(buffers)))
    with np.errstate(all="ignore"):
        terms[0] = values
        np.multiply(terms[0], terms[0], out=terms[1])
        np.equal(values, 0, out=terms[2])
        mean, mean_square, table[4] = np.add.reduceat(terms, starts, axis=1) / sizes
        table[0] = low = np.minimum.reduceat(values, starts)
        table[1] = np.maximum.reduceat(values, starts)
        constant = table[0] == table[1]
        variance = mean_square - mean * mean
        variance[constant] = 0
        table[2] = np.where(constant, low, mean)
        table[3] = np.sqrt(variance * [n / (n - 1) if n > 1 else nan for n in sizes])
        apart = (variance > KEPT * mean_square) & (mean_square > SMALLEST)
        simple = (mean_square < LARGEST) & (apart | constant)
    if not simple.all():
        table[:, ~simple] = nan
    return table.T
