"""The widget's panel: one layer's tensors as pictures, histograms and numbers for the browser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nnmagic.display import messages, units
from nnmagic.display.table import LONGEST_LINE
from nnmagic.records.call_log import FINISHED, STOPPED
from nnmagic.records.histograms import binned, values_of
from nnmagic.records.params import ParameterRecord, Params
from nnmagic.records.record import leading_rows
from nnmagic.records.summary_rows import LayerShape
from nnmagic.records.tensor import STATISTICS, Picture, TensorRecord
from nnmagic.records.trace import LayerCall, Trace
from nnmagic.widget.loading import MOST_VALUES, NOTHING, Loading

BINS = 32

ROBUST = 0.995
"""The share of the values that lie within a picture's limits."""

SCORE_TYPES = ("Softmax", "LogSoftmax")
FEATURES_LAST = ("Linear", "LayerNorm", "RMSNorm", "Embedding", "GELU")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDetails:
    """The part of a panel that only the network itself holds.

    Attributes:
        arguments: `extra_repr()`, what it was made with.
        doc: the first sentence of its class's documentation.
        parameters: its own parameters and those below it, as they are now.
        reason: why there are none to see, where they cannot be had.
    """

    arguments: str = ""
    doc: str = ""
    parameters: tuple[ParameterRecord, ...] = ()
    reason: str = ""


PARAMETERS_SHOWN = 12


