"""The widget's panel: what it shows of a layer's call, of its structure, or of a parameter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nnmagic.display import messages, units
from nnmagic.display.table import LONGEST_LINE
from nnmagic.network.weight_axes import unnamed
from nnmagic.records.call_log import FINISHED, STOPPED, TraceLog
from nnmagic.records.comparison.parameter_rows import ComparedParameter
from nnmagic.records.params import ParameterRecord, Params
from nnmagic.records.summary_rows import LayerShape
from nnmagic.records.tensor import TensorRecord
from nnmagic.records.trace import LayerCall, Trace
from nnmagic.widget.axes import Axes
from nnmagic.widget.cards import CardMaker
from nnmagic.widget.loading import NOTHING, Loading
from nnmagic.widget.pictures import photos_of
from nnmagic.widget.tensor_names import input_names, output_names
from nnmagic.widget.weight_pictures import WeightPicture

SCORE_TYPES = ("Softmax", "LogSoftmax")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDetails:
    """The part of a panel that only the network itself holds.

    Attributes:
        arguments: `extra_repr()`, what it was made with.
        doc: the first sentence of its class's own documentation.
        parameters: its own parameters and those below it, as they are now.
        weights: its own weights to draw, as they are now.
        batch_first: whether it takes the batch as the first axis; None where it does not say.
        reason: why there are none to see, where they cannot be had.
    """

    arguments: str = ""
    doc: str = ""
    parameters: tuple[ParameterRecord, ...] = ()
    weights: tuple[WeightPicture, ...] = ()
    batch_first: bool | None = None
    reason: str = ""


PARAMETERS_SHOWN = 12

WEIGHTS_NOW = "weights as they are now"
WEIGHTS_THEN = "weights as they were when this page was made"


class PanelMaker(CardMaker):
    """Packs a panel: the dict that is sent, and the arrays that its pictures point to."""

    def call_panel(
        self,
        trace: Trace,
        call: int,
        details: LayerDetails,
        *,
        scores: bool = False,
        classes: Sequence[str] = (),
        loading: Callable[[str, int], Loading] = lambda side, place: NOTHING,
        wrong: Sequence[str] = (),
    ) -> messages.PanelContent:
        """Return the panel of one call.

        Args:
            trace: the record.
            call: the number of the call.
            details: the layer's arguments, documentation and parameters.
            scores: whether its output is read as class scores.
            classes: the names of the classes.
            loading: what is loaded of a tensor, by side ("input", "output") and place.
            wrong: what is wrong with the call, a sentence each.
        """
        log, record = trace.log, trace.call_at(call, sources=())
        scored = log.main_output(call) if scores or record.type in SCORE_TYPES else None
        axes = Axes(log, call, details.batch_first)
        inputs, outputs = self._cards(
            log, call, record, axes, scored=scored, classes=classes, loading=loading
        )
        panel = self.layer_content(
            record.layer or record.network, record.type, details, record.parameter_gradients
        )
        got, gave = (units.shape(shape) for shape in (record.input_shape, record.output_shape))
        gave = gave or ("nothing" if log.ended[call] != FINISHED else "no tensor seen")
        notes = _notes(record, log.ended[call])
        called = [("called at", record.place)] if record.place else []
        return {
            **panel,
            "shapes": units.cut(f"{got or 'no tensor'} → {gave}", LONGEST_LINE),
            "wrong": [*_failure(record), *wrong],
            "notes": notes,
            "inputs": inputs,
            "outputs": outputs,
            "facts": [*panel["facts"], *called],
        }

    def _cards(
        self,
        log: TraceLog,
        call: int,
        record: LayerCall,
        axes: Axes,
        *,
        scored: int | None,
        classes: Sequence[str],
        loading: Callable[[str, int], Loading],
    ) -> tuple[list[messages.TensorContent], list[messages.TensorContent]]:
        """Return the cards of what a call got, and of what it returned with its gradients.

        A tensor that is there several times, as attention's q, k and v, has one card.

        Args:
            log: the columns of the run.
            call: where the call stands in them.
            record: what is known of it; its own number is that of the run.
            axes: names the axes of its tensors.
            scored: the tensor that is read as class scores, if one is.
            classes: the names of the classes.
            loading: what is loaded of a tensor, by side and place.
        """
        photos = photos_of(log, call)
        sides = {
            "input": (log.inputs[call], input_names(log, call)),
            "output": (log.outputs[call], output_names(log, call)),
        }

        def card(side: str, place: int, tensor: TensorRecord) -> messages.TensorContent:
            tensors, names = sides[side]
            index, is_scored = tensors[place], side == "output" and tensors[place] == scored
            same = (name for name, each in zip(names, tensors, strict=True) if each == index)
            return self.tensor(
                tensor,
                place=place,
                title=", ".join(same),
                axes=axes.of(index),
                scores=is_scored,
                photo=index in photos,
                classes=classes if is_scored else (),
                loading=loading(side, place),
            )

        got, gave = log.inputs[call], log.outputs[call]
        inputs = [
            card("input", place, tensor)
            for place, tensor in enumerate(record.inputs)
            if got.index(got[place]) == place
        ]
        outputs = []
        for place, tensor in enumerate(record.outputs):
            if gave.index(gave[place]) == place:
                outputs.append(card("output", place, tensor))
                gradient, title = record.gradients[place], outputs[-1]["title"]
                if gradient is not None:
                    named, title = axes.of(gave[place]), f"gradient of {title}"
                    outputs.append(self.tensor(gradient, title=title, axes=named, with_norm=True))
        return inputs, outputs

    def layer_panel(self, layer: LayerShape) -> messages.PanelContent:
        """Return the panel of a layer of a structure, which has no values."""
        name = layer.layer or layer.network
        panel = self.layer_content(name, layer.type, LayerDetails(arguments=layer.config))
        facts = [
            ("parameters", f"{layer.params:,}, {layer.trainable_params:,} trainable"),
            ("memory of parameters", units.size(layer.param_bytes)),
        ]
        if layer.own_params and layer.own_params != layer.params:
            facts.insert(1, ("of its own", f"{layer.own_params:,}"))
        if layer.weights:
            facts.append(("weights", layer.weights))
        if layer.call is not None:
            flops = layer.flops
            count = "unknown" if flops is None else f"{flops:,} ({flops // 2:,} multiply-adds)"
            facts += [("FLOPs", count), ("memory of its output", units.size(layer.output_bytes))]
        got, gave = (units.shape(shape) for shape in (layer.input_shape, layer.output_shape))
        shapes = f"{got or 'no tensor'} → {gave or 'no tensor'}"
        return {
            **panel,
            "shapes": "never called" if layer.call is None else units.cut(shapes, LONGEST_LINE),
            "wrong": ["it failed: %nntrace tells why"] if layer.failed else [],
            "facts": [*panel["facts"], *facts],
        }

    def parameter_panel(
        self, params: Params, record: ParameterRecord, loading: Loading = NOTHING
    ) -> messages.PanelContent:
        """Return the panel of one parameter: its values, of a large one the kept rows."""
        tensor = self.tensor(
            record.tensor,
            title=params.noun,
            axes=record.axes or unnamed(len(record.tensor.shape)),
            loading=loading,
        )
        panel = self.layer_content(record.name, params.noun, LayerDetails())
        size = [] if record.count is None else [("values", f"{record.count:,}, {record.size}")]
        norm = [] if record.grad_norm is None else [("gradient norm", f"{record.grad_norm:.4g}")]
        return {
            **panel,
            "shapes": units.shape(record.shape),
            "notes": params.flags(record),
            "outputs": [tensor],
            "facts": [*size, *norm],
        }

    def compared_parameter_panel(self, record: ComparedParameter) -> messages.PanelContent:
        """Return the panel of a parameter on two sides: how far its values lie apart."""
        panel = self.layer_content(record.name, record.kind, LayerDetails())
        shapes = [units.shape(each) for each in (record.shape, record.other_shape)]
        dtypes = record.dtype, record.other_dtype
        facts = {
            "verdict": record.verdict,
            "why": record.unknown,
            "name on the other side": None
            if record.other_name == record.name
            else record.other_name,
            "other names": ", ".join(record.also),
            "dtype": " against ".join(dict.fromkeys(filter(None, dtypes))),
            "||a - b|| / ||b||": _exact(record.error),
            "largest |a - b|": _exact(record.max_abs),
            "at": None if record.max_at is None or not record.max_abs else str(record.max_at),
            "cosine": None if record.cosine is None else f"{record.cosine:.9g}",
            "values compared": None if record.compared is None else f"{record.compared:,}",
        }
        return {
            **panel,
            "shapes": " against ".join(dict.fromkeys(filter(None, shapes))),
            "facts": [(name, fact) for name, fact in facts.items() if fact],
        }

    def layer_content(
        self,
        title: str,
        type_name: str,
        details: LayerDetails,
        gradients: Mapping[str, TensorRecord | None] | None = None,
    ) -> messages.PanelContent:
        """Return what the panels of all records have, without a tensor and a note."""
        shown = details.parameters[:PARAMETERS_SHOWN]
        more = f"the first {PARAMETERS_SHOWN}; %nnparams shows all"
        weights = {each.name: each for each in details.weights}
        arguments = units.printable(units.cut(details.arguments, LONGEST_LINE))
        return {
            "title": title,
            "type": type_name,
            "shapes": "",
            "wrong": [],
            "notes": [],
            "inputs": [],
            "outputs": [],
            "figures": [],
            "curves": [],
            "parameters": [
                self.parameter(each, weights.get(each.name), (gradients or {}).get(each.name))
                for each in shown
            ],
            "parameters_heading": WEIGHTS_NOW,
            "parameters_reason": details.reason
            or (more if len(details.parameters) > len(shown) else ""),
            "doc": details.doc,
            "facts": [("made with", arguments)] if arguments else [],
        }


def _exact(number: float | None) -> str | None:
    return None if number is None else f"{number:.6g}"


def _failure(record: LayerCall) -> list[str]:
    """Return why a call failed, if it did."""
    if record.failure is None:
        return []
    why = record.failure.mismatch or record.failure.message
    return [f"failed: {record.failure.type}: {why}" if why else f"failed: {record.failure.type}"]


def _notes(record: LayerCall, ended: int) -> list[str]:
    """Return lines that say how a call was measured, and how it ended if it did not return."""
    notes = [
        f"measured on {each.measured:,} of {each.numel:,} values"
        for each in record.outputs[:1]
        if each.measured is not None
    ]
    if record.failure is None and ended != FINISHED:
        notes.append("stopped early" if ended == STOPPED else "running")
    return notes
