"""The rows of two runs side by side, and what is said of the one in which they part."""

from dataclasses import dataclass
from math import inf

from nnmagic.display import units
from nnmagic.display.units import Shape
from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.differences import Difference
from nnmagic.records.comparison.verdicts import OTHER_SHAPE, PARTS

NOTHING = (
    "nothing can be compared: no values of the same tensors were kept on both sides; "
    'trace both with keep="sample", or "all"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCall:
    """One call of two runs, or a call that only one of them made.

    Errors are relative: ||a - b|| / ||b||, a this side's values and b the other's; of several
    tensors the largest. What is unknown is None.

    Attributes:
        network: the name of the network on this side.
        layer: the dotted name on this side, None where only the other side made the call.
        other_layer: the dotted name on the other side, None likewise.
        matched_by: `"name"`, `"rename"`, `"order"` (type, shape and order), or None.
        call: the number of the call in this run.
        other_call: its number in the other run.
        iteration: which iteration it is of; None in a run that has one of each place in the code.
        type: the class name.
        output_shape: the shape of what this side returned, nested as the values were.
        other_shape: of what the other side returned.
        input_error: how far what the two got lies apart.
        output_error: how far what they returned lies apart.
        own_error: how far it does where the other side got this side's input.
        max_abs: the largest absolute difference of the outputs.
        max_at: its index.
        cosine: the cosine of the angle between the outputs.
        tolerance: the error that rounding explains.
        bound: the same with its derivation.
        float64_error: the error of the outputs where both sides ran in float64.
        gradient_error: how far the gradients of the outputs lie apart.
        verdict: `"equal"`, `"within rounding"`, `"parts here"`, `"inherited"`, `"other shape"`,
            `"failed in the other"`, `"only here"`, `"only in the other"` or `"not compared"`.
    """

    network: str
    layer: str | None
    other_layer: str | None
    matched_by: str | None
    call: int | None
    other_call: int | None
    iteration: int | None
    type: str
    output_shape: Shape
    other_shape: Shape
    input_error: float | None
    output_error: float | None
    own_error: float | None
    max_abs: float | None
    max_at: tuple[int, ...] | None
    cosine: float | None
    tolerance: float | None
    bound: str
    float64_error: float | None
    gradient_error: float | None
    verdict: str

    @property
    def name(self) -> str:
        """What a sentence calls it."""
        layer = self.layer if self.layer is not None else self.other_layer
        return units.layer_with_type(units.layer_name(self.network, layer or ""), self.type)

    @property
    def in_iteration(self) -> str:
        """What a sentence says of the iteration."""
        return "" if self.iteration is None else f" in iteration {self.iteration:,}"


def parting(row: ComparedCall) -> str:
    """Return where two runs part, in a sentence, given the first call that errs."""
    return f"the runs part in {row.name}{row.in_iteration}: {_how_it_errs(row)}"


def unlike_inputs(row: ComparedCall) -> str:
    """Return that two runs got other inputs, in a sentence, given the first call that did."""
    apart = f"differ by {_short(row.input_error)}"
    if row.input_error == inf:
        apart = "are infinitely far apart: NaN, Inf or zeros stand on one side alone"
    return f"the runs got different inputs: those of {row.name} {apart}{row.in_iteration}"


def verdict_of(row: ComparedCall) -> str:
    """Return the verdict on any row with its numbers: ``equal``, ``within rounding: ...``."""
    if row.verdict != OTHER_SHAPE and not row.output_error and not row.own_error:
        return row.verdict
    return f"{row.verdict}: {_how_it_errs(row)}"


def _how_it_errs(row: ComparedCall) -> str:
    if row.verdict == OTHER_SHAPE:
        shapes = units.shape(row.output_shape), units.shape(row.other_shape)
        return f"it gives {shapes[0]} here and {shapes[1]} there"
    made = f"its output differs by {_short(row.output_error)}"
    if row.own_error is not None:
        made = f"on the same input its output differs by {_short(row.own_error)}"
    if row.max_abs == inf:
        made = "NaN or Inf stands on one side alone"
    got = "inputs are equal, " if row.input_error == 0 else ""
    if row.input_error:
        do = "agree to" if row.input_error <= (row.tolerance or 0.0) else "differ by"
        got = f"inputs {do} {_short(row.input_error)}, "
    bound = f" (tolerance {row.bound})" if row.bound else ""
    at = ""
    if row.max_abs is not None and row.max_at:
        by = "" if row.max_abs == inf else f", by {_short(row.max_abs)}"
        at = f"; most at {row.max_at}{by}"
    is_random = row.verdict == PARTS and row.input_error == 0 and "Drop" in row.type
    return f"{got}{made}{bound}{at}{'; it drops values at random' if is_random else ''}"


def shape_of(log: TraceLog, call: int | None) -> Shape:
    """Return the shape of what a call returned."""
    return None if call is None else log.shapes[log.output_shape[call]]


def iteration_of(log: TraceLog, call: int) -> int | None:
    """Return which iteration a call is of; None in a run that has one of each place in the code."""
    return log.iteration_of(call) if max(log.begun, default=0) > 1 else None


def error_of(difference: Difference | None) -> float | None:
    """Return the error alone."""
    return None if difference is None else difference.error


def _short(number: float | None) -> str:
    return "an unknown amount" if number is None else f"{number:.2g}"
