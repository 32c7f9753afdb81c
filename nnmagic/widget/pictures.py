"""How a tensor is drawn: by what its axes and its values are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnmagic.network.weight_axes import is_unnamed, unnamed
from nnmagic.records.call_log import TraceLog
from nnmagic.records.columns import EXACT_INTEGERS
from nnmagic.records.tensor import TensorRecord
from nnmagic.widget.axes import SPATIAL

ROBUST = 0.995
"""The share of the values that lie within a picture's limits."""

SHADES = 1000
"""How many steps between a picture's limits the values are told apart in at least."""

SMALL_ERROR = 1e-6
"""By what part of itself a value may be off; a rounding to float32 takes less."""

LEAST_SIDE = 8
"""How many rows and columns an input has at least that is drawn as a photograph."""

MOST_IDS = 4096
"""How many integers are written out as numbers."""

MOST_WRITTEN = 16
"""How many values of any kind are."""

LONGEST_BARS = 1024

PHOTOS = ("rgb", "grey")
WRITTEN_OUT = ("number", "constant", "written")
"""Kinds whose values are shown as numbers, exactly."""

WITHOUT_DISTRIBUTION = (*WRITTEN_OUT, "mask")
"""Kinds whose histogram would say no more than their values do."""

COLOURS = 3
COLOURED = ("rgb", "kernels")
"""Kinds that are drawn of three planes at a time."""

MAKING_PHOTOS = frozenset(("Tanh", "Sigmoid", "tanh", "sigmoid"))
"""The last layers of networks that make photographs."""

BYTE = 255.0
NORMALISED = 6.0
"""How far from zero the values of a photograph lie that was normalised, at most."""


def kind_of(
    record: TensorRecord, axes: Sequence[str], *, scores: bool = False, photo: bool = False
) -> str:
    """Return how a tensor is drawn: by its usual axes where nothing tells what they are.

    Args:
        record: the tensor.
        axes: the names of its axes.
        scores: whether it is read as class scores.
        photo: whether it may be a photograph: an input of the network, or one that it made.

    Returns:
        `"number"` for one value, `"constant"` where all are equal, `"mask"` for bools, `"written"`
        for integers and very few values, `"bars"` for scores, `"rgb"` and `"grey"` for
        photographs, `"heads"` for attention, `"channels"` for maps in space and what each head
        got, `"kernels"` for those of three channels, `"matrix"` for all else.
    """
    if record.numel == 1:
        return "number"
    if record.is_nested:
        return "matrix"
    axes = _likely(axes, record)
    if record.dtype == "bool":
        return "mask"
    if record.min is not None and record.min == record.max and not (record.nan or record.inf):
        return "constant"
    colours = photo_kind(record, axes) if photo else ""
    if colours:
        return colours
    if record.dtype.startswith(("int", "uint")) and record.numel <= MOST_IDS:
        return "written"
    if scores and record.shape and 1 < record.shape[-1] <= LONGEST_BARS:
        return "bars"
    if len(axes) >= 3 and tuple(axes[-2:]) == ("query", "key"):
        return "heads"
    is_map = tuple(axes[-2:]) in (("row", "column"), ("kh", "kw"))
    if len(axes) >= 3 and (is_map or axes[-3] == "head"):
        if record.shape[-2:] == (1, 1):
            return "matrix"
        is_kernels = axes[-1] == "kw" and record.shape[-3] == COLOURS and len(axes) == COLOURS + 1
        return "kernels" if is_kernels else "channels"
    return "written" if record.numel <= MOST_WRITTEN else "matrix"


def _likely(axes: Sequence[str], record: TensorRecord) -> tuple[str, ...]:
    """Return the names of a tensor's axes, the unknown ones as they are called mostly."""
    usual = _usual_axes(record.shape)
    unknown = is_unnamed(axes)
    return tuple(usual[i] if unknown[i] else name for i, name in enumerate(axes))


