"""The trend of a layer: its mean at ten of the iterations, as bars."""

from collections import defaultdict

import numpy as np

from nnmagic.display.table import Histogram
from nnmagic.records.call_log import TraceLog

Trend = tuple[int, int, str]
"""What a trend is of: the number of a series, the index of a network, the name of a layer."""


TALLEST = 100
"""How high the bar of the largest mean is."""

NOISE = 1e-6
"""Means that differ by no more than this share of them are one: float32 knows them no better."""


def trend_bars_of(log: TraceLog) -> dict[Trend, Histogram]:
    """Return the trends of all layers; of several calls in an iteration the last one counts.

    Ten iterations of each series are looked at, spread evenly, so that it takes as long for a long
    run as for a short one.
    """
    roots: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for root, series, iteration in zip(
        log.roots, log.root_series, log.root_iteration, strict=False
    ):
        roots[series][iteration].append(root)
    means = log.tensors.column("mean")
    found: dict[Trend, np.ndarray] = {}
    for series, by_iteration in roots.items():
        iterations = sorted(by_iteration)
        places = np.linspace(0, len(iterations) - 1, Histogram.BINS).round().astype(int)
        for bar, place in enumerate(places.tolist()):
            for root in by_iteration[iterations[place]]:
                for call in log.calls_beside(root):
                    output = log.main_output(call)
                    if output is None or call in log.recomputed or log.root_of(call) != root:
                        continue
                    layer = log.layer_of(call)
                    key = series, layer.network, layer.name
                    found.setdefault(key, np.full(Histogram.BINS, np.nan))[bar] = means[output]
    return {key: trend_bars(values) for key, values in found.items()}


def trend_bars(values: np.ndarray) -> Histogram:
    """Return numbers as bars, the least the lowest, and none where it is unknown.

    Where all are the same the bars are half as high as they could be.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return Histogram((0,) * len(values), 0.0, 0.0)
    low, high = values[finite].min(), values[finite].max()
    is_flat = high - low <= NOISE * max(abs(low), abs(high))
    shares = np.full(len(values), 0.5) if is_flat else (values - low) / (high - low)
    heights = np.where(finite, 1 + (TALLEST - 1) * shares, 0).round().astype(int)
    return Histogram(tuple(heights.tolist()), 0.0, 0.0, least_top=TALLEST)
