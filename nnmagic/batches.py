"""The statistics of many small tensors at once, from copies of their values."""

from array import array
from collections.abc import Sequence
from math import isnan, nan

import numpy as np

from nnmagic.trace_log import NOTHING_KNOWN

SMALLEST = 1e-200
"""A smaller mean square may have lost squares; one that overflows fails every comparison."""

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
    sizes = np.array([len(each) // values.itemsize for each in buffers])
    starts = sizes.cumsum() - sizes
    exact = values.astype(np.float64)
    table = np.zeros((len(NOTHING_KNOWN), len(buffers)))
    low, high, mean, std, zeros, *_ = table
    with np.errstate(all="ignore"):
        low[:] = np.minimum.reduceat(values, starts)
        high[:] = np.maximum.reduceat(values, starts)
        mean[:] = np.add.reduceat(exact, starts) / sizes
        mean_square = np.add.reduceat(exact * exact, starts) / sizes
        zeros[:] = np.add.reduceat((values == 0).astype(np.float64), starts) / sizes
        variance = mean_square - mean * mean
        std[:] = np.sqrt(variance * sizes / (sizes - 1))
        simple = (variance > KEPT * mean_square) & (mean_square > SMALLEST)
    if not simple.all():
        constant = ~simple & (low == high) & np.isfinite(low)
        mean[constant] = low[constant]
        std[constant] = np.where(sizes > 1, 0, nan)[constant]
        table[:, ~(simple | constant)] = nan
    return table.T
