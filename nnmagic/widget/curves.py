"""The curves of a layer over the iterations of a run, and its distribution in each of them."""

import numpy as np

from nnmagic.display import units
from nnmagic.display.messages import CurveContent, PanelContent
from nnmagic.records.call_log import TraceLog
from nnmagic.records.history import Curve, Distributions, History
from nnmagic.widget.panel import PanelMaker

POINTS = 200
"""How many iterations a curve has in a page; more of them would not be told apart."""

USUAL_UPDATE = 1e-3
"""By how much of its norm a parameter changes in a step of many loops that learn well."""

PLAIN = ("loss", "zeros")
NORMS = ("grad_norm", ".grad_norm", ".update_ratio")
"""Quantities of many orders of magnitude: their curves are logarithmic."""


class Curves:
    """Gives the curves of the layers of one run.

    Args:
        log: the columns of the run.
        points: how many iterations a curve has at most.
    """

    def __init__(self, log: TraceLog, points: int = POINTS) -> None:
        self.log = log
        self.points = points
        self.history = History(log)
        self._of: dict[tuple[int, int, str], dict[str, Curve]] = {}
        for curve in self.history.curves():
            key = curve.series, curve.network, curve.layer
            self._of.setdefault(key, {})[curve.quantity] = curve

    def add(self, panel: PanelContent, panels: PanelMaker, call: int) -> None:
        """Add the curves of a call's layer to its panel, and its distributions as a map.

        Args:
            panel: the panel.
            panels: packs it.
            call: the number of the call.
        """
        series, layer = self.log.series_of(call), self.log.layer_of(call)
        curves = self._of.get((series, layer.network, layer.name), {})
        panel["curves"] = contents_of(curves, self.points)
        distributions = self.history.distributions(series, layer.name)
        if len(distributions.iterations) > 1:
            values, caption = heat_map(distributions, self.points)
            figure = panels.figure(
                values,
                title="distribution over the iterations",
                caption=caption,
                kind="matrix",
                axes=("bin", "iteration"),
            )
            panel["figures"].append([figure])


def contents_of(curves: dict[str, Curve], points: int = POINTS) -> list[CurveContent]:
    """Return the curves that are drawn of a layer, those left out that have one value only."""
    found = []
    mean, std = curves.get("mean"), curves.get("std")
    for name in [*PLAIN[:1], "mean", *PLAIN[1:], *(n for n in curves if n.endswith(NORMS))]:
        curve = curves.get(name)
        if curve is None or not _moves(curve.values):
            continue
        chosen = chosen_of(curve.values, points)
        content: CurveContent = {
            "title": name.replace("grad_norm", "gradient norm").replace(
                "update_ratio", "update ratio"
            ),
            "iterations": curve.iterations[chosen].tolist(),
            "values": numbers_of(curve.values[chosen]),
            "low": [],
            "high": [],
            "is_log": name.endswith(NORMS),
            "mark": USUAL_UPDATE if name.endswith(".update_ratio") else None,
        }
        if name == "mean" and std is not None and mean is not None:
            content["title"] = "mean ± std"
            content["low"] = numbers_of(mean.values[chosen] - std.values[chosen])
            content["high"] = numbers_of(mean.values[chosen] + std.values[chosen])
        found.append(content)
    return found


def _moves(values: np.ndarray) -> bool:
    """Tell whether a curve would say more than one number does."""
    finite = values[np.isfinite(values)]
    return len(values) > 1 and len(finite) > 0 and (len(finite) < len(values) or np.ptp(finite) > 0)


def chosen_of(values: np.ndarray, points: int) -> np.ndarray:
    """Return which points are drawn: spread evenly, and the first that is not finite."""
    spread = np.linspace(0, len(values) - 1, min(len(values), points)).round().astype(int)
    return np.union1d(spread, np.flatnonzero(~np.isfinite(values))[:1])


def numbers_of(values: np.ndarray) -> list[float | None]:
    """Return numbers for JSON, four digits each; None for one that is not finite."""
    return [float(f"{each:.4g}") if np.isfinite(each) else None for each in values.tolist()]


def heat_map(distributions: Distributions, points: int = POINTS) -> tuple[np.ndarray, str]:
    """Return shares of values by bin, the highest first, and iteration; and a caption.

    Args:
        distributions: the histograms, each between its own ends.
        points: how many iterations there are at most.
    """
    chosen = chosen_of(distributions.low, points)
    low, high = distributions.low[chosen], distributions.high[chosen]
    counts = distributions.counts[chosen]
    bins = counts.shape[1]
    ends = np.nanmin(low), np.nanmax(high)
    grid = np.zeros((bins, len(chosen)), np.float32)
    if np.isfinite(ends).all() and ends[0] < ends[1]:
        centres = low[:, None] + (high - low)[:, None] * (np.arange(bins) + 0.5) / bins
        places = np.nan_to_num((centres - ends[0]) / (ends[1] - ends[0]) * bins)
        rows = bins - 1 - np.clip(places.astype(int), 0, bins - 1)
        columns = np.broadcast_to(np.arange(len(chosen))[:, None], rows.shape)
        np.add.at(grid, (rows, columns), counts / np.maximum(1, counts.sum(1, keepdims=True)))
    from_low, to_high = units.numbers(*map(float, ends))
    iterations = distributions.iterations[chosen]
    spread = units.plural(len(chosen), "iteration")
    return grid, (
        f"upwards from {from_low} to {to_high}, in each of {spread} from {iterations[0]:,} to "
        f"{iterations[-1]:,}: the share of the values in a bin"
    )
