"""Which values of a tensor are kept."""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import torch

from nnmagic.records.tensor import Metadata, Picture, Sample, Samples
from nnmagic.tensors.values import DenseValues, Values, as_array

WHOLE = 1024
"""A tensor of at most this many values is kept whole; of a larger one so many, spread over it."""

LEADING = 256
"""How many values of a larger tensor's front are kept."""

PICTURE_VALUES = 4096
"""How many values of a larger tensor are kept to draw it by."""

PICTURE_CHANNELS = 16


class Cuts(NamedTuple):
    """Slices of a large tensor that give the values kept of it, on the host as on a device.

    Attributes:
        leading: slices of its front: a corner, or whole rows.
        picture: slices to draw it by, a grid of its last two axes; None where it is not drawn.
        steps: for each axis, how far apart neighbours in the picture lie.
    """

    leading: tuple[slice, ...]
    picture: tuple[slice, ...] | None
    steps: tuple[int, ...]

    def samples_of_floats(self, whole: np.ndarray, flat: np.ndarray, step: int) -> Samples:
        """Return the samples of float32 or float64 values, as `samples` does, with fewer steps.

        Args:
            whole: the values in the tensor's own shape.
            flat: the same in one dimension.
            step: how far apart the values of the spread sample lie in it.
        """
        code, leading, spread = flat.dtype.char, whole[self.leading], flat[::step]
        picture = None
        if self.picture is not None:
            grid = whole[self.picture]
            picture = Picture(Sample(code, grid.shape, grid.tobytes()), self.steps)
        return Samples(
            Sample(code, leading.shape, leading.tobytes()),
            Sample(code, spread.shape, spread.tobytes()),
            picture,
        )

    def samples(
        self,
        leading: Values | None = None,
        spread: Values | None = None,
        picture: Values | None = None,
    ) -> Samples:
        """Return the samples, given the values that these slices have cut out, on the host."""
        if leading is None or spread is None:
            return Samples(None, None)
        grid = None if picture is None else Picture(sample(picture), self.steps)
        return Samples(sample(leading), real_sample(spread), grid)


@lru_cache
def cuts_of(shape: tuple[int, ...], whole_rows: int | None, with_picture: bool) -> Cuts:
    """Return where the kept values of a tensor of more than `WHOLE` values lie.

    Args:
        shape: its shape.
        whole_rows: how many rows the leading sample has, each whole; None takes a corner.
        with_picture: whether to keep values to draw it by.
    """
    leading = corner_of(shape) if whole_rows is None else (slice(whole_rows),)
    picture, steps = grid_of(shape)
    return Cuts(leading, picture if with_picture else None, steps)


def samples_of(
    values: DenseValues, keep: str, *, whole_rows: int | None = None, with_picture: bool = False
) -> Samples:
    """Return the values kept of a tensor on the host.

    Args:
        values: the tensor's.
        keep: `"none"`, `"sample"` or `"all"`.
        whole_rows: how many rows the leading sample has, each whole; None takes a corner.
        with_picture: whether to keep values to draw a large tensor by.
    """
    whole = values.whole
    if keep == "none" or values.zeros:  # the stored values alone have another distribution
        return Samples(None, None)
    if whole is None:
        return Samples(None, real_sample(evenly_spaced(values.flat, WHOLE)))
    shape = tuple(whole.shape)
    if keep == "all" or prod(shape) <= WHOLE:
        all_ = sample(whole)
        leading = all_ if whole_rows is None or not shape else sample(whole[:whole_rows])
        return Samples(leading, all_)
    cuts = cuts_of(shape, whole_rows, with_picture)
    picture = None if cuts.picture is None else whole[cuts.picture]
    return cuts.samples(whole[cuts.leading], evenly_spaced(values.flat, WHOLE), picture)


def sample(values: Values) -> Sample:
    """Return all of these values; half precision as float32."""
    if not isinstance(values, np.ndarray) and values.is_complex():
        parts = torch.view_as_real(values.resolve_conj().to(torch.complex128))
        return Sample("Zd", tuple(values.shape), parts.numpy().tobytes())
    return real_sample(values)


def real_sample(values: Values) -> Sample:
    """Return all of these values; half precision as float32, complex ones by absolute value."""
    array = as_array(values)
    return Sample(array.dtype.char, array.shape, array.tobytes())


def evenly_spaced(flat: Values, at_most: int) -> Values:
    """Return at most so many of values in one dimension, spread evenly over them."""
    return flat[:: step_of(len(flat), at_most)]


def step_of(size: int, at_most: int) -> int:
    """Return the step at which to take at most so many of so many values."""
    step = max(1, -(-size // at_most))
    # an even step falls in with the common sizes and sees the same few channels
    return step + (step % 2 == 0)


def grid_of(shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Return a grid of at most PICTURE_VALUES values, of the first item and its first channels."""
    sizes, steps = list(shape), [1] * len(shape)
    if prod(shape) > PICTURE_VALUES:
        for axis in range(len(shape) - 2):
            channels = axis == len(shape) - 3 and axis > 0
            sizes[axis] = min(shape[axis], PICTURE_CHANNELS if channels else 1)
    picture_axes = range(max(0, len(shape) - 2), len(shape))
    while prod(sizes) > PICTURE_VALUES:
        longest = max(picture_axes, key=sizes.__getitem__)
        steps[longest] *= 2
        sizes[longest] = -(-shape[longest] // steps[longest])
    cut = tuple(slice(0, n * step, step) for n, step in zip(sizes, steps, strict=True))
    return cut, tuple(steps)


def corner_of(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the corner of at most LEADING values, the longest axes cut first."""
    sizes = list(shape)
    while prod(sizes) > LEADING:
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        sizes[longest] = -(-sizes[longest] // 2)
    return tuple(slice(size) for size in sizes)


def restored(whole: Sample, metadata: Metadata) -> torch.Tensor:
    """Return a tensor with the values of a sample that holds all of them."""
    dtype = getattr(torch, metadata.dtype)
    if whole.format == "Zd":
        parts = torch.frombuffer(bytearray(whole.data), dtype=torch.float64)
        tensor = torch.view_as_complex(parts.view(-1, 2))
    else:
        tensor = torch.from_numpy(np.frombuffer(whole.data, dtype=whole.format).copy())
    return tensor.reshape(whole.shape).to(metadata.device, dtype)
