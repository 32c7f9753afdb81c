"""The record of a network's structure: layers, shapes, parameters, FLOPs, memory."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nnmagic.display import units
from nnmagic.display.table import Column, Row, Table, bounded
from nnmagic.records.record import MOST_ROWS, Record, View, data_frame, filtered, left_out
from nnmagic.records.summary_rows import LayerShape, TrainingStep
from nnmagic.records.weights import WeightForm, added_values, form_lines

COLUMNS = (
    Column(title="type", rank=1, meaning="the class of the layer"),
    Column(
        title="output shape",
        least=22,
        meaning="the batch first",
    ),
    Column(
        title="parameters",
        right=True,
        meaning="distinct ones, of the layer and of everything below it",
    ),
    Column(
        title="FLOPs",
        right=True,
        rank=2,
        meaning="2 for each multiply-add; MACs are half of that",
    ),
    Column(title="input shape", rank=4, least=22, meaning="what the layer got"),
    Column(
        title="weights",
        rank=3,
        least=12,
        meaning="those that are tied, packed, parametrised or pruned",
    ),
    Column(title="arguments", rank=3, least=12, meaning="what the layer was made with"),
)

FRAME_COLUMNS = (
    "network",
    "call",
    "layer",
    "type",
    "depth",
    "config",
    "input_shape",
    "output_shape",
    "params",
    "own_params",
    "trainable_params",
    "param_bytes",
    "output_bytes",
    "flops",
)


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
        training: the memory of a training step, where an optimizer was named.
        failure: what went wrong, if the run failed.
        notes: lines about the input and the run.
        engine: where the figures are from, if not from a run for shapes: `"real run"`, or another
            tool with its version.
        biases: whether additions of biases are among the operations.
    """

    SORTABLE: ClassVar = (
        "params",
        "own_params",
        "trainable_params",
        "param_bytes",
        "output_bytes",
        "flops",
    )

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
    failure: str = ""
    notes: tuple[str, ...] = ()
    engine: str = ""
    biases: bool = False

    @property
    def shapes_from(self) -> str:
        """How the shapes were found."""
        return f"from {self.engine}" if self.engine else "found on the meta device, without a run"

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
    def gradient_bytes(self) -> int | None:
        """The bytes of a training step's gradients; None where no optimizer was named."""
        return None if self.training is None else self.training.gradient_bytes

    @property
    def optimizer_bytes(self) -> int | None:
        """The bytes of the optimizer's state; None where unknown, or where none was named."""
        return None if self.training is None else self.training.optimizer_bytes

    @property
    def saved_bytes(self) -> int | None:
        """The bytes that a training step saves for its backward; None where unknown."""
        return None if self.training is None else self.training.saved_bytes

    @property
    def training_bytes(self) -> int | None:
        """The bytes of a training step: parameters, buffers and the three above together."""
        held = self.param_bytes + self.buffer_bytes
        return None if self.training is None else self.training.together(held)

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

    def table(self, *, text: bool) -> Table:
        """Return the table of the layers."""
        depth = self.view.depth_in(text=text)
        notes: list[str] = []
        if self.view.sort is not None or self.view.top is not None:
            rows, names = self._ranked_rows()
            tree = False
        else:
            rows, names = self._nested_rows(depth, notes)
            tree = True
        shown = filtered(rows, names, self.view, lambda i: False)
        if self.view.layers and not shown:
            notes.append(f"no layer matches {' '.join(self.view.layers)}")
        return Table(
            heading=self.heading,
            label=Column(title="layer", meaning="in the order in which the calls would begin"),
            columns=self._columns(),
            rows=shown,
            notes=(*self.totals(), *notes, *self.notes),
            tree=tree,
        )

    def _columns(self) -> tuple[Column, ...]:
        added = {"output shape": self.shapes_from, "FLOPs": self.counted}
        return tuple(
            replace(column, meaning=f"{column.meaning}; {added[column.title]}")
            if column.title in added
            else column
            for column in COLUMNS
        )

    def ranked(self, view: View) -> list[int]:
        """Return the numbers of the rows that a view shows sorted, or cut after the first ones."""
        found = [i for i, row in enumerate(self.rows) if view.matches(row.layer)]
        key = view.sort
        if key is not None:
            found.sort(key=lambda i: -(getattr(self.rows[i], key) or 0))
        return found[: MOST_ROWS if view.top is None else view.top]

    def _ranked_rows(self) -> tuple[list[Row], list[str]]:
        ranked = [self.rows[i] for i in self.ranked(self.view)]
        rows = [_row(row, row.layer or row.network, 0, self.view) for row in ranked]
        return rows, [row.layer for row in ranked]

    def _nested_rows(self, depth: int | None, notes: list[str]) -> tuple[list[Row], list[str]]:
        chosen = list(self.rows)
        if depth is not None:
            chosen = [row for row in chosen if row.depth <= depth or row.failed]
            hidden = len(self.rows) - len(chosen)
            if hidden:
                deepest = max(row.depth for row in self.rows)
                notes.append(
                    f"{units.plural(hidden, 'row')} below level {depth} not shown; "
                    f"see them with --depth {deepest}"
                )
        kept = bounded([row.depth for row in chosen], (), MOST_ROWS)
        if len(kept) < len(chosen):
            notes.append(left_out(len(kept), len(chosen)))
        rows: list[Row] = []
        names: list[str] = []
        path: list[str] = []
        of_one = self.is_of_one
        for row in (chosen[i] for i in kept):
            del path[row.depth :]
            above = path[-1] if path and row.call is not None else None
            path += [row.layer] * (row.depth + 1 - len(path))
            label = label_of(row, above, of_one=of_one)
            rows.append(_row(row, label, row.depth, self.view))
            names.append(row.layer)
            if row.children and row.own_params and (depth is None or row.depth < depth):
                own = ", ".join(row.names)
                cells = ("Parameter", None, units.count(row.own_params))
                rows.append(Row(label=f"own: {own}", level=row.depth + 1, cells=cells))
                names.append(row.layer)
        return rows, names

    @property
    def is_of_one(self) -> bool:
        """Whether all rows are of one network."""
        return len({row.network for row in self.rows}) < 2

    @property
    def heading(self) -> str:
        """The line above the table."""
        parts = (self.title, self.engine, units.plural(self.total_params, "parameter"))
        heading = " · ".join(filter(None, parts))
        return f"{heading} · failed" if self.failure else heading

    def totals(self) -> tuple[str, ...]:
        """Return the lines that say what all layers have together."""
        least = "" if self.total_flops is not None else "at least "
        flops = self.least_flops if least else self.total_flops
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
            told = "counted" if self.biases else "not counted"
            macs = f"{least}{flops // 2:,} ({flops:,} FLOPs, biases {told})"
            lines.append(f"multiply-adds (MACs): {macs}")
        logical = self.logical_params
        if logical != self.total_params:
            values = "unknown" if logical is None else f"{logical:,}"
            lines.append(f"logical parameters, as the layers use them: {values}")
        lines.append(
            f"memory: input {units.size(self.input_bytes)}, "
            f"forward/backward pass {units.size(activations)}, "
            f"parameters {units.size(self.param_bytes)}, buffers {units.size(self.buffer_bytes)}, "
            f"{packed}together {units.size(together + self.buffer_bytes)}"
        )
        if self.training is not None:
            lines.extend(self.training.lines(self.param_bytes, self.buffer_bytes))
        lines.extend(form_lines(self.forms))
        if self.uncounted:
            listed = ", ".join(f"{name} × {times}" for name, times in self.uncounted)
            lines.append(f"FLOPs unknown of: {listed}")
        return tuple(lines)


