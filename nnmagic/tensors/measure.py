"""What is measured of a tensor at the moment at which it is seen."""

from math import prod

import numpy as np
import torch

from nnmagic.records.tensor import NOTHING_KNOWN, Sample, Samples, Statistics
from nnmagic.tensors.metadata import unseen
from nnmagic.tensors.samples import real_sample, sample, samples_of, thinned
from nnmagic.tensors.statistics import statistics_of
from nnmagic.tensors.values import Reading, as_array, read, why_unreadable


def measure(
    tensor: torch.Tensor,
    keep: str = "sample",
    *,
    rows: int | None = None,
    drawn: bool = False,
    at_most: int | None = None,
) -> tuple[Statistics, Samples, str]:
    """Measure a tensor as it is now; neither the tensor nor any code of the user's notices.

    This is the one place that lets no error out: a tensor that refuses to be read has no numbers,
    and a reason. Zeros that a sparse tensor does not store count; a nested tensor has the values of
    its components, a quantised one those that it stands for. A DTensor is measured where this
    process holds all of it.

    Args:
        tensor: any tensor.
        keep: what is kept of the values: `"none"`, `"sample"` or `"all"`.
        rows: how many rows the leading sample has, each whole; None takes a corner.
        drawn: whether to keep values to draw a large tensor by.
        at_most: how many values, spread evenly, to measure; None measures all.

    Returns:
        The statistics, the samples, and why they are missing, if they are.
    """
    try:
        with unseen(tensor):
            reason = why_unreadable(tensor)
            if reason:
                return NOTHING_KNOWN, Samples(None, None), reason
            reading = read(tensor)
            if at_most is not None and tensor.numel() > at_most:
                return _measured_thinly(reading, at_most, rows)
            numbers = statistics_of(reading.pieces(), times=reading.times, zeros=reading.zeros)
            return numbers, samples_of(reading, keep, rows, drawn and keep == "sample"), ""
    except Exception as error:  # noqa: BLE001 - an observer observes: no error of ours gets out
        reason = str(error).partition("\n")[0] or type(error).__name__
        return NOTHING_KNOWN, Samples(None, None), reason


def _measured_thinly(
    reading: Reading, at_most: int, rows: int | None
) -> tuple[Statistics, Samples, str]:
    if reading.zeros:
        return NOTHING_KNOWN, Samples(None, None), "sparse, and too large to be thinned"
    flat = np.ascontiguousarray(as_array(thinned(reading.flat, at_most)))
    leading = None
    if rows is not None and reading.whole is not None:
        leading = sample(reading.whole[:rows])
    numbers = statistics_of(Reading(None, flat).pieces(), times=reading.times)
    return numbers, Samples(leading, real_sample(flat)), ""


def first_items(tensor: torch.Tensor, at_most: int) -> Sample | None:
    """Return as many of a tensor's items, from the first, as have at most so many values."""
    with unseen(tensor):
        whole = None if why_unreadable(tensor) else read(tensor).whole
        if whole is None:
            return None
        size = prod(whole.shape[1:])
        if size and len(whole.shape) and len(whole) * size > at_most:
            whole = whole[: max(1, at_most // size)]
        return sample(whole) if prod(whole.shape) <= at_most else None
