"""The record of a network's structure: layers, shapes, parameters, FLOPs, memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nnmagic.display import units
from nnmagic.display.table import Cell, Column, Row, State, Table, TensorShape
from nnmagic.records.plan import Plan
from nnmagic.records.record import Record, data_frame, filtered, ranked
from nnmagic.records.summary_rows import LayerShape, TrainingStep
from nnmagic.records.summary_tree import LayerRow, tree
from nnmagic.records.weights import WeightForm, added_values, form_lines


def _of_call(cell: Callable[[LayerShape], Cell]) -> Callable[[LayerRow], Cell]:
    """Return the cell of a column in which a container's own parameters have none."""
    return lambda row: "" if row.is_own else cell(row.layer)


def _of_run(cell: Callable[[LayerShape], Cell]) -> Callable[[LayerRow], Cell]:
    """Return the cell of a column in which a layer that never ran has none either."""
    return _of_call(lambda layer: "" if layer.call is None else cell(layer))


COLUMNS = (
    Column("type", "text", "the class of the layer", priority=1, always=True),
    Column(
        "shape",
        "shape",
        "the shape of its output",
        title="output shape",
        cell=_of_call(
            lambda layer: "not called" if layer.call is None else TensorShape(layer.output_shape)
        ),
        narrowest=22,
    ),
    Column(
        "params",
        "count",
        "distinct ones, of the layer and of everything below it",
        title="parameters",
        cell=lambda row: row.layer.own_params if row.is_own else row.layer.params,
    ),
    Column(
        "flops",
        "count",
        "2 for each multiply-add; MACs are half of that",
        title="FLOPs",
        cell=_of_run(lambda layer: layer.flops),
        priority=2,
    ),
    Column(
        "input",
        "shape",
        "the shape of its input",
        title="input shape",
        cell=_of_call(lambda layer: TensorShape(layer.input_shape)),
        priority=5,
        narrowest=22,
    ),
    Column(
        "weights",
        "text",
        "those that are tied, packed, parametrised or pruned",
        cell=_of_call(lambda layer: layer.weights),
        priority=3,
        narrowest=12,
    ),
    Column(
        "arguments",
        "text",
        "the arguments that the layer was made with",
        cell=_of_call(lambda layer: layer.config),
        priority=4,
        narrowest=12,
    ),
    Column(
        "output_bytes",
        "bytes",
        "the bytes of the tensors that it returned",
        title="output size",
        cell=_of_run(lambda layer: layer.output_bytes),
        priority=6,
        extra=True,
    ),
)
"""The columns of a summary: a new one goes here."""

