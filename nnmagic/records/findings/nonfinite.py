"""What a call did with NaN and Inf, and why, in words."""

from math import isnan

from nnmagic.display import units
from nnmagic.records.call_log import TraceLog
from nnmagic.records.tensor import Statistics


def nonfinite_in(log: TraceLog, tensors: tuple[int, ...]) -> tuple[int, int]:
    """Return how many values of the tensors are NaN, and how many are infinite."""
    measured = [each for each in map(log.tensors.statistics_of, tensors) if not isnan(each.nan)]
    return int(sum(each.nan for each in measured)), int(sum(each.inf for each in measured))


def is_softmax(log: TraceLog, call: int) -> bool:
    """Tell whether a call is a softmax, of whose input -Inf is a usual value."""
    name = log.layer_of(call).type.rpartition(".")[2].replace("_", "").lower()
    return name in SOFTMAXES


def is_wrong_input(log: TraceLog, call: int, tensor: int) -> bool:
    """Tell whether an input holds NaN, or Inf where that means something is wrong.

    An attention mask is not: its infinite values are -Inf, its finite ones at most 0. Neither are
    the scores of a softmax that a mask was added to.
    """
    numbers = log.tensors.statistics_of(tensor)
    if numbers.nan > 0:
        return True
    may_be_masked = is_softmax(log, call) or not numbers.max > 0
    return numbers.inf > 0 and not (numbers.inf == numbers.negative_inf and may_be_masked)


def makes_nonfinite(log: TraceLog, call: int) -> bool:
    """Tell whether a call returned NaN from inputs without NaN, or Inf from finite ones."""
    out_nan, out_inf = nonfinite_in(log, log.outputs[call])
    if not out_nan and not out_inf:
        return False
    in_nan, _ = nonfinite_in(log, log.inputs[call])
    if in_nan:
        return False
    return bool(out_nan) or not any(is_wrong_input(log, call, each) for each in log.inputs[call])


SOFTMAXES = frozenset({"softmax", "softmax2d", "logsoftmax"})
"""The layers and functions that give NaN of a row that is all -Inf, and of no other -Inf."""

BELOW = {"log": 0, "log2": 0, "log10": 0, "sqrt": 0, "rsqrt": 0, "log1p": -1, "pow": 0}
"""The functions that give NaN of a value below this."""

AT_ZERO = ("log", "log2", "log10", "rsqrt", "reciprocal")
"""The functions that give Inf of zero."""

DIVISIONS = ("div", "truediv", "divide", "true_divide")
LARGEST = {"float16": 65_504.0}


def origin(log: TraceLog, call: int) -> str:
    """Say what a call made, where, of what, and which code called it."""
    nan, _ = nonfinite_in(log, log.outputs[call])
    parts = [f"{'NaN' if nan else 'Inf'}: {log.name_of(call)} ({log.layer_of(call).type})"]
    parts += [f"its {each}" for each in log.nonfinite_parameters.get(call, ())]
    parts += [part for part in (reason(log, call), inputs_text(log, call)) if part]
    parts += in_own_code(log, call)
    place = log.places[log.place[call]]
    return ", ".join([*parts, f"called at {place}"] if place else parts)


def inputs_range(log: TraceLog, call: int) -> tuple[str, ...] | None:
    """Return the least and the greatest finite value that a call got, as texts."""
    inputs = map(log.tensors.statistics_of, log.inputs[call])
    finite = [each for each in inputs if not isnan(each.min)]
    if not finite:
        return None
    least, greatest = min(each.min for each in finite), max(each.max for each in finite)
    return units.numbers(least, greatest)


def inputs_text(log: TraceLog, call: int) -> str:
    """Return the range of a call's inputs, and how many of their values are infinite."""
    limits = inputs_range(log, call)
    if limits is None:
        return ""
    _, inf = nonfinite_in(log, log.inputs[call])
    if inf:
        return f"its inputs hold {inf:,} Inf, the others in [{limits[0]}, {limits[1]}]"
    return f"from finite inputs in [{limits[0]}, {limits[1]}]"


def in_own_code(log: TraceLog, call: int) -> list[str]:
    """Say between which of its layers a call made NaN or Inf in its own code, and how to see it."""
    inside = [each for each in range(call + 1, len(log)) if log.parent[each] == call]
    how = "" if log.functions else ": --ops shows where"
    if not inside:
        return [f"in its own code{how}"] if log.layer[call] in log.custom and how else []
    for child in inside:
        if any(is_wrong_input(log, child, each) for each in log.inputs[child]):
            place = log.places[log.place[child]]
            at = f" at {place}" if place else ""
            return [f"in its own code before it calls {log.name_of(child)}{at}{how}"]
    return [f"in its own code after it called {log.name_of(inside[-1])}{how}"]


def reason(log: TraceLog, call: int) -> str:
    """Say which operation made NaN or Inf of which values, `""` where that is not known."""
    nan, inf = nonfinite_in(log, log.outputs[call])
    output = log.main_output(call)
    if call in log.masked:
        return log.masked[call]
    if nan and is_softmax(log, call) and nonfinite_in(log, log.inputs[call])[1]:
        return "of a row that is all -Inf"
    if log.is_function(call) and log.inputs[call]:
        name = log.layer_of(call).type.rpartition(".")[2].strip("_")
        inputs = [log.tensors.statistics_of(tensor) for tensor in log.inputs[call]]
        text = _operation(name, inputs, bool(nan), bool(inf))
        if text:
            return text
    if output is None or not inf:
        return ""
    largest = LARGEST.get(log.tensors.metadata_of(output).dtype)
    return "" if largest is None or nan else f"beyond the {largest:,.0f} of float16"


def _operation(name: str, inputs: list[Statistics], nan: bool, inf: bool) -> str:
    low, high = inputs[0].min, inputs[0].max
    has_zeros = inputs[0].zeros > 0
    reasons = (
        (nan and low < BELOW.get(name, low), f"{name} of values down to {units.numbers(low)[0]}"),
        (inf and has_zeros and name in ("rdiv", "rtruediv"), "division by zero"),
        (inf and has_zeros and name in AT_ZERO, f"{name} of zero"),
        (inf and name in ("exp", "expm1"), f"{name} of values up to {units.numbers(high)[0]}"),
        (name in DIVISIONS and len(inputs) > 1 and inputs[1].zeros > 0, "division by zero"),
    )
    return next((text for applies, text in reasons if applies), "")
