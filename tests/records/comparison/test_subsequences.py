"""The heaviest common subsequence, against one that tries all."""

from functools import cache
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnmagic.records.comparison import subsequences
from nnmagic.records.comparison.subsequences import heaviest_pairs

SIZES = st.integers(0, 7)


@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_the_pairs_are_in_order_and_worth_most(rows, columns, seed):
    weights = np.random.default_rng(seed).integers(0, 4, (rows, columns)).astype(np.int32)

    pairs = heaviest_pairs(rows, columns, lambda i, j: weights[i, j])

    @cache
    def best(i, j):
        if i == rows or j == columns:
            return 0
        taken = weights[i, j] + best(i + 1, j + 1) if weights[i, j] else 0
        return max(taken, best(i + 1, j), best(i, j + 1))

    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))
    assert all(weights[pair] > 0 for pair in pairs)
    assert sum(weights[pair] for pair in pairs) == best(0, 0)


def test_of_equal_ones_the_last_is_taken():
    weights = np.array([[0, 1], [0, 1], [0, 1]], np.int32)

    assert heaviest_pairs(3, 2, lambda i, j: weights[i, j]) == [(2, 1)]


def test_long_sequences_are_matched_window_by_window(monkeypatch):
    monkeypatch.setattr(subsequences, "WINDOW", 16)
    left = np.arange(200) % 7
    right = np.delete(left, range(30, 37))  # less than half a window

    pairs = heaviest_pairs(
        len(left), len(right), lambda i, j: (left[i, None] == right[j]).astype(np.int32)
    )

    assert len(pairs) == len(right)
    assert heaviest_pairs(0, 5, lambda i, j: left[i, None]) == []
