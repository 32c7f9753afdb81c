"""The curves of a run as a figure of matplotlib, which is an extra."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from nnmagic.records.call_log import TraceLog
from nnmagic.records.curves.drawn_curves import HEALTHY_UPDATE, NORMS
from nnmagic.records.curves.history import Curve, History
from nnmagic.records.measures import LOSS
from nnmagic.records.shown_iterations import ShownIterations

PARTS = (LOSS, "mean", "std", "grad_norm", "*.grad_norm", "*.update_ratio")
"""What is drawn where nothing else is asked for, as far as it was recorded."""


MOST_NAMED = 12
"""How many lines a legend names."""


def figure_of(log: TraceLog, quantities: Sequence[str], layers: Sequence[str]) -> Any:
    """Return a figure with an axes for each quantity, and a line for each layer and series.

    Args:
        log: the columns of the run.
        quantities: patterns (`fnmatch`) of the quantities; none takes those that say most.
        layers: patterns of the layers; none takes all.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if nothing that was recorded matches.
    """
    try:
        from matplotlib import pyplot  # lets a notebook show figures
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("trace.plot needs matplotlib: pip install nnmagic[plot]") from None
    assert pyplot is not None
    names = ShownIterations(log, None).names
    curves = [
        curve
        for curve in History(log).curves()
        if curve.series in names
        and not np.isnan(curve.values).all()
        and (not layers or any(fnmatchcase(curve.layer, each) for each in layers))
    ]
    wanted = [(part, [c for c in curves if _matches(c, part)]) for part in quantities or PARTS]
    drawn = [(part, found) for part, found in wanted if found]
    if not drawn:
        raise ValueError(f"nothing was recorded of {', '.join(quantities or layers) or 'the run'}")
    figure = Figure(figsize=(9, 2.6 * len(drawn)), layout="constrained")
    several = len({curve.series for curve in curves}) > 1
    for axes, (part, found) in zip(
        figure.subplots(len(drawn), squeeze=False)[:, 0], drawn, strict=True
    ):
        for curve in found:
            series = [names[curve.series]] if several else []
            layer = curve.layer or (log.networks[curve.network] if not several else "")
            words = [*series, layer, curve.quantity.rpartition(".")[0] if "*" in part else ""]
            label = " ".join(filter(None, words))
            axes.plot(curve.iterations, curve.values, linewidth=1, label=label)
        _finish(axes, part)
    return figure


def _matches(curve: Curve, part: str) -> bool:
    is_of_parameter = "." in curve.quantity
    return fnmatchcase(curve.quantity, part) and is_of_parameter == ("." in part)


def _finish(axes: Any, part: str) -> None:
    if part.endswith((*NORMS, ".norm")):
        axes.set_yscale("log")
    if part.endswith("update_ratio"):
        axes.axhline(HEALTHY_UPDATE, color="grey", linewidth=0.8, linestyle="--")
    axes.set_ylabel(part.replace("*.", "parameters' "))
    axes.set_xlabel("iteration")
    if len(axes.lines) <= MOST_NAMED + 1:
        axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
