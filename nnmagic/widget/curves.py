"""The curves of a layer over the iterations of a run, and its distribution in each of them."""

import numpy as np

from nnmagic.display import units
from nnmagic.display.messages import CurveContent, PanelContent
from nnmagic.records.call_log import TraceLog
from nnmagic.records.curves.drawn_curves import (
    NORMS,
    POINTS,
    chosen_of,
    drawn,
    middle_of,
    moves,
    numbers_of,
)
from nnmagic.records.curves.history import Curve, Distributions, History
from nnmagic.widget.panel import PanelMaker

SHOWN = ("loss", "mean", "zeros")
"""The quantities that are drawn first; then come the norms."""


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
        norms = [name for name in curves if name.endswith(NORMS)]
        shown = [curves[name] for name in (*SHOWN, *norms) if name in curves]
        outputs = self.history.outputs(series, layer.name)
        panel["curves"] = [self._drawn(each, outputs) for each in shown if moves(each.values)]
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

    def _drawn(self, curve: Curve, outputs: dict[int, int]) -> CurveContent:
        """Return a curve, that of a mean with the band in which most values lie."""
        content = drawn(curve, self.points)
        if curve.quantity == "mean":
            tensors = [outputs[iteration] for iteration in content["iterations"]]
            kept = [self.log.tensors.samples_of(tensor).spread for tensor in tensors]
            ends = np.array([middle_of(each) for each in kept], dtype=np.float64)
            if np.isfinite(ends).any():
                content["low"], content["high"] = map(numbers_of, ends.T)
        return content


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
