"""The columns that all tables of tensors share.

The subjects of their rows have the statistics of a tensor as `numbers`, and its `spread` values.
"""

from math import isnan

from nnmagic.display.table import Column
from nnmagic.records.histograms import histograms


def known(value: float | None) -> float | None:
    """Return a number, None where it is NaN: a statistic is so where it is unknown."""
    return None if value is None or isnan(value) else value


MEAN_AND_STD = Column(
    key="mean",
    title="mean ± std",
    kind="pair",
    joiner="±",
    priority=1,
    meaning="over the finite values; std with correction 1, as torch.std",
    cell=lambda row: (known(row.numbers.mean), known(row.numbers.std)),
)

MIN_AND_MAX = Column(
    key="range",
    title="min … max",
    kind="pair",
    joiner="…",
    priority=4,
    meaning="the least and the greatest finite value",
    cell=lambda row: (known(row.numbers.min), known(row.numbers.max)),
)

HISTOGRAM = Column(
    key="histogram",
    title="histogram",
    kind="histogram",
    priority=6,
    meaning="ten bins from min to max, of a sample where the tensor is large; | is zero",
    cells=lambda rows: histograms([(row.spread, row.numbers.min, row.numbers.max) for row in rows]),
)

ZEROS = Column(
    key="zeros",
    title="zeros",
    kind="share",
    priority=5,
    meaning="the share of values that are exactly 0",
    cell=lambda row: known(row.numbers.zeros),
)
