"""What is measured of a tensor at the moment at which it is seen."""

from math import prod
from typing import NamedTuple

import numpy as np
import torch

from nnmagic.records.kept_slices import slices_of
from nnmagic.records.tensor import NO_VALUES, NOTHING_KNOWN, Picture, Sample, Samples, Statistics
from nnmagic.tensors.metadata import hidden_from_user_code
from nnmagic.tensors.samples import evenly_spaced, grid, real_sample, sample, samples_of
from nnmagic.tensors.shards import part_here
from nnmagic.tensors.statistics import statistics_of
from nnmagic.tensors.values import DenseValues, as_array, read, why_unreadable


class Measured(NamedTuple):
    """The statistics and the samples of a tensor.

    Attributes:
        statistics: NaN where unknown.
        samples: the values that are kept.
        unknown: why the statistics are blank, or an empty text.
    """

    statistics: Statistics
    samples: Samples
    unknown: str = ""


def measure(
    tensor: torch.Tensor,
    keep: str = "sample",
    *,
    whole_rows: int | None = None,
    picture_values: int = 0,
    max_values: int | None = None,
) -> Measured:
    """Measure a tensor as it is now; neither the tensor nor any code of the user's notices.

    This is the one place that lets no error out: a tensor that refuses to be read has no numbers,
    and a reason. Zeros that a sparse tensor does not store count; a nested tensor has the values of
    its components, a quantised one those that it stands for, and a DTensor those of the part that
    this process holds.

    Args:
        tensor: any tensor.
        keep: what is kept of the values: `"none"`, `"sample"` or `"all"`.
        whole_rows: how many rows the leading sample has, each whole; None takes a corner.
        picture_values: how many values may be kept to draw a large tensor by; 0 keeps none.
        max_values: how many values, spread evenly, to measure; None measures all.
    """
    try:
        with hidden_from_user_code(tensor):
            reason = why_unreadable(tensor)
            if reason:
                return not_measured(reason)
            reading = read(tensor)
            if max_values is not None and part_here(tensor).numel() > max_values:
                return measure_subsample(reading, max_values, whole_rows)
            numbers = _statistics_of(reading)
            kept = samples_of(
                reading,
                keep,
                whole_rows=whole_rows,
                picture_values=picture_values,
                is_finite=numbers.is_finite,
            )
            return Measured(numbers, kept)
    except Exception as error:  # noqa: BLE001 - an observer observes: no error of ours gets out
        return not_measured(reason_of(error))


def measure_subsample(reading: DenseValues, max_values: int, whole_rows: int | None) -> Measured:
    """Measure so many values, spread evenly over a tensor's distinct ones.

    Args:
        reading: the tensor's values.
        max_values: how many values to measure at most.
        whole_rows: how many rows to keep whole; None keeps none.
    """
    if reading.zeros:
        return not_measured("sparse, and too large to be sampled")
    flat = np.ascontiguousarray(as_array(evenly_spaced(reading.flat, max_values)))
    leading = None
    if whole_rows is not None and reading.whole is not None:
        leading = sample(reading.whole[:whole_rows])
    statistics = _statistics_of(DenseValues(None, flat, reading.repeats))
    return Measured(statistics, Samples(leading, real_sample(flat)))


def _statistics_of(values: DenseValues) -> Statistics:
    return statistics_of(values.pieces(), repeats=values.repeats, zeros=values.zeros)


def not_measured(reason: str) -> Measured:
    """Return blank statistics, with the reason, of a tensor that cannot be measured."""
    return Measured(NOTHING_KNOWN, NO_VALUES, reason)


def reason_of(error: Exception) -> str:
    """Return the first line of an error's text, which says why there are no statistics."""
    return str(error).partition("\n")[0] or type(error).__name__


def first_items(tensor: torch.Tensor, at_most: int) -> Sample | None:
    """Return as many of a tensor's items, from the first, as have at most so many values."""
    with hidden_from_user_code(tensor):
        whole = None if why_unreadable(tensor) else read(tensor).whole
        if whole is None:
            return None
        size = prod(whole.shape[1:])
        if size and len(whole.shape) and len(whole) * size > at_most:
            whole = whole[: max(1, at_most // size)]
        return sample(whole) if prod(whole.shape) <= at_most else None


def picture_of(tensor: torch.Tensor, at_most: int, *, is_finite: bool) -> Picture | None:
    """Return a grid of values to draw a tensor of the host by, None where it cannot be read.

    Args:
        tensor: any tensor.
        at_most: how many values the grid has at most.
        is_finite: whether all values of the tensor are finite.
    """
    with hidden_from_user_code(tensor):
        whole = None if why_unreadable(tensor) else read(tensor).whole
        if whole is None:
            return None
        slices = slices_of(tuple(whole.shape), None, at_most)
        if slices.picture is None:
            return None
        return Picture(sample(grid(whole, slices, is_finite=is_finite)), slices.steps)
