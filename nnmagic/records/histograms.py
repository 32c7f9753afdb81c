"""Histograms of many tensors at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from nnmagic.display.table import Histogram

if TYPE_CHECKING:
    from nnmagic.records.tensor import Sample


def binned(values: np.ndarray, low: Any, high: Any, bins: int) -> np.ndarray:
    """Return how many values fall into each of the equal bins between two limits; NaN into none.

    Args:
        values: (rows, values).
        low: the lower limit of each row, (rows, 1).
        high: the upper one; where there is no value between the two, no value is counted.
        bins: how many.

    Returns:
        int64, (rows, bins).
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        width = np.asarray(high, dtype=np.float64) / 2 - np.asarray(low, dtype=np.float64) / 2
        part = (values.astype(np.float64) / 2 - low / 2) / np.where(width > 0, width, 1) * bins
        inside = (values >= low) & (values <= high)
    places = np.where(inside, part, bins).astype(np.int64)
    np.minimum(places, bins - 1, out=places, where=inside)
    rows = np.arange(len(values))[:, None] * (bins + 1)
    counts = np.bincount((places + rows).ravel(), minlength=len(values) * (bins + 1))
    return counts.reshape(len(values), bins + 1)[:, :bins]


def histograms(
    tensors: Sequence[tuple[Sample | None, float | None, float | None]],
) -> list[Histogram | None]:
    """Return the histograms of samples between two limits; None where one of the three is unknown.

    Samples of one size are counted together: many small histograms cost most by their number.
    """
    alike: dict[tuple[str, int], list[int]] = {}
    for place, (sample, low, _) in enumerate(tensors):
        if sample is not None and low is not None and not isnan(low):
            alike.setdefault((sample.format, sample.numel), []).append(place)
    found: list[Histogram | None] = [None] * len(tensors)
    for places in alike.values():
        group: list[tuple[Any, Any, Any]] = [tensors[place] for place in places]
        values = np.stack([sample.real_array().ravel() for sample, _, _ in group])
        lows, highs = (np.array([[each[side]] for each in group]) for side in (1, 2))
        counts = binned(values, lows, highs, Histogram.BINS).tolist()
        for place, row, (_, low, high) in zip(places, counts, group, strict=True):
            found[place] = Histogram(tuple(row), low, high)
    return found
