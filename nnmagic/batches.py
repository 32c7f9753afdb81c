"""The statistics of many small tensors at once, from copies of their values."""

from array import array
from collections.abc import Sequence

import numpy as np

from nnmagic.trace_log import NOTHING_KNOWN

LARGEST = 1e100
"""Beyond it, and below its inverse, squares of doubles may over- or underflow."""


def put(numbers: array, rows: Sequence[int], table: np.ndarray) -> list[int]:
    """Write the statistics of many tensors into the column of all; return those still unknown.

    Args:
        numbers: doubles, the statistics of one tensor after those of the other.
        rows: the numbers of the tensors.
        table: float64, (rows, statistics).
    """
    column = np.frombuffer(numbers, dtype=np.float64).reshape(-1, table.shape[1])
    column[rows] = table
    return [rows[i] for i in np.isnan(table[:, 0]).nonzero()[0].tolist()]


def statistics_of_many(form: str, buffers: Sequence[bytes]) -> np.ndarray:
    """Return the statistics of each buffer, the sums in float64 and in two passes.

    Args:
        form: the format of the values, `"f"` or `"d"`.
        buffers: the values of each tensor, at least one.

    Returns:
        float64, (buffers, statistics), in the order of `Statistics`; NaN in the rows of tensors
        that need another way: with values that are not finite, or too large or small to be squared.
    """
    values = np.frombuffer(b"".join(buffers), dtype=form)
    exact = values.astype(np.float64)
    sizes = np.array([len(each) for each in buffers]) // values.itemsize
    starts = sizes.cumsum() - sizes
    table = np.zeros((len(buffers), len(NOTHING_KNOWN)))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        low = np.minimum.reduceat(values, starts)
        high = np.maximum.reduceat(values, starts)
        mean = np.add.reduceat(exact, starts) / sizes
        exact -= mean.repeat(sizes)
        rest = np.add.reduceat(exact, starts) / sizes
        exact *= exact
        squares = np.add.reduceat(exact, starts) - sizes * rest * rest
        table[:, 3] = np.sqrt(squares / (sizes - 1))
    table[:, 0], table[:, 1], table[:, 2] = low, high, mean + rest
    table[:, 4] = (sizes - np.add.reduceat(values != 0, starts, dtype=np.int64)) / sizes
    largest = np.maximum(-table[:, 0], table[:, 1])
    simple = (largest < LARGEST) & ((largest > 1 / LARGEST) | (largest == 0))
    if not simple.all():
        table[~simple] = np.nan
    return table
