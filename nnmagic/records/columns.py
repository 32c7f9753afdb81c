"""The columns that all tables of tensors share.

The subjects of their rows have a tensor's `dtype`, its statistics as `numbers`, and its `spread`
values.
"""

from math import isnan
from typing import Any

from nnmagic.display.table import Column, Pair
from nnmagic.records.histograms import histograms

EXACT_INTEGERS = 1 << 53
"""Up to which a float64 holds every integer: a larger statistic may be rounded."""


def none_if_nan(value: float | None) -> float | None:
    """Return a statistic, None for NaN, which stands for an unknown one."""
    return None if value is None or isnan(value) else value


def ends_of(row: Any) -> Pair:
    """Return the least and the greatest value; those of integers and of truth values are ints.

    Where one is too large to be known exactly, both are floats, of which few digits are shown.
    """
    least, greatest = none_if_nan(row.numbers.min), none_if_nan(row.numbers.max)
    if least is None or greatest is None or not row.dtype.startswith(("int", "uint", "bool")):
        return least, greatest
    is_exact = max(-least, greatest) < EXACT_INTEGERS
    return (int(least), int(greatest)) if is_exact else (least, greatest)


MEAN_AND_STD = Column(
    "mean",
    "pair",
    "over the finite values; std with correction 1, as torch.std",
    title="mean ± std",
    cell=lambda row: (none_if_nan(row.numbers.mean), none_if_nan(row.numbers.std)),
    priority=1,
)

MIN_AND_MAX = Column(
    "range",
    "pair",
    "the least and the greatest finite value",
    title="min … max",
    cell=ends_of,
    joiner="…",
    priority=4,
)

HISTOGRAM = Column(
    "histogram",
    "histogram",
    "ten bins from min to max, of a sample where the tensor is large; | is zero",
    cells=lambda rows: histograms([(row.spread, row.numbers.min, row.numbers.max) for row in rows]),
    priority=6,
)

ZEROS = Column(
    "zeros",
    "share",
    "the share of values that are exactly 0",
    cell=lambda row: none_if_nan(row.numbers.zeros),
    priority=5,
)

FLAGS = Column("flags", "flags", "what deserves attention")
