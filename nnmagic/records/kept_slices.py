"""Where the values lie that are kept of a large tensor."""

from collections.abc import Sequence
from functools import lru_cache
from math import isqrt, prod
from typing import NamedTuple

import numpy as np

from nnmagic.records.tensor import Picture, Sample, Samples

WHOLE = 1024
"""A tensor of at most this many values is kept whole; of a larger one so many, spread over it."""

LEADING = 256
"""How many values of a larger tensor's front are kept."""

PICTURE_VALUES = 16_384
"""How many values of a larger tensor are kept to draw it by: 16 maps of 32 by 32."""

PICTURE_CHANNELS = 16
"""So many channels are drawn at least, with steps where they do not fit in full."""

SHORTEST = 16
"""So many values of a picture's axis are kept, if it has as many, however long the other is."""


class KeptSlices(NamedTuple):
    """Slices of a large tensor that give the values kept of it, on the host as on a device.

    Attributes:
        leading: slices of its front: a corner, or whole rows.
        picture: slices to draw it by, a grid of its last two axes; None where it is not drawn.
        steps: for each axis, how far apart neighbours in the picture lie.
        drawn: how many values the picture has.
    """

    leading: tuple[slice, ...]
    picture: tuple[slice, ...] | None
    steps: tuple[int, ...]
    drawn: int

    def samples_of_floats(
        self, whole: np.ndarray, flat: np.ndarray, step: int, *, is_finite: bool
    ) -> Samples:
        """Return the samples of float32 or float64 values.

        Args:
            whole: the values in the tensor's own shape.
            flat: the same in one dimension.
            step: how far apart the values of the spread sample lie in it.
            is_finite: whether all of them are finite.
        """
        code, leading, spread = flat.dtype.char, whole[self.leading], flat[::step]
        picture = None
        if self.picture is not None:
            grid = whole[self.picture]
            if not is_finite:
                grid = with_nonfinite(grid, whole, self.steps)
            picture = Picture(Sample(code, grid.shape, grid.tobytes()), self.steps)
        return Samples(
            Sample(code, leading.shape, leading.tobytes()),
            Sample(code, spread.shape, spread.tobytes()),
            picture,
        )


@lru_cache(maxsize=512)
def slices_of(shape: tuple[int, ...], whole_rows: int | None, picture_values: int) -> KeptSlices:
    """Return where the kept values of a tensor of more than `WHOLE` values lie.

    Args:
        shape: its shape.
        whole_rows: how many rows the leading sample has, each whole; None takes a corner.
        picture_values: how many values may be kept to draw it by; 0 keeps none.
    """
    leading = corner_of(shape) if whole_rows is None else (slice(whole_rows),)
    if not picture_values:
        return KeptSlices(leading, None, (), 0)
    sizes, steps = grid_of(shape, picture_values)
    picture = tuple(slice(0, n * step, step) for n, step in zip(sizes, steps, strict=True))
    return KeptSlices(leading, picture, steps, prod(sizes))


def samples_of_whole(whole: Sample, *, with_picture: bool) -> Samples:
    """Return the samples of a tensor, given all of its values."""
    if whole.numel <= WHOLE:
        return Samples(whole, whole)
    slices = slices_of(whole.shape, None, whole.numel if with_picture else 0)
    flat = np.frombuffer(whole.data, whole.format)
    # Such a picture is of all values: there are none between.
    return slices.samples_of_floats(
        flat.reshape(whole.shape), flat, step_of(len(flat), WHOLE), is_finite=True
    )


def with_nonfinite(grid: np.ndarray, whole: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Return a grid of values with NaN or Inf in each cell that stands for one.

    A cell stands for the values from its own to the next cell's. NaN goes before +Inf, and that
    before -Inf.

    Args:
        grid: the values at every n-th place of each axis.
        whole: the values that it was taken from; complex ones by absolute value.
        steps: n for each axis.
    """
    grid = grid.copy()
    covered = whole[tuple(slice(n * step) for n, step in zip(grid.shape, steps, strict=True))]
    for extreme in (np.minimum, np.maximum):  # of numbers and NaN each of them is NaN
        found = covered
        for axis, step in enumerate(steps):
            found = _of_blocks(found, axis, step, extreme)
        np.copyto(grid, found, where=~np.isfinite(found))
    return grid


def _of_blocks(values: np.ndarray, axis: int, step: int, extreme: np.ufunc) -> np.ndarray:
    """Return the extreme of each n values along an axis; `reduceat` takes ten times as long."""
    parts = [values[(slice(None),) * axis + (slice(i, None, step),)] for i in range(step)]
    found = parts[0].copy()
    for part in parts[1:]:  # the last ones may lack a value at the end
        there = found[tuple(map(slice, part.shape))]
        extreme(there, part, out=there)
    return found


def step_of(size: int, at_most: int) -> int:
    """Return the step at which to take at most so many of so many values."""
    step = max(1, -(-size // at_most))
    # an even step falls in with the common sizes and sees the same few channels
    return step + (step % 2 == 0)


def grid_of(shape: tuple[int, ...], at_most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many values of each axis a picture has, and how far apart they lie.

    It shows as many channels as fit, 16 at least, and of as many items as fit, one at least. The
    steps on the last two axes are equal, but where one of them is very short.
    """
    sizes, steps = list(shape), [1] * len(shape)
    if prod(shape) <= at_most:
        return shape, tuple(steps)
    drawn = range(max(0, len(shape) - 2), len(shape))
    for axis in reversed(range(drawn.start)):
        fit = max(1, at_most // prod(sizes[axis + 1 :]))
        channels = axis == drawn.start - 1 and axis > 0
        sizes[axis] = min(shape[axis], max(fit, PICTURE_CHANNELS) if channels else fit)
    longest = max(shape[axis] for axis in drawn)
    step = max(1, isqrt(prod(sizes) // at_most) - 1)
    while prod(sizes) > at_most:
        step += 1
        for axis in drawn:
            most = max(1, shape[axis] // SHORTEST)
            steps[axis] = min(step, most) if step <= longest // SHORTEST else step
            sizes[axis] = -(-shape[axis] // steps[axis])
    return tuple(sizes), tuple(steps)


def corner_of(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the corner of at most LEADING values, the longest axes cut first."""
    sizes = list(shape)
    while prod(sizes) > LEADING:
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        sizes[longest] = -(-sizes[longest] // 2)
    return tuple(slice(size) for size in sizes)
