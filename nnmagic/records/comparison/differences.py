"""How far the values of two tensors lie apart."""

from collections.abc import Iterable, Sequence
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np

from nnmagic.records.kept_slices import step_of
from nnmagic.records.tensor import Sample
from nnmagic.records.tensor_log import TensorLog


class Difference(NamedTuple):
    """How far two tensors lie apart, or the worst of several pairs.

    Values that are equal, NaN in both or the same Inf do not differ; where one is NaN or Inf and
    the other is another, the difference is infinite.

    Attributes:
        error: the relative L2 error ||a - b|| / ||b||; inf where b is 0 and a is not.
        max_abs: the largest absolute difference.
        max_at: its index in the tensor.
        cosine: the cosine of the angle between the two, None where one is 0.
        compared: how many values were compared.
        numel: how many the tensor has.
        items: how many items of the first axis both have, where one has more; else None.
    """

    error: float
    max_abs: float
    max_at: tuple[int, ...] = ()
    cosine: float | None = None
    compared: int = 0
    numel: int = 0
    items: int | None = None


class Overlap(NamedTuple):
    """What two shapes have in common.

    Attributes:
        shape: the shape of what both have.
        items: how many items of the first axis both have, where one has more; else None.
    """

    shape: tuple[int, ...]
    items: int | None = None


def overlap_of(a: Sequence[int | None], b: Sequence[int | None]) -> Overlap | None:
    """Return what two shapes have in common; None where more than the first axis differs.

    A first axis of 1 may also lack on one side, as in what one layer adds to all items.
    """
    if None in a or None in b:
        return None
    sizes = [[size or 0 for size in shape] for shape in (a, b)]
    shorter, longer = sorted(sizes, key=len)
    if longer == [1, *shorter]:
        return Overlap(tuple(shorter))
    if len(a) != len(b) or sizes[0][1:] != sizes[1][1:]:
        return None
    shape = tuple(map(min, *sizes)) if a else ()
    return Overlap(shape, None if sizes[0] == sizes[1] else shape[0])


def worst(differences: Iterable[Difference | None]) -> Difference | None:
    """Return the difference with the largest error; None if there is none."""
    known = [each for each in differences if each is not None]
    return max(known, key=lambda each: each.error, default=None)


def difference_of_spreads(one: Sample, two: Sample, shape: Sequence[int]) -> Difference:
    """Return how far values lie apart that are spread alike over two tensors of a shape."""
    step = step_of(prod(shape), max(1, one.numel))
    return _difference_of(one.array(), two.array(), shape, step, Overlap(tuple(shape)))


def difference_of_fronts(one: Sample, two: Sample, overlap: Overlap) -> Difference:
    """Return how far the values in front of two tensors lie apart, as far as both have some."""
    axes = len(overlap.shape)
    fronts = [each.array().reshape(each.shape[len(each.shape) - axes :]) for each in (one, two)]
    shape = tuple(map(min, *(each.shape for each in fronts))) if axes else ()
    cut = tuple(map(slice, shape))
    return _difference_of(fronts[0][cut], fronts[1][cut], shape, 1, overlap)


def _difference_of(
    a: np.ndarray, b: np.ndarray, shape: Sequence[int], step: int, overlap: Overlap
) -> Difference:
    """Return how far values lie apart.

    Args:
        a: this side's values.
        b: the other side's, taken at the same places.
        shape: the shape of what they are taken from.
        step: how far apart they lie in it.
        overlap: what the two tensors have in common.
    """
    numel, items = prod(overlap.shape), overlap.items
    wide = np.complex128 if "c" in a.dtype.kind + b.dtype.kind else np.float64
    a, b = a.astype(wide).ravel(), b.astype(wide).ravel()
    if not a.size:
        return Difference(0.0, 0.0, numel=numel, items=items)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        apart = np.where(same, 0, np.abs(a - b))
        apart[np.isnan(apart)] = inf
        at = int(apart.argmax())
        length, others = (float(np.linalg.norm(each[np.isfinite(each)])) for each in (a, b))
        gap = float(np.linalg.norm(apart))
        both = np.isfinite(a) & np.isfinite(b)
        cosine = (
            float(np.vdot(b[both], a[both]).real) / (length * others) if length * others else None
        )
    error = 0.0 if gap == 0 else gap / others if others else inf
    place = tuple(map(int, np.unravel_index(at * step, tuple(shape))))
    return Difference(error, float(apart[at]), place, cosine, a.size, numel, items)


def paired_places(mine: Sequence[Any], other: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the places of tensors that stand for each other, given the shapes of both sides.

    Of as many they do in order, else by their shapes.
    """
    if len(mine) == len(other):
        return [(place, place) for place in range(len(mine))]
    rest, found = dict(enumerate(other)), []
    for place, shape in enumerate(mine):
        twin = next((each for each, its in rest.items() if its == shape), None)
        if twin is not None:
            del rest[twin]
            found.append((place, twin))
    return found


class KeptValues:
    """Compares tensors of two runs by the values that were kept of them.

    Args:
        mine: the tensors of this run.
        other: the tensors of the other one.
    """

    def __init__(self, mine: TensorLog, other: TensorLog) -> None:
        self.mine, self.other = mine, other

    def difference(self, a: int, b: int) -> Difference | None:
        """Return how far two tensors lie apart; None if their shapes or what is kept do not fit."""
        one, two = self.mine.metadata_of(a), self.other.metadata_of(b)
        overlap = overlap_of(one.shape, two.shape)
        if overlap is None:
            return None
        left, right = self.mine.record(a), self.other.record(b)
        if left.whole is not None and right.whole is not None:
            return difference_of_fronts(left.whole, right.whole, overlap)
        is_sampled = a in self.mine.measured or b in self.other.measured
        may_be_alike = overlap.items is None and not is_sampled
        spread, other = left.spread, right.spread
        if may_be_alike and spread and other and spread.numel == other.numel:
            return difference_of_spreads(spread, other, overlap.shape)
        if left.leading is None or right.leading is None:
            return None
        return difference_of_fronts(left.leading, right.leading, overlap)

    def differences(self, a: Sequence[int], b: Sequence[int]) -> Difference | None:
        """Return the worst of several pairs; None where nothing can be compared."""
        return worst(self.difference(x, y) for x, y in self.pairs(a, b))

    def pairs(self, a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
        """Return which tensors stand for each other: of as many in order, else by their shapes."""
        mine = [self.mine.metadata_of(each).shape for each in a]
        other = [self.other.metadata_of(each).shape for each in b]
        return [(a[i], b[j]) for i, j in paired_places(mine, other)]
