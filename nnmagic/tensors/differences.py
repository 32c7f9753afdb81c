"""How far all values of two tensors lie apart, read piece by piece."""

from collections.abc import Iterator
from math import hypot, inf, prod
from typing import Any

import numpy as np
import torch

from nnmagic.records.comparison.differences import Difference
from nnmagic.tensors.difference_kernel import apart
from nnmagic.tensors.metadata import hidden_from_user_code
from nnmagic.tensors.shards import part_here
from nnmagic.tensors.statistics import PIECE
from nnmagic.tensors.values import Values, read, why_unreadable

INTEGERS = "biu"
"""NumPy's kinds of dtype whose differences are exact."""


def difference_of(a: torch.Tensor, b: torch.Tensor) -> Difference:
    """Return how far two tensors of one shape lie apart, over all of their values.

    A quantised tensor has the values that it stands for, a sparse one its zeros too. Sums are in
    float64; integers of any size differ exactly. Beyond what the two hold themselves it takes the
    memory of one piece.

    Raises:
        ValueError: if the values of one cannot be read; the text says why.
    """
    one, two = _dense(a), _dense(b)
    shape = tuple(one.shape)
    found = _of_floats(one, two)
    if found is not None:
        return found
    if all(_are_same(x, y) for _, x, y in _pieces(one, two)):
        has_direction = any(_array(x).any() for _, x, _ in _pieces(one, two))
        nowhere = tuple([0] * len(shape))
        size = prod(shape)
        return Difference(0.0, 0.0, nowhere, 1.0 if has_direction else None, size, size)
    sums = _Sums()
    for start, x, y in _pieces(one, two):
        sums.add(start, _array(x).ravel(), _array(y).ravel())
    return sums.difference(shape)


def _of_floats(a: Values, b: Values) -> Difference | None:
    """Return how far two arrays of floats lie apart; None where the kernel refuses a piece."""
    gaps, lengths, others = [0.0], [0.0], [0.0]
    largest, at = -1.0, 0
    for start, x, y in _pieces(a, b):
        x, y = _array(x), _array(y)
        if x.dtype != y.dtype and x.dtype.kind == y.dtype.kind == "f":
            x, y = _wide(x), _wide(y)
        found = apart(np.ascontiguousarray(x), np.ascontiguousarray(y))
        if found is None:
            return None
        gaps.append(found.gap)
        lengths.append(found.length)
        others.append(found.other)
        if found.largest > largest:
            largest, at = found.largest, start + found.at
    gap, length, other = hypot(*gaps), hypot(*lengths), hypot(*others)
    if gap and not other:
        return None
    product = (length**2 + other**2 - gap**2) / 2
    shape = tuple(a.shape)
    return Difference(
        gap / other if gap else 0.0,
        largest,
        tuple(map(int, np.unravel_index(at, shape))),
        product / (length * other) if length and other else None,
        prod(shape),
        prod(shape),
    )


def is_rounded(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether one of two tensors of other dtypes is the other one, cast to its dtype."""
    if a.dtype == b.dtype or not (a.is_floating_point() and b.is_floating_point()):
        return False
    with hidden_from_user_code(a), hidden_from_user_code(b):
        one, two = (part_here(each).detach().to("cpu").to_dense() for each in (a, b))
        return torch.equal(one.to(two.dtype), two) or torch.equal(two.to(one.dtype), one)


def _dense(tensor: torch.Tensor) -> Values:
    with hidden_from_user_code(tensor):
        reason = why_unreadable(tensor)
        whole = None if reason else read(tensor).whole
    if whole is None:
        raise ValueError(reason or "it has no dense values, or too many")
    return whole


def _pieces(a: Values, b: Values, start: int = 0) -> Iterator[tuple[int, Any, Any]]:
    """Yield parts of two arrays of one shape, each with the place of its first value."""
    size = prod(a.shape)
    if size <= PIECE:
        yield start, a, b
        return
    row = size // len(a)
    step = max(1, PIECE // row)
    for first in range(0, len(a), step):
        x, y = a[first : first + step], b[first : first + step]
        if step == 1:
            yield from _pieces(x[0], y[0], start + first * row)
        else:
            yield start + first * row, x, y


def _array(values: Values) -> np.ndarray:
    """Return values as NumPy holds them, each exactly: half precision as float32."""
    if isinstance(values, np.ndarray):
        return values
    if values.is_complex():
        return values.resolve_conj().to(torch.complex128).numpy()
    return values.to(torch.float32).numpy()


def _are_same(x: Values, y: Values) -> bool:
    a, b = _array(x), _array(y)
    if a.dtype.kind in INTEGERS and b.dtype.kind in INTEGERS:
        return np.array_equal(a, b)
    return np.array_equal(a, b, equal_nan=True)


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the absolute differences, Inf where only one is NaN or Inf."""
    kinds = {a.dtype.kind, b.dtype.kind}
    if kinds <= set(INTEGERS) and np.result_type(a, b).kind in INTEGERS:
        wide = np.uint64 if np.uint64 in (a.dtype, b.dtype) else np.int64
        a, b = a.astype(wide), b.astype(wide)
        larger, less = (each(a, b).view(np.uint64) for each in (np.maximum, np.minimum))
        return (larger - less).astype(np.float64)
    a, b = _wide(a), _wide(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    apart = np.where(same, 0.0, np.abs(a - b))
    apart[np.isnan(apart)] = inf
    return apart


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


class _Sums:
    """What is added up of two tensors, piece by piece; scaled, so that no square overflows."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.lengths: list[float] = []
        self.other_lengths: list[float] = []
        self.products: list[tuple[float, float, float]] = []
        self.max_abs, self.at = -1.0, 0

    def add(self, start: int, a: np.ndarray, b: np.ndarray) -> None:
        """Add a piece.

        Args:
            start: the place of its first value.
            a: its values on this side.
            b: those on the other one.
        """
        with np.errstate(all="ignore"):
            apart = _apart(a, b)
            a, b = _wide(a), _wide(b)
            at = int(apart.argmax())
            if apart[at] > self.max_abs:
                self.max_abs, self.at = float(apart[at]), start + at
            self.gaps.append(_norm(apart)[0])
            a, b = np.where(np.isfinite(a), a, 0), np.where(np.isfinite(b), b, 0)
            (length, scale), (other_length, other_scale) = _norm(a), _norm(b)
            self.lengths.append(length)
            self.other_lengths.append(other_length)
            if scale and other_scale:
                product = float(np.vdot(b / other_scale, a / scale).real)
                self.products.append((product, scale, other_scale))

    def difference(self, shape: tuple[int, ...]) -> Difference:
        """Return how far the tensors lie apart."""
        gap, length, other = (
            hypot(*each) for each in (self.gaps, self.lengths, self.other_lengths)
        )
        cosine = None
        if length and other:
            cosine = sum(each * (m / length) * (n / other) for each, m, n in self.products)
        return Difference(
            gap / other if other else inf,
            self.max_abs,
            tuple(map(int, np.unravel_index(self.at, shape))),
            cosine,
            prod(shape),
            prod(shape),
        )


def _norm(values: np.ndarray) -> tuple[float, float]:
    """Return the Euclidean norm, and the largest absolute value."""
    scale = float(np.abs(values).max(initial=0))
    if scale in (0.0, inf):
        return scale, scale
    return scale * float(np.linalg.norm(values / scale)), scale
