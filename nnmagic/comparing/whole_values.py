"""How far two tensors lie apart, over all their values."""

from collections.abc import Sequence
from math import inf, isfinite, prod
from typing import Any
from weakref import ref

import numpy as np
import torch

from nnmagic.records.comparison.differences import (
    Difference,
    difference_of_arrays,
    overlap_of,
    worst,
)
from nnmagic.tensors.metadata import shape_of, version_of
from nnmagic.tensors.values import why_unreadable

COPY = Difference(0.0, 0.0)
"""That of a tensor and its copy in another dtype."""

MOST_SEEN = 1000
"""How many pairs of tensors are remembered, by weak references."""


def difference(a: torch.Tensor, b: torch.Tensor) -> Difference | None:
    """Return how far two tensors lie apart; None if their shapes do not fit, or one is unreadable.

    Of another number of items in the first axis those are compared that both have. The difference
    is taken in the wider dtype, in float32 at least.
    """
    overlap = overlap_of(shape_of(a), shape_of(b))
    if overlap is None or why_unreadable(a) or why_unreadable(b):
        return None
    with torch.no_grad():
        a, b = _dense(a), _dense(b)
        b = b.to(a.device)
        if overlap.items is not None:
            a, b = a[: overlap.items], b[: overlap.items]
        wide = _wide(torch.promote_types(a.dtype, b.dtype))
        a, b = a.to(wide), b.to(wide)
        found = _of_finite(a, b) or difference_of_arrays(_array(a), _array(b))
    error, max_abs, at, cosine = found
    numel = prod(overlap.shape)
    places = np.unravel_index(at, overlap.shape) if numel else ()
    return Difference(error, max_abs, tuple(map(int, places)), cosine, numel, numel, overlap.items)


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


def differences(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> Difference | None:
    """Return the worst of several pairs of tensors; None where nothing can be compared."""
    return Differences().worst(a, b)


def pairs(
    a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return which tensors stand for each other: of as many in order, else by their shapes."""
    if len(a) == len(b):
        return list(zip(a, b, strict=True))
    rest, found = list(b), []
    for tensor in a:
        place = next((i for i, t in enumerate(rest) if shape_of(t) == shape_of(tensor)), None)
        if place is not None:
            found.append((tensor, rest.pop(place)))
    return found


def _of_finite(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float, int, float | None] | None:
    """Return what `difference_of_arrays` does; None where a value, or a square, is not finite."""
    if not a.numel() or a.is_complex():
        return None
    if torch.equal(a, b):
        norm = float(torch.linalg.vector_norm(a))
        return (0.0, 0.0, 0, 1.0 if norm else None) if isfinite(norm) else None
    apart = (a - b).abs_()
    gap, length, others = (float(torch.linalg.vector_norm(each)) for each in (apart, a, b))
    if not isfinite(gap + length + others):
        return None
    # torch's argmax takes ten times as long on the CPU
    at = int(apart.contiguous().numpy().argmax() if apart.is_cpu else apart.argmax())
    cosine = None
    if length and others:
        cosine = (length**2 + others**2 - gap**2) / (2 * length * others)
    return gap / others if others else inf, float(apart.reshape(-1)[at]), at, cosine


def _wide(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex or dtype in (torch.float32, torch.float64):
        return dtype
    return torch.float32 if dtype.is_floating_point else torch.float64


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.resolve_conj().resolve_neg().cpu().numpy()