def _usual_axes(shape: Sequence[int]) -> tuple[str, ...]:
    rank = len(shape)
    if rank == 3 and shape[0] == COLOURS and min(shape[1:]) >= 2 * LEAST_SIDE:
        return ("channel", "row", "column")
    if rank == 3 and shape[1] == shape[2] >= LEAST_SIDE:
        return ("batch", "row", "column")
    if rank in (4, 5):
        return ("batch", "channel", *SPATIAL[rank - 2])
    return unnamed(rank)


def fitting(kind: str, shape: Sequence[int]) -> str:
    """Return the kind itself, or the next best one where the kept values lack colours."""
    if kind in COLOURED and shape[-3] != COLOURS:
        return "grey" if kind == "rgb" else "channels"
    return kind


def photos_of(log: TraceLog, call: int) -> set[int]:
    """Return the tensors of a call's root call that may be photographs: what it got, or made."""
    calls = log.calls_beside(call)
    returned = {*log.outputs[calls.start]}
    ends = (each for each in calls if not returned.isdisjoint(log.outputs[each]))
    making = (each for each in ends if log.layer_of(each).type.rpartition(".")[2] in MAKING_PHOTOS)
    return {*log.inputs[calls.start], *(t for each in making for t in log.outputs[each])}


def photo_kind(record: TensorRecord, axes: Sequence[str]) -> str:
    """Return `"rgb"` or `"grey"` for what can be a photograph by its shape and its range."""
    shape = record.shape
    if len(shape) < 2 or tuple(axes[-2:]) != ("row", "column") or min(shape[-2:]) < LEAST_SIDE:
        return ""
    if record.min is None or record.max is None or photo_limits(record.min, record.max) is None:
        return ""
    if len(axes) < 3 or axes[-3] != "channel":
        return "grey"
    return {1: "grey", COLOURS: "rgb"}.get(shape[-3], "")


def photo_limits(least: float, greatest: float) -> tuple[float, float] | None:
    """Return which values of a photograph are black and white; None where that is not to tell.

    Values in 0..1 and bytes are shown as they are, others from the least to the greatest.
    """
    if least >= 0 and greatest <= 1:
        return 0.0, 1.0
    if least >= 0 and NORMALISED < greatest <= BYTE:
        return 0.0, BYTE
    if -NORMALISED <= least < greatest <= NORMALISED:
        return least, greatest
    return None


def limits(finite: np.ndarray) -> tuple[float, float, bool]:
    """Return a colour map's limits, values between which at least 99.5 % of the others lie.

    Values of both signs get limits symmetric about zero, so that zero is the neutral colour.

    Returns:
        The lower limit, the upper one, and whether they are symmetric about zero.
    """
    if not finite.size:
        return 0.0, 1.0, False
    values = finite.astype(np.float64)
    if values.min() < 0 < values.max():
        most = float(np.quantile(np.abs(values), ROBUST, method="higher"))
        return (-most, most, True) if most else (-1.0, 1.0, True)
    tail = (1 - ROBUST) / 2
    low = float(np.quantile(values, tail, method="lower"))
    high = float(np.quantile(values, 1 - tail, method="higher"))
    return (low, high, False) if low < high else (low, low + 1.0, False)


def needs_doubles(values: np.ndarray, extent: float) -> bool:
    """Tell whether float32 would show values falsely: as Inf, as zero, or as equal to others.

    Args:
        values: those of a picture.
        extent: how far apart its limits lie.
    """
    if values.dtype.itemsize <= 4 and values.dtype.kind == "f":
        return False
    exact = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lost = np.abs(exact.astype(np.float32) - exact)
        return bool((lost > np.minimum(np.abs(exact) * SMALL_ERROR, extent / SHADES)).any())


def texts_of(values: np.ndarray) -> list[str]:
    """Return the texts of bools, and of integers too large for a float64; of other values none."""
    is_large = values.dtype.kind in "iu" and bool(
        ((values > EXACT_INTEGERS) | (values < -EXACT_INTEGERS)).any()
    )
    return [str(each) for each in values.flat] if is_large or values.dtype == bool else []


def values_in(picture: Mapping[str, Any], data: bytes) -> np.ndarray:
    """Return the values of a picture, in one dimension, from its buffer."""
    return np.frombuffer(data, "<f8" if picture["wide"] else "<f4")
