"""Whether a record that came from a file hangs together, so that nothing that reads it fails."""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from math import prod
from typing import Any

from nnmagic.records.call_log import STOPPED, TraceLog
from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.parameter_rows import VERDICTS
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.held_tensor import BUFFER, GRADIENT, PARAMETER
from nnmagic.records.loading.unpacking import LARGEST
from nnmagic.records.params import Params
from nnmagic.records.ranks.joint_trace import JointTrace
from nnmagic.records.summary import Summary
from nnmagic.records.tensor import NO_VALUES, Metadata, Samples, TensorRecord
from nnmagic.records.tensor_log import WIDTH, TensorLog
from nnmagic.records.trace import Trace

CALL_COLUMNS = (
    *("layer", "step", "depth", "parent", "place", "input_shape", "inputs", "output_shape"),
    "outputs",
)

POINTS_INTO = {
    "layer": "layers",
    "place": "places",
    "input_shape": "shapes",
    "output_shape": "shapes",
    "inputs": "tensors",
    "outputs": "tensors",
    "roots": "ended",
    "root_series": "series",
    "failures": "ended",
    "recomputed": "ended",
    "constant": "ended",
    "nonfinite_parameters": "ended",
    "masked": "ended",
    "attention": "ended",
    "functions": "layers",
    "parameters": "layers",
    "custom": "layers",
    "parameter_gradients": "layers",
    "gradients": "tensors",
}
"""The columns of a run that hold numbers of entries of others; of a dict its keys do."""


def check(record: Trace | JointTrace | Summary | Params | Comparison | ParamsComparison) -> None:
    """Look whether all parts of a record fit each other.

    Raises:
        ValueError: if they do not.
    """
    sort = record.view.sort
    _require(sort is None or sort in record.SORTABLE, "no column to sort by")
    if isinstance(record, JointTrace):
        for each in record.ranks:
            _check_log(each.log)
    elif isinstance(record, Trace):
        _check_log(record.log)
    elif isinstance(record, Comparison):
        _check_comparison(record)
    elif isinstance(record, Summary):
        _check_depths([row.depth for row in record.rows])
    elif isinstance(record, ParamsComparison):
        _require(all(row.verdict in VERDICTS for row in record.rows), "a verdict is unknown")
    else:
        for row in record.rows:
            _check_tensor(row.tensor)


def _check_comparison(record: Comparison) -> None:
    _check_log(record.mine)
    _check_log(record.other)
    _require(len(record.pairs) == len(record.measured), "measured has another length")
    _require(all(pair[:2] != (None, None) for pair in record.pairs), "a pair is of no call")
    for each in record.measured:
        found = (each.inputs, each.output, each.own, each.gradient)
        errors = [each.float64, *(None if one is None else one.error for one in found)]
        _require(all(error is None or not error < 0 for error in errors), "an error is below 0")
    for side, log in enumerate((record.mine, record.other)):
        calls = [pair[side] for pair in record.pairs if pair[side] is not None]
        _require(len({*calls}) == len(calls), "a call is in two pairs")
        _require({*calls} <= {*range(len(log))}, "a pair points at nothing")


def _check_log(log: TraceLog) -> None:
    for name in CALL_COLUMNS:
        _require(len(getattr(log, name)) == len(log.ended), f"{name} has another length")
    for name, target in POINTS_INTO.items():
        size = len(getattr(log, target))
        inside = (0 <= number < size for number in _numbers(getattr(log, name)))
        _require(all(inside), f"{name} points at nothing")
    _require(max(log.ended, default=0) <= STOPPED, "a call ended in no known way")
    _require(min((*log.step, *log.root_iteration), default=0) >= 0, "a step is below 0")
    networks = range(len(log.networks))
    _require(all(each.network in networks for each in log.layers + log.series), "a network lacks")
    for each in (log.begun, log.recorded, log.stride):
        _require(len(each) == len(log.series), "a count of iterations has another length")
    kept = log.kept_numbers
    _require(len(kept) <= len(log) and log.left_out >= 0, "numbers of calls lack")
    _require(all(a < b for a, b in pairwise((-1, *kept))), "numbers of calls are out of order")
    _require(len(log.roots) == len(log.root_series) == len(log.root_iteration), "roots differ")
    layers, shapes = range(len(log.layers)), range(len(log.shapes))
    for names in (log.input_names, log.output_names):
        named = (layer in layers and shape in shapes for layer, shape in names)
        _require(all(named), "a name points at nothing")
    _require(log.raised is None or log.raised in log.failures, "the failure lacks")
    _check_parents(log)
    _check_measures(log)
    check_held(log)
    tensors = len(log.tensors)
    own = chain.from_iterable(each.values() for each in log.parameter_gradients.values())
    gradients = [each for each in chain(log.gradients.values(), own) if each is not None]
    _require(all(0 <= each < tensors for each in gradients), "a gradient lacks")
    for sizes in chain.from_iterable(each.values() for each in log.parameters.values()):
        _check_sizes(sizes)
    _check_tensors(log.tensors)


