"""The heaviest pairs that two sequences have in one order."""

from collections.abc import Callable

import numpy as np

Weights = Callable[[slice, slice], np.ndarray]
"""Gives the weights of pairs of some rows and some columns, as int32; 0 is no pair."""

WINDOW = 1024
"""How many rows and columns are looked at together."""


def heaviest_pairs(rows: int, columns: int, weights: Weights) -> list[tuple[int, int]]:
    """Return pairs of a row and a column, both increasing, whose weights have the largest sum.

    Where several have it, the latest rows and columns are taken. In sequences longer than a window
    each half window of rows is decided with what lies around it, so that time and memory stay
    linear in their length; a gap as long as a window is not bridged.

    Args:
        rows: how many rows there are.
        columns: how many columns there are.
        weights: gives the weights; their sum over a window must be below 2**31.
    """
    found: list[tuple[int, int]] = []
    top, left = 0, 0
    while top < rows and left < columns:
        bottom, right = min(top + WINDOW, rows), min(left + WINDOW, columns)
        is_last = bottom == rows and right == columns
        decided = bottom if is_last else min(top + WINDOW // 2, rows)
        pairs = _pairs_in_window(weights(slice(top, bottom), slice(left, right)))
        found += [(top + i, left + j) for i, j in pairs if top + i < decided]
        left = found[-1][1] + 1 if found else 0
        top = decided
    return found


def _pairs_in_window(weights: np.ndarray) -> list[tuple[int, int]]:
    """Return the heaviest pairs of the rows and columns of a matrix of weights."""
    row, column = weights.shape
    sums = np.zeros((row + 1, column + 1), np.int32)
    for i, weight in enumerate(weights):
        paired = np.where(weight > 0, sums[i, :-1] + weight, 0)
        np.maximum.accumulate(np.maximum(sums[i, 1:], paired), out=sums[i + 1, 1:])
    found = []
    while sums[row, column]:
        best, weight = sums[row, column], weights[row - 1, column - 1]
        if weight > 0 and sums[row - 1, column - 1] + weight == best:
            row, column = row - 1, column - 1
            found.append((row, column))
        elif sums[row - 1, column] == best:
            row -= 1
        else:
            column -= 1
    return found[::-1]