class PanelMaker:
    """Packs a panel: the dict that is sent, and the arrays that its pictures point to."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = []

    def call_panel(
        self,
        trace: Trace,
        call: int,
        details: LayerDetails,
        *,
        scores: bool = False,
        classes: Sequence[str] = (),
        loading: Callable[[str, int], Loading] = lambda side, place: NOTHING,
    ) -> messages.PanelContent:
        """Return the panel of one call.

        Args:
            trace: the record.
            call: the number of the call.
            details: the layer's arguments, documentation and parameters.
            scores: whether its output is read as class scores.
            classes: the names of the classes.
            loading: what is loaded of a tensor, by side ("input", "output") and place.
        """
        log, record = trace.log, trace.call(call)
        scored = "output" if scores else ""
        sides = (
            ("input", record.inputs, log.inputs[call]),
            ("output", record.outputs, log.outputs[call]),
        )
        inputs, outputs = (
            [
                self.tensor(
                    tensor,
                    place=i,
                    title=_title(side, tensors, i),
                    kind="bars" if side == scored else _kind(record.type, tensor, side, i),
                    classes=classes if side == scored else (),
                    loading=loading(side, i),
                )
                for i, tensor in enumerate(records)
                if tensors[i] not in tensors[:i]  # the same tensor again, as attention's q, k and v
            ]
            for side, records, tensors in sides
        )
        return {
            **self._layer_content(record.layer or record.network, record.type, details),
            "place": f"called at {record.place}" if record.place else "",
            "notes": _notes(record, log.ended[call]),
            "inputs": inputs,
            "outputs": outputs,
        }

    def layer_panel(self, layer: LayerShape) -> messages.PanelContent:
        """Return the panel of a layer of a structure, which has no values."""
        notes = [
            f"input {units.shape(layer.input_shape) or 'no tensor'}",
            f"output {units.shape(layer.output_shape) or 'no tensor'}",
            f"{layer.params:,} parameters, {layer.trainable_params:,} trainable, "
            f"{units.size(layer.param_bytes)}",
        ]
        if layer.call is None:
            notes[:2] = ["never called"]
        elif layer.flops is not None:
            notes.append(f"{layer.flops:,} FLOPs, {layer.flops // 2:,} multiply-adds")
        else:
            notes.append("FLOPs unknown")
        details = LayerDetails(arguments=layer.config)
        name = layer.layer or layer.network
        return {**self._layer_content(name, layer.type, details), "notes": notes}

    def parameter_panel(
        self, params: Params, record: ParameterRecord, loading: Loading = NOTHING
    ) -> messages.PanelContent:
        """Return the panel of one parameter: its values, of a large one the kept rows."""
        kind = "matrix" if len(record.tensor.shape) < 3 else "channels"
        tensor = self.tensor(record.tensor, title=params.noun, kind=kind, loading=loading)
        counts = () if record.count is None else (f"{record.count:,} values, {record.size}",)
        panel = self._layer_content(record.name, params.noun, LayerDetails())
        return {**panel, "notes": [*counts, *params.flags(record)], "outputs": [tensor]}

    def _layer_content(
        self, title: str, type_name: str, details: LayerDetails
    ) -> messages.PanelContent:
        """Return what the panels of all records have, without a tensor and a note."""
        shown = details.parameters[:PARAMETERS_SHOWN]
        more = f"the first {PARAMETERS_SHOWN}; %nnparams shows all"
        return {
            "title": title,
            "type": type_name,
            "place": "",
            "arguments": units.printable(units.cut(details.arguments, LONGEST_LINE)),
            "doc": details.doc,
            "notes": [],
            "inputs": [],
            "outputs": [],
            "figures": [],
            "parameters": [self.parameter(each) for each in shown],
            "parameters_reason": details.reason
            or (more if len(details.parameters) > len(shown) else ""),
        }

    def tensor(
        self,
        record: TensorRecord,
        *,
        title: str,
        kind: str,
        place: int = 0,
        classes: Sequence[str] = (),
        loading: Loading = NOTHING,
    ) -> messages.TensorContent:
        """Return a tensor's numbers, its histogram and its picture."""
        drawn = self._picture(record, kind, classes, loading)
        source = _source(record, loading)
        shown = 0 if source is None else source.sample.numel
        return {
            **_measured(record),
            "title": title,
            "caption": "",
            "place": place,
            "dtype": record.dtype,
            "device": record.device if record.device != "cpu" else "",
            "numel": record.numel,
            "unknown": record.unknown,
            "picture": drawn,
            "loadable": loading.can_load and shown < min(record.numel, MOST_VALUES),
            "offers_new_run": loading.offers_new_run and shown < record.numel,
            "reason": loading.reason if shown < record.numel else "",
        }

    def parameter(self, record: ParameterRecord) -> messages.ParameterContent:
        """Return a parameter's numbers, its histogram and its first values."""
        tensor = record.tensor
        rows = leading_rows(tensor.values, tensor.shape, 1)
        flags = (
            "" if record.trainable else "frozen",
            f"measured on {tensor.measured:,} of its values" if tensor.measured else "",
            f"= {record.tied_to}" if record.tied_to else "",
        )
        return {
            **_measured(tensor),
            "name": record.name,
            "shape": units.shape(record.shape),  # of a lazy one there is none
            "count": record.count,
            "first": rows[0] if rows else "",
            "flags": ", ".join(filter(None, flags)),
        }

    def _picture(
        self, record: TensorRecord, kind: str, classes: Sequence[str], loading: Loading
    ) -> messages.PictureContent | None:
        picture = _source(record, loading)
        if picture is None or not record.shape or not picture.sample.numel:
            return None
        values = values_of(picture.sample)
        if kind == "bars" and (len(record.shape) < 1 or values.shape[-1] > 1024):
            kind = "matrix"
        if kind in ("channels", "heads") and len(record.shape) < 3:
            kind = "matrix"
        drawn = self._grid(values, kind, _axes(kind, len(record.shape)))
        drawn["steps"], drawn["full"] = list(picture.steps), list(record.shape)
        drawn["caption"] = _caption(record, picture, loading)
        drawn["names"] = list(classes) if len(classes) == record.shape[-1] else []
        return drawn

    def figure(
        self, values: np.ndarray, *, title: str, caption: str, kind: str, axes: Sequence[str]
    ) -> messages.TensorContent:
        """Return a grid of values worked out from tensors, to be drawn as a tensor is.

        Args:
            values: what to draw, of 1 to 5 axes.
            title: what it is: ``"attention weights"``.
            caption: how it was worked out, in words.
            kind: `"matrix"`, `"heads"`, `"channels"` or `"bars"`.
            axes: the name of each axis: ``("head", "query", "key")``.
        """
        return {
            "shape": units.shape(values.shape),
            "stats": {},
            "histogram": None,
            "title": title,
            "caption": caption,
            "place": 0,
            "dtype": "",
            "device": "",
            "numel": values.size,
            "unknown": "",
            "picture": self._grid(values, kind, axes),
            "loadable": False,
            "offers_new_run": False,
            "reason": "",
        }

    def _grid(self, values: np.ndarray, kind: str, axes: Sequence[str]) -> messages.PictureContent:
        """Return the picture of all these values."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high, diverging = limits(finite)
        self.buffers.append(values.astype("<f4").tobytes())
        return {
            "kind": kind,
            "buffer": len(self.buffers) - 1,
            "shape": list(values.shape),
            "steps": [1] * values.ndim,
            "full": list(values.shape),
            "axes": list(axes),
            "caption": "",
            "low": low,
            "high": high,
            "diverging": diverging,
            "names": [],
        }


def _title(side: str, places: tuple[int, ...], index: int) -> str:
    same = [str(i) for i, place in enumerate(places) if place == places[index]]
    return side if len(places) == len(same) == 1 else f"{side} {', '.join(same)}"


def _notes(record: LayerCall, ended: int) -> list[str]:
    """Return lines that say how a call was measured, and how it ended if it did not return."""
    notes = [
        f"measured on {each.measured:,} of {each.numel:,} values"
        for each in record.outputs[:1]
        if each.measured is not None
    ]
    if record.failure is not None:
        why = record.failure.mismatch or record.failure.message
        notes.append(f"failed: {record.failure.type}: {why}")
    elif ended != FINISHED:
        notes.append("stopped early" if ended == STOPPED else "running")
    return notes


def _source(record: TensorRecord, loading: Loading) -> Picture | None:
    """Return the largest grid of values that there is of a tensor."""
    sample = loading.values or record.whole
    if sample is None and record.picture is not None:
        return record.picture
    sample = sample or record.leading
    return None if sample is None else Picture(sample, (1,) * len(sample.shape))


def _measured(record: TensorRecord) -> messages.MeasuredContent:
    """Return the numbers of a tensor."""
    return {
        "shape": units.shape(record.shape),
        "stats": {name: getattr(record, name) for name in STATISTICS},
        "histogram": histogram(record),
    }


def histogram(record: TensorRecord) -> messages.HistogramContent | None:
    """Return how often the values fall into each of 32 bins, and over how many that is."""
    if record.spread is None or record.min is None or record.max is None:
        return None
    values = values_of(record.spread).reshape(1, -1)
    (counts,) = binned(values, record.min, record.max, BINS)
    kept = record.spread.numel
    return {
        "counts": counts.tolist(),
        "low": record.min,
        "high": record.max,
        "of": f"all {record.numel:,} values"
        if kept >= record.numel
        else f"{kept:,} of {record.numel:,} values",
    }


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


def _kind(layer: str, tensor: TensorRecord, side: str, place: int) -> str:
    """Return how a tensor is drawn: by the kind of its layer, then by its axes."""
    rank = len(tensor.shape)
    square = rank >= 3 and tensor.shape[-1] == tensor.shape[-2]
    if layer in SCORE_TYPES and rank == 2:
        return "bars"
    if "Attention" in layer and side == "output" and place > 0 and rank >= 3:
        return "heads"
    if layer in ("Softmax", "Dropout") and rank == 4 and square:
        return "heads"
    if rank >= 4 and layer not in FEATURES_LAST:
        return "channels"
    return "matrix"


AXES = {
    "bars": ("batch", "class"),
    "matrix": ("batch", "position", "feature"),
    "channels": ("batch", "channel", "row", "column"),
    "heads": ("batch", "head", "query", "key"),
}


def _axes(kind: str, rank: int) -> list[str]:
    names = AXES[kind]
    if kind == "matrix" and rank == 2:
        names = ("batch", "feature")
    if rank <= len(names):
        return list(names[len(names) - rank :])
    if kind == "channels" and rank == 5:
        return ["batch", "channel", "depth", "row", "column"]
    return [names[0], *(f"axis {i}" for i in range(1, rank - len(names) + 1)), *names[1:]]


def _caption(record: TensorRecord, picture: Picture, loading: Loading) -> str:
    """Return of what the picture is a sample: ``16 of 64 channels, 4,096 of 802,816 values``."""
    shown, full = picture.sample.shape, record.shape
    if loading.is_new_run:
        return f"a new run, eval mode: {_caption(record, picture, NOTHING)}"
    if picture.sample.numel == record.numel:
        return f"all {record.numel:,} values"
    parts = []
    if len(full) >= 3 and shown[0] < full[0]:
        parts.append(f"{'item 1' if shown[0] == 1 else f'items 1 to {shown[0]}'} of {full[0]}")
    if len(full) >= 4 and shown[-3] < full[-3]:
        parts.append(f"{shown[-3]} of {full[-3]} channels")
    steps = [step for step in picture.steps if step > 1]
    if steps:
        parts.append(f"every {' × '.join(map(_ordinal, steps))} value")
    parts.append(f"{picture.sample.numel:,} of {record.numel:,} values")
    return ", ".join(parts)


def _ordinal(step: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(step, f"{step}th")
