"""Leaving iterations out of a log, so that it stays small however long the run is."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from nnmagic.records.call_log import TraceLog
from nnmagic.records.kept_slices import samples_of_whole
from nnmagic.records.measures import Measures
from nnmagic.records.tensor import Sample, Samples
from nnmagic.records.tensor_log import WIDTH, TensorLog

MOST_ITERATIONS = 1000
"""How many iterations of one series a log keeps."""

SHORT = 256
"""How many values are kept of a tensor of an earlier iteration of a long run."""

CALL_COLUMNS = ("layer", "step", "depth", "place", "input_shape", "output_shape")


@dataclass(frozen=True, slots=True)
class Renumbering:
    """The new numbers of calls and tensors by their old ones, of those that are kept."""

    calls: dict[int, int]
    tensors: dict[int, int]


def iterations_of(log: TraceLog) -> dict[int, list[int]]:
    """Return the numbers of the iterations in a log by their series, ascending."""
    found: dict[int, set[int]] = defaultdict(set)
    for series, iteration in zip(log.root_series, log.root_iteration, strict=True):
        found[series].add(iteration)
    return {series: sorted(numbers) for series, numbers in found.items()}


def stride_for(recorded: int, most: int, stride: int = 1) -> int:
    """Return which of so many recorded iterations to keep, every `stride`-th: at most so many."""
    while recorded > most * stride:
        stride *= 2
    return stride


def first_nonfinite(log: TraceLog) -> dict[int, int]:
    """Return by series the first iteration with NaN or Inf in an output, a gradient or a loss."""
    nan, inf = log.tensors.column("nan"), log.tensors.column("inf")
    found: dict[int, int] = {}

    def note(root: int) -> None:
        series, iteration = log.series_and_iteration_of(root)
        found[series] = min(iteration, found.get(series, iteration))

    roots = log.root_of_each()
    for call, outputs in enumerate(log.outputs):
        gradients = [log.gradients[each] for each in outputs if each in log.gradients]
        if any(nan[each] > 0 or inf[each] > 0 for each in (*outputs, *gradients)):
            note(roots[call])
    measures = log.measures
    unknown = {i for i, q in enumerate(measures.quantities) if q.name.endswith("update_ratio")}
    for root, quantity, value in zip(measures.root, measures.quantity, measures.value, strict=True):
        if not isfinite(value) and quantity not in unknown:
            note(root)
    return found


def thin(
    log: TraceLog, full: Iterable[int], every: int, most: int, held: Iterable[int] = ()
) -> Renumbering | None:
    """Leave iterations of some series out of a log, evenly; None where there is nothing to leave.

    The first, the last and the first non-finite one of each series stay.

    Args:
        log: the columns of the run, in which no call is in progress.
        full: the series that are too long.
        every: how far apart the recorded iterations are.
        most: how many iterations of each may stay, beside the last and the first non-finite one.
        held: tensors that somebody has the numbers of.
    """
    iterations, nonfinite = iterations_of(log), first_nonfinite(log)
    kept: dict[int, set[int]] = {}
    for series in full:
        numbers, recorded = iterations.get(series, []), log.recorded[series]
        stride = log.stride[series] = stride_for(recorded, most, log.stride[series])
        if stride > 1 and numbers:
            kept[series] = {each for each in numbers if each % (every * stride) == 0}
            kept[series] |= {numbers[-1], nonfinite.get(series, numbers[-1])}
    roots = zip(log.roots, log.root_series, log.root_iteration, strict=True)
    left_out = {root for root, of, number in roots if of in kept and number not in kept[of]}
    return _without(log, left_out, held) if left_out else None


def _without(log: TraceLog, left_out: set[int], held: Iterable[int]) -> Renumbering:
    """Take root calls, with all calls inside them, out of a log."""
    kept = (call for call, root in enumerate(log.root_of_each()) if root not in left_out)
    calls = {call: new for new, call in enumerate(kept)}
    needed = set(held)
    for call in calls:
        needed.update(log.inputs[call], log.outputs[call])
    own = (each for named in log.parameter_gradients.values() for each in named.values())
    needed.update(each for each in own if each is not None)
    needed.update([log.gradients[each] for each in needed if each in log.gradients])
    tensors = {tensor: new for new, tensor in enumerate(sorted(needed))}
    log.kept_numbers = array("q", [log.number_of(call) for call in calls])
    log.left_out += len(log) - len(calls)
    _renumber_calls(log, calls, tensors)
    _renumber_measures(log.measures, calls)
    _renumber_tensors(log.tensors, tensors)
    return Renumbering(calls, tensors)


def _renumber_calls(log: TraceLog, calls: dict[int, int], tensors: dict[int, int]) -> None:
    for name in CALL_COLUMNS:
        column = getattr(log, name)
        setattr(log, name, array(column.typecode, [column[call] for call in calls]))
    log.parent = array("l", [calls.get(log.parent[call], -1) for call in calls])
    log.inputs, log.outputs = (
        [tuple(tensors[each] for each in column[call]) for call in calls]
        for column in (log.inputs, log.outputs)
    )
    kept_roots = [i for i, root in enumerate(log.roots) if root in calls]
    log.roots = array("l", [calls[log.roots[i]] for i in kept_roots])
    log.root_series = array("l", [log.root_series[i] for i in kept_roots])
    log.root_iteration = array("l", [log.root_iteration[i] for i in kept_roots])
    for name in ("failures", "nonfinite_parameters", "masked", "attention", "first_items"):
        setattr(log, name, dict(_mapped(getattr(log, name), calls)))
    log.recomputed = {calls[each] for each in log.recomputed if each in calls}
    log.constant = {calls[each] for each in log.constant if each in calls}
    log.raised = None if log.raised is None else calls[log.raised]
    log.gradients = {tensors[t]: tensors[g] for t, g in log.gradients.items() if t in tensors}
    log.parameter_gradients = {
        layer: {name: None if each is None else tensors[each] for name, each in own.items()}
        for layer, own in log.parameter_gradients.items()
    }
    log.ended = bytearray(log.ended[call] for call in calls)


def _mapped(column: dict[int, Any], numbers: dict[int, int]) -> Iterator[tuple[int, Any]]:
    return ((numbers[old], value) for old, value in column.items() if old in numbers)


def _renumber_measures(measures: Measures, calls: dict[int, int]) -> None:
    kept = [i for i, root in enumerate(measures.root) if root in calls]
    measures.root = array("l", [calls[measures.root[i]] for i in kept])
    measures.quantity = array("l", [measures.quantity[i] for i in kept])
    measures.value = array("d", [measures.value[i] for i in kept])


def _renumber_tensors(log: TensorLog, tensors: dict[int, int]) -> None:
    rows = memoryview(log.statistics).cast("B")
    width = WIDTH * log.statistics.itemsize
    statistics = array("d")
    for tensor in tensors:
        statistics.frombytes(rows[tensor * width : (tensor + 1) * width])
    rows.release()
    log.statistics = statistics
    log.metadata_index = array("l", [log.metadata_index[tensor] for tensor in tensors])
    log.samples = [log.samples[tensor] for tensor in tensors]
    if log.digests:
        digests = [log.digest_of(tensor) or 0 for tensor in tensors]
        log.digests = array("q", digests)
    log.measured = dict(_mapped(log.measured, tensors))
    log.unknown = dict(_mapped(log.unknown, tensors))
    log.same_as = {
        tensors[new]: tensors[old]
        for new, old in log.same_as.items()
        if new in tensors and old in tensors
    }


def shorten_samples(log: TensorLog, tensors: Iterable[int]) -> None:
    """Keep fewer values of tensors: enough for a histogram, none to be read one by one."""
    for tensor in tensors:
        held = log.samples[tensor]
        if isinstance(held, bytes):
            held = samples_of_whole(log.whole_of(tensor, held), with_picture=False)
        if held is not None and held.spread is not None and held.spread.numel > SHORT:
            log.samples[tensor] = Samples(None, _shortened(held.spread))


def _shortened(sample: Sample) -> Sample:
    step = -(-sample.numel // SHORT)
    values = sample.array().ravel()[::step]
    return Sample(sample.format, values.shape, values.tobytes())
