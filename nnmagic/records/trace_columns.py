"""The columns of a run's table, and the calls that they take their cells from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from nnmagic.display import units
from nnmagic.display.table import Column, Histogram, Lanes, Noted, TensorShape
from nnmagic.records.call_log import FINISHED, Layer
from nnmagic.records.columns import FLAGS, HISTOGRAM, MEAN_AND_STD, MIN_AND_MAX, ZEROS
from nnmagic.records.findings import nonfinite
from nnmagic.records.record import joint_norm, leading_rows
from nnmagic.records.tensor import NO_TENSOR, NOTHING_KNOWN, Sample, Statistics, TensorRecord

if TYPE_CHECKING:
    from nnmagic.records.trace_table import TraceTable


class CallRow:
    """A call as the subject of a row: what the columns take their cells from.

    Attributes:
        call: the number of the call.
        layer: its layer.
        label: what the tree calls it.
        times: how many calls the row stands for, the last of which it shows; 0 for one call.
    """

    __slots__ = ("__dict__", "call", "label", "layer", "step", "times")  # there may be 20,000

    def __init__(self, step: TraceTable, call: int, layer: Layer, label: str, times: int) -> None:
        self.step, self.call, self.layer, self.label, self.times = step, call, layer, label, times

    @property
    def network(self) -> str:
        """The name of the network."""
        return self.step.log.networks[self.layer.network]

    @property
    def output(self) -> int | None:
        """The number of the tensor that the statistics are of; None for none."""
        return self.step.outputs[self.call]

    @property
    def type(self) -> str:
        """The class of the layer, where its label does not say it."""
        return "" if self.layer.type == self.label else self.layer.type

    @property
    def dtype(self) -> str:
        """The dtype of its output; empty where there is none."""
        output = self.output
        return "" if output is None else self.step.log.tensors.metadata_of(output)[1]

    @cached_property
    def numbers(self) -> Statistics:
        """The statistics of its output, NaN where unknown."""
        tensors, output = self.step.log.tensors, self.output
        return NOTHING_KNOWN if output is None else tensors.statistics_of(output)

    @property
    def tensor(self) -> TensorRecord:
        """Its output; made anew each time, since it holds values."""
        return NO_TENSOR if self.output is None else self.step.log.tensors.record(self.output)

    @property
    def spread(self) -> Sample | None:
        """The values that the histogram is of."""
        tensors, output = self.step.log.tensors, self.output
        return None if output is None else tensors.samples_of(output).spread

    @property
    def shape(self) -> TensorShape | str:
        """The shape of what the call returned."""
        log = self.step.log
        if self.output is None:
            return "no tensor seen"
        metadata = log.tensors.metadata_of(self.output)
        common = self.step.common_metadata
        pairs = zip(metadata[1:3], common, strict=True)
        words = [mine for mine, most in pairs if mine != most]
        if metadata.placements is not None:
            words += [f"of {units.shape(metadata.global_shape)},", ", ".join(metadata.placements)]
        return TensorShape(log.shapes[log.output_shape[self.call]], " ".join(words))

    @property
    def gradient(self) -> tuple[float | None, float | None]:
        """The mean and the standard deviation of the gradient of what the call returned."""
        log = self.step.log
        gradient = log.gradient_of(self.call)
        tensor = None if gradient is None else log.tensors.record(gradient)
        return (None, None) if tensor is None else (tensor.mean, tensor.std)

    @property
    def own_gradient(self) -> float | Noted | str | None:
        """The norm of the gradients of the layer's own parameters, and which got none."""
        log = self.step.log
        own = log.parameter_gradients.get(log.layer[self.call])
        if not own:
            return ""
        tensors = (log.tensors.record(each) for each in own.values() if each is not None)
        norm = joint_norm(each.norm for each in tensors)
        without = [name for name, gradient in own.items() if gradient is None]
        if len(without) == len(own):
            return "none"
        if norm is None:
            return ", ".join([units.UNKNOWN, *(f"{name} none" for name in without)])
        return Noted(norm, f"{', '.join(without)} none") if without else norm

    @property
    def wrong(self) -> list[str]:
        """What is wrong with the call, a sentence each; where it failed the failure says it."""
        log, verdicts, call = self.step.log, self.step.verdicts, self.call
        words = verdicts.flags(call, "") if call in verdicts.flagged else []
        made = nonfinite.in_own_code(log, call) if call in verdicts.producers else []
        return [", ".join(words), *made] if words else made

    @property
    def flags(self) -> str:
        """What deserves a look, in words."""
        log = self.step.log
        if self.output is None:
            return ""
        words = [f"the last of {units.plural(self.times, 'call')}"] if self.times else []
        words += ["recomputed in the backward"] if self.call in log.recomputed else []
        unknown = log.tensors.unknown.get(self.output, "")
        words += self.step.verdicts.flags(self.call, unknown)
        return ", ".join(words)

    def details(self, rows: int) -> list[str]:
        """Return lines with what the call got and returned, and the first rows of its values."""
        log, call, tensor = self.step.log, self.call, self.tensor
        got = units.shape(log.shapes[log.input_shape[call]])
        if log.ended[call] != FINISHED:
            return [f"got {got}"]
        child = self.step.verdicts.last_child.get(call)
        is_childs = child is not None and log.outputs[child] == log.outputs[call]
        if self.output is None or is_childs or not rows:
            return []
        lines = [f"{got or 'no tensor'} → {tensor.caption}"]
        if tensor.leading is not None and tensor.numel:
            lines += leading_rows(tensor.values, tensor.shape, rows)
            kept = tensor.leading.shape[0] if tensor.shape else 1
            if kept < min(rows, tensor.shape[0] if tensor.shape else 1):
                lines.append(f"{kept} of {tensor.shape[0]} rows are kept; --keep all keeps all")
        return lines


def flow_cells(rows: Sequence[CallRow]) -> list[Lanes]:
    """Return how tensors come to these rows; a call that has no row stands in the row around it."""
    if not rows:
        return []
    return rows[0].step.lanes([(row.call, bool(row.times)) for row in rows])


def trend_cells(rows: Sequence[CallRow]) -> list[Histogram | str]:
    """Return the means of these rows' layers over the iterations, as heights of bars."""
    trends = rows[0].step.trends if rows else {}
    cells: list[Histogram | str] = []
    for row in rows:
        log = row.step.log
        key = log.series_of(row.call), row.layer.network, row.layer.name
        cells.append(trends.get(key, ""))
    return cells


COLUMNS = (
    Column(
        "flow",
        "lanes",
        "where its input comes from (●: others get what it made), by the identity of the tensors",
        cells=flow_cells,
        priority=5,
        always=True,
    ),
    Column("type", "text", "the class of the layer", priority=3, always=True),
    Column("shape", "shape", "the shape of its output", narrowest=22),
    MEAN_AND_STD,
    Column(
        "gradient",
        "pair",
        "of the layer's output, in the last backward: mean ± std",
        title="output gradient",
        priority=2,
    ),
    Column(
        "own_gradient",
        "number",
        "the Euclidean norm of the gradients of its own parameters, after the run",
        title="gradient norm",
        priority=2,
    ),
    MIN_AND_MAX,
    HISTOGRAM,
    ZEROS,
    Column(
        "trend",
        "histogram",
        "the mean of its output over the iterations, from the first to the last",
        title="iterations",
        cells=trend_cells,
        priority=3,
    ),
    FLAGS,
)
"""The columns of a trace: a new one goes here."""

GRADIENT_COLUMNS = ("gradient", "own_gradient")
"""Those that only a trace with gradients has."""