def label_of(row: LayerShape, above: str | None, *, of_one: bool) -> str:
    """Return what a row is called.

    Args:
        row: the row.
        above: the name of the layer that called it; None for a layer that nothing called.
        of_one: whether all rows are of one network.
    """
    name = row.layer or row.network
    if above:
        return name.removeprefix(f"{above}.")
    return name if row.call is not None or of_one else f"{row.network}:{row.layer}"


def _row(row: LayerShape, label: str, level: int, view: View) -> Row:
    type_name = row.type
    first = "" if type_name == label else type_name
    drawn = Row(label=label, level=level, opened=level < view.open_depth)
    if row.failed:
        return replace(drawn, cells=(first,), message="FAILED", strong=not row.children)
    shape = units.shape(row.output_shape) if row.call is not None else "not called"
    return replace(
        drawn,
        cells=(
            first,
            shape,
            units.count(row.params),
            units.count(row.flops) if row.call is not None else "",
            units.shape(row.input_shape),
            row.weights,
            row.config,
        ),
        details=_details(row),
        dimmed=row.call is None,
    )


def _details(row: LayerShape) -> tuple[str, ...]:
    got, gave = units.shape(row.input_shape), units.shape(row.output_shape)
    trainable = f"{row.trainable_params:,} trainable, {units.size(row.param_bytes)}"
    lines = (
        f"{got or 'no tensor'} → {gave or 'no tensor'}" if row.call is not None else "",
        f"output {units.size(row.output_bytes)}" if row.output_bytes else "",
        f"parameters {row.params:,}: {trainable}" if row.params else "",
    )
    return tuple(line for line in lines if line)