def _check_measures(log: TraceLog) -> None:
    measures, roots = log.measures, frozenset(log.roots)
    same = len(measures.root) == len(measures.quantity) == len(measures.value)
    _require(same, "measures have another length")
    _require(roots.issuperset(measures.root), "a number is of no root call")
    quantities, networks = range(len(measures.quantities)), range(len(log.networks))
    _require(all(each in quantities for each in measures.quantity), "a quantity lacks")
    _require(all(each.network in networks for each in measures.quantities), "a network lacks")


def check_held(log: TraceLog) -> None:
    """Look whether a run knows its rank, and what that holds."""
    if log.rank is None or log.world_size is None:
        lone = log.rank is None and log.world_size is None and not log.held and not log.held_before
        _require(lone, "the rank lacks")
    else:
        _require(0 <= log.rank < log.world_size, "the rank is none of the ranks")
    for each in chain(log.held_before, log.held):
        _require(each.kind in (PARAMETER, BUFFER, GRADIENT), "a kind of tensor is unknown")
        _check_sizes(each.shape)


def _check_parents(log: TraceLog) -> None:
    roots = [call for call, parent in enumerate(log.parent) if parent < 0]
    _require(roots == [*log.roots], "the roots are others")
    for call, parent in enumerate(log.parent):
        _require(-1 <= parent < call, "a call has no parent")
        _require(log.depth[call] == (log.depth[parent] + 1 if parent >= 0 else 0), "a depth is off")


def _check_tensors(log: TensorLog) -> None:
    count = len(log.samples)
    _require(len(log.metadata_index) == count, "metadata_index has another length")
    _require(len(log.column("min")) == count and len(log.statistics) == WIDTH * count, "statistics")
    _require(all(0 <= each < len(log.metadata) for each in log.metadata_index), "metadata lacks")
    _require(all(0 <= old < new < count for new, old in log.same_as.items()), "a tensor lacks")
    _require(len(log.digests) <= count, "digests has another length")
    numbers = (*log.measured, *log.unknown)
    _require(all(0 <= each < count for each in numbers), "a tensor lacks")
    for metadata in log.metadata:
        _check_metadata(metadata)
    for tensor, held in enumerate(log.samples):
        metadata = log.metadata_of(tensor)
        if isinstance(held, bytes):
            size = {"float32": 4, "float64": 8}.get(metadata.dtype, 0)
            _require(len(held) == size * metadata.numel, "the values of a tensor are not all there")
        else:
            _check_samples(held or NO_VALUES, len(metadata.shape))


def _check_tensor(record: TensorRecord) -> None:
    _check_metadata(Metadata(record.shape, record.dtype, record.device, record.numel))
    _require((record.min is None) == (record.max is None), "an end of a range lacks")
    samples = Samples(record.leading, record.spread, record.picture)
    _check_samples(samples, len(record.shape))


def _check_metadata(metadata: Metadata) -> None:
    sizes = [1 if size is None else size for size in metadata.shape]
    _check_sizes(sizes)
    _require(None in metadata.shape or prod(sizes) == metadata.numel, "a size is off")


def _check_sizes(sizes: Sequence[int]) -> None:
    _require(min(sizes, default=0) >= 0, "a size is below 0")
    _require(prod(sizes) <= LARGEST, "a size is too large")


def _check_samples(samples: Samples, axes: int) -> None:
    leading, picture = samples.leading, samples.picture
    _require(leading is None or len(leading.shape) == axes, "a sample has other axes")
    if picture is not None:
        shape, steps = picture.sample.shape, picture.steps
        _require(len(shape) == len(steps) == axes, "a picture has other axes")


def _check_depths(depths: Sequence[int]) -> None:
    before = -1
    for depth in depths:
        _require(0 <= depth <= max(before, 0) + 1, "a depth is off")
        before = depth


def _numbers(column: Any) -> Iterator[int]:
    for each in column:
        yield from each if isinstance(each, tuple) else (each,)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)
