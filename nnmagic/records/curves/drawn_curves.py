"""Curves as a page draws them: few points, few digits, and how each is drawn."""

import numpy as np

from nnmagic.display.messages import CurveContent
from nnmagic.records.call_log import TraceLog
from nnmagic.records.curves.history import Curve, History
from nnmagic.records.measures import LOSS
from nnmagic.records.shown_iterations import ShownIterations
from nnmagic.records.tensor import Sample

POINTS = 200
"""How many iterations a curve has in a page; more of them would not be told apart."""

OF_OUTPUTS = {"mean": "mean, and the middle 90 %", "grad_norm": "output gradient norm"}
"""What curves of a layer's output are called; "gradient norm" alone is that of a parameter."""

HEALTHY_UPDATE = 1e-3
"""The update ratio that is marked: what small networks learn well with (Karpathy, CS231n)."""

NORMS = ("grad_norm", ".update_ratio")
"""Quantities of many orders of magnitude: their curves are logarithmic."""

MIDDLE = (0.05, 0.95)
"""Between these quantiles of its values lies the band around a mean."""

MOST_RANKED = 256
"""How many values the quantiles are of."""


def drawn(curve: Curve, points: int = POINTS, title: str = "") -> CurveContent:
    """Return a curve without a band.

    Args:
        curve: the curve.
        points: how many iterations it has at most.
        title: what it is called; its quantity where there is none.
    """
    chosen = chosen_of(curve.values, points)
    return {
        **looks_of(title or curve.quantity),
        "iterations": curve.iterations[chosen].tolist(),
        "values": numbers_of(curve.values[chosen]),
        "low": [],
        "high": [],
    }


def looks_of(quantity: str) -> CurveContent:
    """Return how a quantity is drawn: `weight.update_ratio` on a logarithmic axis."""
    title = quantity.replace("grad_norm", "gradient norm").replace("update_ratio", "update ratio")
    return {
        "title": OF_OUTPUTS.get(quantity, title),
        "is_log": quantity.endswith(NORMS),
        "mark": HEALTHY_UPDATE if quantity.endswith(".update_ratio") else None,
    }


def moves(values: np.ndarray) -> bool:
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


def middle_of(sample: Sample | None) -> tuple[float, float]:
    """Return between which numbers the middle 90 % of a tensor's kept values lie, NaN if unknown.

    They are those of 256 values, evenly taken of the finite ones.
    """
    values = np.zeros(0) if sample is None else sample.real_array().ravel()
    values = values[:: max(1, len(values) // MOST_RANKED)]
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return np.nan, np.nan
    low, high = (float(values[round(part * (len(values) - 1))]) for part in MIDDLE)
    return low, high


def losses_of(log: TraceLog) -> list[CurveContent]:
    """Return the curves of the loss, one for each network and mode that has one."""
    if not any(each.name == LOSS for each in log.measures.quantities):
        return []
    curves = [each for each in History(log).curves([LOSS]) if moves(each.values)]
    names = ShownIterations(log, None).names if len(curves) > 1 else {}
    return [
        drawn(each, title=f"{LOSS} of {names[each.series]}" if names else LOSS) for each in curves
    ]
