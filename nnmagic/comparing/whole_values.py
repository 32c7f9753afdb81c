"""How far two tensors lie apart, over all their values."""

from collections.abc import Sequence
from math import inf
from typing import Any
from weakref import ref

import numpy as np
import torch

from nnmagic.records.comparison.differences import (
    Difference,
    Overlap,
    overlap_of,
    paired_places,
    worst,
)
from nnmagic.tensors.differences import difference_of
from nnmagic.tensors.metadata import shape_of, version_of
from nnmagic.tensors.shards import part_here
from nnmagic.tensors.values import why_unreadable

COPY = Difference(0.0, 0.0)
"""That of a tensor and its copy in another dtype."""

LEAST_NORM = 1e-15
"""Below it the squares under a norm may have underflowed."""

MOST_SEEN = 1000
"""How many pairs of tensors are remembered, by weak references."""


def difference(a: torch.Tensor, b: torch.Tensor) -> Difference | None:
    """Return how far two tensors lie apart; None if their shapes do not fit, or one is unreadable.

    Of another number of items in the first axis those are compared that both have.
    """
    shapes = shape_of(a), shape_of(b)
    overlap = overlap_of(*shapes)
    if overlap is None:
        return None
    try:
        with torch.no_grad():
            if shapes[0] != shapes[1]:
                a, b = _of_both(a, overlap), _of_both(b, overlap)
            found = None if a.is_cpu or a.is_meta else _on_device(a, b)
            return (found or difference_of(a, b))._replace(items=overlap.items)
    except ValueError:
        return None


def _of_both(tensor: torch.Tensor, overlap: Overlap) -> torch.Tensor:
    """Return the part of a tensor that two have in common.

    Raises:
        ValueError: if it cannot be read.
    """
    reason = why_unreadable(tensor)
    if reason:
        raise ValueError(reason)
    tensor = part_here(tensor).detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor if tensor.layout is torch.strided else tensor.to_dense()
    cut = tensor if overlap.items is None else tensor[: overlap.items]
    return cut.reshape(overlap.shape)


class Differences:
    """Compares tensors of two runs; a pair that comes by again unchanged is not compared again."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], tuple[Any, Any, Difference | None]] = {}

    def worst(self, a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> Difference | None:
        """Return the worst of several pairs of tensors; None where nothing can be compared."""
        return worst(self._of(x, y) for x, y in pairs(a, b))

    def copy(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Return a copy of one tensor as another one is, or that one if it is such a copy.

        It has the dtype and the device of the other, which stays where the shapes do not fit.
        """
        if a.shape != b.shape or self._seen_now(a, b) is COPY:
            return b
        copied = a.detach().to(b.device, b.dtype, copy=True)
        self._note(a, copied, COPY)
        return copied

    def _of(self, a: torch.Tensor, b: torch.Tensor) -> Difference | None:
        found = self._seen_now(a, b)
        if found is None:
            found = difference(a, b)
            self._note(a, b, found)
        return found

    def _seen_now(self, a: torch.Tensor, b: torch.Tensor) -> Difference | None:
        one, two, found = self._seen.get((id(a), id(b)), ((None, -1), (None, -1), None))
        return found if _is_still(a, one) and _is_still(b, two) else None

    def _note(self, a: torch.Tensor, b: torch.Tensor, found: Difference | None) -> None:
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        self._seen[id(a), id(b)] = (ref(a), version_of(a)), (ref(b), version_of(b)), found


def _is_still(tensor: torch.Tensor, before: tuple[Any, int]) -> bool:
    reference, version = before
    return version >= 0 and reference() is tensor and version == version_of(tensor)


def pairs(
    a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return which tensors stand for each other: of as many in order, else by their shapes."""
    shapes = ([shape_of(each) for each in side] for side in (a, b))
    return [(a[i], b[j]) for i, j in paired_places(*shapes)]


def _on_device(a: torch.Tensor, b: torch.Tensor) -> Difference | None:
    """Return how far two tensors of floats lie apart, without a copy in the host's memory.

    None where a sum of squares is out of range, as it is with a NaN or an Inf.
    """
    numel = a.numel()
    is_plain = a.layout is b.layout is torch.strided and type(a) is type(b) is torch.Tensor
    if not (numel and is_plain and a.is_floating_point() and b.is_floating_point()):
        return None
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.detach().to(wide), b.detach().to(a.device, wide)
    apart = (a - b).abs_()
    gap, length, others = (float(torch.linalg.vector_norm(each)) for each in (apart, a, b))
    at = int(apart.argmax())
    max_abs = float(apart.reshape(-1)[at])
    if not all(LEAST_NORM < each < inf for each in (gap, length, others) if each or max_abs):
        return None
    cosine = (length**2 + others**2 - gap**2) / (2 * length * others) if length else None
    places = tuple(map(int, np.unravel_index(at, a.shape)))
    return Difference(gap / others if gap else 0.0, max_abs, places, cosine, numel, numel)
