"""Which values of a tensor are kept."""

from ctypes import Array, c_char, sizeof
from functools import lru_cache
from itertools import accumulate
from math import prod
from struct import calcsize
from typing import Any, NamedTuple

import numpy as np
import torch

from nnmagic.records.tensor import Form, Picture, Sample, Samples
from nnmagic.tensors.values import Reading, Values, as_array

WHOLE = 1024
"""A tensor of at most this many values is kept whole; of a larger one so many, spread over it."""

LEADING = 256
"""How many values of a larger tensor's front are kept."""

DRAWN = 4096
"""How many values of a larger tensor are kept to draw it by."""

CHANNELS_DRAWN = 16


def samples_of(reading: Reading, keep: str, rows: int | None, drawn: bool) -> Samples:
    """Return what is kept of a tensor's values.

    Args:
        reading: where they are.
        keep: `"none"`, `"sample"` or `"all"`.
        rows: how many rows the leading sample has, each whole; None takes a corner.
        drawn: whether to keep values to draw a large tensor by.
    """
    if keep == "none":
        return Samples(None, None)
    whole = reading.whole
    if reading.zeros:
        return Samples(None, None)  # the stored values alone would show another distribution
    if whole is None:
        return Samples(None, real_sample(thinned(reading.flat, WHOLE)))
    shape = tuple(whole.shape)
    if keep == "all" or prod(shape) <= WHOLE:
        all_ = sample(whole)
        return Samples(all_ if rows is None or not shape else sample(whole[:rows]), all_)
    leading = sample(whole[corner_of(shape) if rows is None else slice(rows)])
    picture = None
    if drawn:
        cut, steps = grid_of(shape)
        picture = Picture(sample(whole[cut]), steps)
    return Samples(leading, real_sample(thinned(reading.flat, WHOLE)), picture)


class Kind(NamedTuple):
    """What large tensors of floats share of which the same is kept.

    Attributes:
        format: the format of one number.
        shape: the tensor's shape, of at most 2 ** 31 values.
        rows: how many rows the leading sample has, each whole; None takes a corner.
        drawn: whether to keep values to draw it by.
    """

    format: str
    shape: tuple[int, ...]
    rows: int | None
    drawn: bool


class Kept(NamedTuple):
    """What is kept of a large tensor of floats: quick to make, and unfolded when it is read.

    Attributes:
        kind: which values are kept.
        data: these, as bytes.
    """

    kind: Kind
    data: Any

    def samples(self) -> Samples:
        """Return the same as `samples_of` does."""
        format, shape, rows, drawn = self.kind
        cuts = _cuts(shape, rows, drawn)
        sizes = [prod(shape) * calcsize(format) for shape, _ in cuts]
        ends = list(accumulate(sizes))
        leading, spread, *picture = [
            Sample(format, shape, bytes(self.data[end - size : end]))
            for (shape, _), size, end in zip(cuts, sizes, ends, strict=True)
        ]
        steps = grid_of(shape)[1]
        return Samples(leading, spread, *(Picture(sample, steps) for sample in picture))

    def without_picture(self) -> "Kept":
        """Return it without the values to draw it by."""
        kind = self.kind._replace(drawn=False)
        return Kept(kind, bytes(self.data[: sizeof(offsets_of(kind).room)]))


class Offsets(NamedTuple):
    """Where in a tensor the values are that are kept of it.

    Attributes:
        values: int32, counted in values from the first one.
        address: of these.
        number: how many there are.
        room: makes room for the values.
    """

    values: np.ndarray
    address: int
    number: int
    room: type[Array[c_char]]


@lru_cache
def offsets_of(kind: Kind) -> Offsets:
    """Return where the values are that `samples_of` keeps of more than `WHOLE`, side by side."""
    format, shape, rows, drawn = kind
    found = [offsets for _, offsets in _cuts(shape, rows, drawn)]
    values = np.concatenate(found).astype(np.int32)
    room = c_char * (values.size * calcsize(format))
    return Offsets(values, values.ctypes.data, values.size, room)


def _cuts(
    shape: tuple[int, ...], rows: int | None, drawn: bool
) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Return the shapes of what is kept of a tensor, and the offsets of the values."""
    flat = (prod(shape),)
    corner = corner_of(shape) if rows is None else (slice(rows),)
    cuts = [(shape, corner), (flat, (slice(None, None, step_of(*flat, WHOLE)),))]
    if drawn:
        cuts.append((shape, grid_of(shape)[0]))
    return [_cut(sizes, cut) for sizes, cut in cuts]


def _cut(shape: tuple[int, ...], cut: tuple[slice, ...]) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the shape of what a cut leaves of a contiguous tensor, and the values' offsets."""
    left: list[int] = []
    offsets = np.zeros(1, np.int64)
    for axis, size in enumerate(shape):
        places = np.arange(size)[cut[axis] if axis < len(cut) else slice(None)]
        left.append(len(places))
        offsets = np.add.outer(offsets, places * prod(shape[axis + 1 :])).ravel()
    return tuple(left), offsets


def sample(values: Values) -> Sample:
    """Return all of these values; half precision as float32."""
    if isinstance(values, torch.Tensor) and values.is_complex():
        parts = torch.view_as_real(values.resolve_conj().to(torch.complex128))
        return Sample("Zd", tuple(values.shape), parts.numpy().tobytes())
    return real_sample(values)


def real_sample(values: Values) -> Sample:
    """Return all of these values; half precision as float32, complex ones by absolute value."""
    array = as_array(values)
    return Sample(array.dtype.char, array.shape, array.tobytes())


def thinned(flat: Values, at_most: int) -> Values:
    """Return at most so many of values in one dimension, spread evenly over them."""
    return flat[:: step_of(len(flat), at_most)]


def step_of(size: int, at_most: int) -> int:
    """Return the step at which to take at most so many of so many values."""
    step = max(1, -(-size // at_most))
    # an even step falls in with the usual sizes and sees the same few channels
    return step + (step % 2 == 0)


@lru_cache
def grid_of(shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Return a grid of at most DRAWN values: all, or of the first item, of its first channels."""
    sizes, steps = list(shape), [1] * len(shape)
    if prod(shape) > DRAWN:
        for axis in range(len(shape) - 2):
            channels = axis == len(shape) - 3 and axis > 0
            sizes[axis] = min(shape[axis], CHANNELS_DRAWN if channels else 1)
    drawn = range(max(0, len(shape) - 2), len(shape))
    while prod(sizes) > DRAWN:
        longest = max(drawn, key=sizes.__getitem__)
        steps[longest] *= 2
        sizes[longest] = -(-shape[longest] // steps[longest])
    cut = tuple(slice(0, n * step, step) for n, step in zip(sizes, steps, strict=True))
    return cut, tuple(steps)


@lru_cache
def corner_of(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the corner of at most LEADING values, the longest axes cut first."""
    sizes = list(shape)
    while prod(sizes) > LEADING:
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        sizes[longest] = -(-sizes[longest] // 2)
    return tuple(slice(size) for size in sizes)


def restored(whole: Sample, form: Form) -> torch.Tensor:
    """Return a tensor with the values of a sample that holds all of them."""
    dtype = getattr(torch, form.dtype)
    if whole.format == "Zd":
        parts = torch.frombuffer(bytearray(whole.data), dtype=torch.float64)
        tensor = torch.view_as_complex(parts.view(-1, 2))
    else:
        tensor = torch.from_numpy(np.frombuffer(whole.data, dtype=whole.format).copy())
    return tensor.reshape(whole.shape).to(form.device, dtype)