FRAME_COLUMNS = LayerShape._fields[: LayerShape._fields.index("children")]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Summary(Record):
    """The structure of a network: what a run would do, without running it.

    Attributes:
        title: what it is of.
        rows: the calls in the order in which they began, then the layers that never ran.
        total_params: the distinct parameters.
        trainable_params: those of them that require a gradient.
        buffer_bytes: the bytes of the buffers, a shared storage once.
        param_bytes: the bytes of the parameters, a shared storage once.
        input_bytes: the bytes of the tensors that the network got.
        total_flops: floating-point operations of the whole call; None where some are unknown.
        least_flops: those of them that are known.
        uncounted: operations with products in them that have no formula, and how many there were.
        forms: how those weights are held that are no plain parameters.
        training: the memory of a training step, where an optimizer was named and no plan.
        plan: what each rank of a training on many would hold, where that was asked for.
        failure: what went wrong, if the run failed.
        notes: lines about the input and the run.
        engine: where the figures are from, if not from a run for shapes: `"real run"`, or another
            tool with its version.
        biases: whether additions of biases are among the operations.
    """

    SORTABLE: ClassVar = FRAME_COLUMNS[FRAME_COLUMNS.index("params") :]

    title: str
    rows: tuple[LayerShape, ...]
    total_params: int
    trainable_params: int
    buffer_bytes: int
    param_bytes: int
    input_bytes: int
    total_flops: int | None
    least_flops: int | None = None
    uncounted: tuple[tuple[str, int], ...] = ()
    forms: tuple[WeightForm, ...] = ()
    training: TrainingStep | None = None
    plan: Plan | None = None
    failure: str = ""
    notes: tuple[str, ...] = ()
    engine: str = ""
    biases: bool = False

    @property
    def shapes_from(self) -> str:
        """How the shapes were found."""
        meta_run = "computed on the meta device, without running the network"
        return f"from {self.engine}" if self.engine else meta_run

    @property
    def counted(self) -> str:
        """What is counted as an operation."""
        if self.biases:
            return f"as {self.engine} counts them, biases and normalisation too"
        return "of matrix products, convolutions and attention (torch.utils.flop_counter)"

    @property
    def non_trainable_params(self) -> int:
        """The distinct parameters that require no gradient."""
        return self.total_params - self.trainable_params

    @property
    def logical_params(self) -> int | None:
        """The values of all weights as the layers use them: packed ones too, computed ones as such.

        None where that cannot be told.
        """
        added = added_values(self.forms)
        return None if added is None else self.total_params + added

    @property
    def packed_bytes(self) -> int:
        """The bytes of the packed weights, which are neither parameters nor buffers."""
        return sum(form.stored_bytes for form in self.forms if form.kind == "packed")

    @property
    def output_bytes(self) -> int:
        """The bytes returned by the calls that call no other, in place and views included."""
        return sum(row.output_bytes or 0 for row in self.rows if not row.children)

    def brief(self) -> str:
        """Return a few words that name the record."""
        return f"<Summary of {self.title}: {self.total_params:,} parameters>"

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row a call, then one for each layer that never ran."""
        return data_frame(self.rows, FRAME_COLUMNS)

    def table(self) -> Table:
        """Return the table of the layers, nested, or sorted as the view says."""
        view, every = self.view, [row.layer for row in self.rows]
        notes = view.unmatched(every)
        if view.sort is None and view.top is None:
            subjects = list(tree(self.rows, folds=not view.layers))
            names = [row.layer.layer for _, row in subjects]
            rows = filtered(self._rows(subjects), names, view)
        else:
            layers = [row for row in self.rows if view.depth is None or row.depth <= view.depth]
            layers = [layers[i] for i in ranked(layers, [r.layer for r in layers], view, notes)]
            rows = self._rows([(0, LayerRow(row, row.layer or row.network)) for row in layers])
        return Table(
            heading=self.heading,
            title="layer",
            meaning="in the order in which the calls would begin",
            columns=self._columns(),
            rows=rows,
            notes=(*self.totals(), *notes, *self.notes),
            details=LayerRow.details,
            open_levels=view.open_depth,
        )

    def _columns(self) -> tuple[Column, ...]:
        added = {"shape": self.shapes_from, "flops": self.counted}
        return tuple(
            replace(column, meaning=f"{column.meaning}; {added[column.key]}")
            if column.key in added
            else column
            for column in COLUMNS
        )

    def _rows(self, subjects: Sequence[tuple[int, LayerRow]]) -> list[Row]:
        rows = []
        for level, subject in subjects:
            layer = subject.layer
            failed = layer.failed and not subject.is_own
            state = State.DIMMED if layer.call is None else 0
            state |= State.MANY_CALLS if subject.folds else 0
            state |= State.GROUP if subject.head else 0
            state |= State.FAILED if failed else 0
            state |= State.FLAGGED | State.STRONG if failed and not layer.children else 0
            rows.append(
                Row(
                    label=subject.label,
                    subject=subject,
                    level=level,
                    name=subject.label if subject.head else layer.layer or layer.network,
                    key=subject.key,
                    state=state,
                    message="FAILED" if failed else subject.head,
                )
            )
        return rows

    @property
    def heading(self) -> str:
        """The line above the table."""
        failed = "failed" if self.failure else ""
        plan = f"{self.plan.ranks}: {self.plan.verdict}" if self.plan else ""
        count = units.plural(self.total_params, "parameter")
        parts = (self.title, self.engine, count, plan, failed)
        return " · ".join(filter(None, parts))

    def totals(self) -> tuple[str, ...]:
        """Return the lines that say what all layers have together."""
        least = "" if self.total_flops is not None else "at least "
        flops = self.least_flops if least else self.total_flops
        is_run = any(row.call is not None for row in self.rows)
        activations = 2 * self.output_bytes
        together = self.input_bytes + activations + self.param_bytes + self.packed_bytes
        packed = f"packed weights {units.size(self.packed_bytes)}, " if self.packed_bytes else ""
        lines = [f"failed: {self.failure}"] if self.failure else []
        lines.append(
            f"parameters: {self.total_params:,} "
            f"({self.trainable_params:,} trainable, {self.non_trainable_params:,} non-trainable)"
        )
        if flops is None:
            lines.append("multiply-adds (MACs): unknown")
        else:
            biases = "counted" if self.biases else "not counted"
            macs = f"{least}{flops // 2:,} ({flops:,} FLOPs, biases {biases})"
            lines.append(f"multiply-adds (MACs): {macs}")
        logical = self.logical_params
        if logical != self.total_params:
            values = "unknown" if logical is None else f"{logical:,}"
            lines.append(f"logical parameters, as the layers use them: {values}")
        of_run = (
            f"input {units.size(self.input_bytes)}, "
            f"forward/backward pass {units.size(activations)}, "
        )
        lines.append(
            f"memory: {of_run if is_run else ''}"
            f"parameters {units.size(self.param_bytes)}, buffers {units.size(self.buffer_bytes)}, "
            f"{packed}together {units.size(together + self.buffer_bytes)}"
        )
        if self.training is not None:
            lines.extend(self.training.lines(self.param_bytes, self.buffer_bytes))
        if self.plan is not None:
            lines.extend(self.plan.lines())
        lines.extend(form_lines(self.forms))
        if self.uncounted:
            listed = ", ".join(f"{name} × {times}" for name, times in self.uncounted)
            lines.append(f"FLOPs unknown of: {listed}")
        return tuple(lines)
