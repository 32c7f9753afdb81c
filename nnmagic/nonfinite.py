"""Which calls of a run made NaN or Inf, and which only passed it on."""

from math import isnan

from nnmagic.tensor_numbers import NOTHING_KNOWN
from nnmagic.trace_log import TraceLog


def holds_nonfinite(log: TraceLog) -> bool:
    """Tell whether any tensor at all holds NaN or Inf."""
    width = len(NOTHING_KNOWN)
    return any(v > 0 for place in (5, 6) for v in log.tensors.numbers[place::width])


def nonfinite_in(log: TraceLog, tensors: tuple[int, ...]) -> tuple[int, int]:
    """Return how many values of the tensors are NaN, and how many are infinite."""
    width, numbers = len(NOTHING_KNOWN), log.tensors.numbers
    bad = infinite = 0.0
    for tensor in tensors:
        nans, infs = numbers[tensor * width + 5 : tensor * width + 7]
        if not isnan(nans):
            bad, infinite = bad + nans, infinite + infs
    return int(bad), int(infinite)


def is_spoiled(log: TraceLog, tensors: tuple[int, ...]) -> bool:
    """Tell whether an input is infinite where that means something is wrong.

    An attention mask is not: its infinite values are -Inf, its finite ones at most 0.
    """
    for tensor in tensors:
        numbers = log.tensors.statistics_of(tensor)
        mask = numbers.inf == numbers.negative_inf and numbers.max <= 0
        if numbers.inf > 0 and not mask:
            return True
    return False


def makes_nonfinite(log: TraceLog, call: int) -> bool:
    """Tell whether a call returned NaN from inputs without NaN, or Inf from finite ones."""
    out_nan, out_inf = nonfinite_in(log, log.outputs[call])
    if not out_nan and not out_inf:
        return False
    in_nan, _ = nonfinite_in(log, log.inputs[call])
    if in_nan:
        return False
    return bool(out_nan) or not is_spoiled(log, log.inputs[call])


def first_nonfinite(log: TraceLog) -> int | None:
    """Return the call that was the first to return NaN or Inf that it did not get."""
    if not holds_nonfinite(log):
        return None
    calls = log.returned(range(len(log)))
    return next((call for call in calls if makes_nonfinite(log, call)), None)
