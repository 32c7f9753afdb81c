"""Measuring a tensor on its accelerator, without waiting for its values."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from nnmagic.records.kept_slices import WHOLE, slices_of
from nnmagic.records.tensor import Picture
from nnmagic.tensors.device_statistics import pieces, statistics_of_sums, sums_of, widest
from nnmagic.tensors.measure import Measured, measure, measure_subsample
from nnmagic.tensors.samples import evenly_spaced, sample, samples_cut
from nnmagic.tensors.shards import part_here
from nnmagic.tensors.values import DenseValues, Values, in_memory_order, read, why_unreadable

COPIED = 4096
"""A tensor of at most this many values is copied on its device, and measured once it is read."""


class Begun(NamedTuple):
    """A tensor that its device is measuring.

    Attributes:
        tensors: small ones on the device, to be read at any later time.
        finish: returns statistics and samples of the tensor, given copies of these on the host.
    """

    tensors: list[torch.Tensor]
    finish: Callable[..., Measured]


class BegunPicture(NamedTuple):
    """Values to draw a tensor by that its device has cut out.

    Attributes:
        values: the values on the device, to be read at any later time.
        steps: for each axis, how far apart neighbours lie in the tensor.
    """

    values: torch.Tensor
    steps: tuple[int, ...]

    def finish(self, values: torch.Tensor) -> Picture:
        """Return the picture, given a copy of its values on the host."""
        return Picture(sample(_values(values)), self.steps)


def begin_picture(tensor: torch.Tensor, at_most: int) -> BegunPicture | None:
    """Let a tensor's device cut out values to draw it by; None where it is measured with them.

    Args:
        tensor: a dense one, see `is_dense`.
        at_most: how many values; 0 cuts out none.
    """
    tensor = part_here(tensor)
    if not at_most or tensor.numel() <= COPIED:
        return None
    slices = slices_of(tuple(tensor.shape), None, at_most)
    return BegunPicture(tensor[slices.picture].clone(), slices.steps)


def is_dense(tensor: torch.Tensor) -> bool:
    """Tell whether a device can measure a tensor: no sparse, nested, quantised or hidden one."""
    is_strided = tensor.layout is torch.strided and not tensor.is_nested
    return is_strided and not tensor.is_quantized and not why_unreadable(tensor)


def begin(
    tensor: torch.Tensor,
    keep: str = "sample",
    *,
    whole_rows: int | None = None,
    picture_values: int = 0,
    max_values: int | None = None,
) -> Begun:
    """Let a tensor's device begin to measure it as it is now; the host does not wait.

    The operations go to the device's current stream, behind those that made the tensor and before
    those that may change it. A layer that returns what another stream still computes has to wait
    for that stream itself, as for any other use.

    Args:
        tensor: a dense one, see `is_dense`.
        keep: what is kept of the values: `"none"` or `"sample"`.
        whole_rows: how many rows the leading sample has, each whole; None takes a corner.
        picture_values: how many values may be kept to draw a tensor by that is measured once it
            is read; `begin_picture` cuts them out of a larger one.
        max_values: how many values, spread evenly, to measure; None measures all.
    """
    tensor = part_here(tensor)
    shape, dtype = tuple(tensor.shape), tensor.dtype
    if tensor.numel() <= COPIED:
        options: dict[str, Any] = {
            "whole_rows": whole_rows,
            "picture_values": picture_values,
            "max_values": max_values,
        }
        return Begun([tensor.clone()], partial(measure, keep=keep, **options))
    ordered, repeats = in_memory_order(tensor, tensor.stride())
    if max_values is not None and max_values < tensor.numel():
        rows = [] if whole_rows is None else [tensor[:whole_rows].clone()]

        def subsampled(flat: torch.Tensor, whole: torch.Tensor | None = None) -> Measured:
            leading = None if whole is None else _values(whole)
            values = DenseValues(leading, _values(flat), repeats)
            return measure_subsample(values, max_values, whole_rows)

        return Begun([evenly_spaced(ordered, max_values).clone(), *rows], subsampled)
    wide = widest(tensor.device)
    sums, sizes = list[torch.Tensor](), list[int]()
    for piece in pieces(ordered):
        sums += sums_of(piece, wide)
        sizes.append(len(piece))
    slices, samples = slices_of(shape, whole_rows, 0), list[torch.Tensor]()
    if keep != "none":
        samples = [tensor[slices.leading].clone(), evenly_spaced(tensor, WHOLE).clone()]

    def finished(*copies: torch.Tensor) -> Measured:
        statistics = statistics_of_sums(copies[: len(sums)], sizes, dtype, repeats)
        samples = samples_cut(slices, *map(_values, copies[len(sums) :]))
        return Measured(statistics, samples)

    return Begun([*sums, *samples], finished)


def _values(tensor: torch.Tensor) -> Values:
    whole = read(tensor).whole
    assert whole is not None
    return whole
