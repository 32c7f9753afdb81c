"""Two records of parameters side by side, by what they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isclose, nan
from operator import attrgetter
from typing import TYPE_CHECKING

from nnmagic.records.comparison.alignment import Renaming
from nnmagic.records.comparison.differences import (
    Difference,
    Overlap,
    difference_of_fronts,
    difference_of_spreads,
)
from nnmagic.records.comparison.names import NamePair
from nnmagic.records.comparison.parameter_rows import (
    ComparedParameter,
    TensorDescription,
    compared_parameter,
)
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.comparison.sides import Side, side_by_side
from nnmagic.records.tensor import LAZY, TensorRecord

if TYPE_CHECKING:
    from nnmagic.records.params import Params

EXACT = attrgetter("min", "max", "zeros", "nan", "inf", "negative_inf")
"""The statistics that two tensors with the same values have in common to the last digit."""

MEAN_HOLDS_TO = 1e-5
"""The relative error of a recorded mean and std."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTensors(Side):
    """Tensors by name, of which a record keeps some values.

    Attributes:
        record: returns what is known of the tensor of a name.
    """

    record: Callable[[str], TensorRecord]


def kept_tensors(params: Params, title: str = "") -> KeptTensors:
    """Return the parameters of a record as a side.

    Args:
        params: the record.
        title: what to call it; default: what it is of.
    """
    rows = {row.name: row for row in params.rows}
    return KeptTensors(
        title=title or params.title,
        typed=title or params.title,
        keys={name: row.tied_to or name for name, row in rows.items()},
        kinds=dict.fromkeys(rows, params.noun),
        record=lambda name: rows[name].tensor,
    )


def compare_kept(
    mine: KeptTensors, other: KeptTensors, rename: Renaming | None = None
) -> ParamsComparison:
    """Return two sides by the values that are kept of them.

    Args:
        mine: this side.
        other: the other side.
        rename: what the other side calls this side's parameters, where it has other names.

    Raises:
        ValueError: if a pattern of the map cannot be read.
    """

    def row_of(pair: NamePair, kind: str) -> ComparedParameter:
        a = None if pair.name is None else mine.record(pair.name)
        b = None if pair.other is None else other.record(pair.other)
        here, there = (None if each is None else _described(each) for each in (a, b))
        difference = None
        if a is not None and b is not None and a.shape == b.shape:
            difference = kept_difference(a, b)
        return compared_parameter(pair, kind, here, there, difference, unknown="no values kept")

    return side_by_side(mine, other, row_of, rename)


def _described(tensor: TensorRecord) -> TensorDescription:
    if tensor.unknown == LAZY:
        return TensorDescription(None, tensor.dtype, None, LAZY)
    return TensorDescription(tensor.shape, tensor.dtype, tensor.numel, tensor.unknown)


def kept_difference(a: TensorRecord, b: TensorRecord) -> Difference | None:
    """Return how far the kept values of two tensors of one shape lie apart.

    Where those are equal and the statistics, which are of all values, are not, the difference has
    an unknown size, NaN. None if no values can be compared.
    """
    found = list(_differences(a, b))
    if not found:
        return Difference(0.0, 0.0, numel=0) if a.numel == 0 and not a.unknown else None
    worst = max(found, key=lambda each: (each.error, each.compared))
    if worst.max_abs == 0 and not _have_same_statistics(a, b):
        return worst._replace(error=nan, max_abs=nan, max_at=(), cosine=None)
    return worst


def _differences(a: TensorRecord, b: TensorRecord) -> Iterator[Difference]:
    """Yield how far the values spread over the two lie apart, and those in front."""
    one, two = a.spread, b.spread
    is_whole = one is not None and one.numel == a.numel
    # of a large complex tensor absolute values are spread over it
    is_spread = is_whole or not (a.measured or b.measured or a.dtype.startswith("complex"))
    if is_spread and one and two and one.numel == two.numel:
        yield difference_of_spreads(one, two, a.shape)
    if a.leading and b.leading and not is_whole:
        yield difference_of_fronts(a.leading, b.leading, Overlap(a.shape))


def _have_same_statistics(a: TensorRecord, b: TensorRecord) -> bool:
    if EXACT(a) != EXACT(b):
        return False
    scale = max(abs(each or 0) for each in (a.mean, a.std))
    return all(
        x == y or (x is not None and y is not None and isclose(x, y, abs_tol=MEAN_HOLDS_TO * scale))
        for x, y in ((a.mean, b.mean), (a.std, b.std))
    )
