"""The record of a network's parameters: shape, size, first values, statistics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isinf, isnan
from typing import Any, ClassVar, Self

from nnmagic.display import units
from nnmagic.display.table import Column, Row, Table
from nnmagic.records.record import MOST_ROWS, Record, View, data_frame, joint_norm, leading_rows
from nnmagic.records.tensor import STATISTICS, OfTensor, TensorRecord
from nnmagic.records.weights import WeightForm, form_lines

COLUMNS = (
    Column(title="shape", meaning="the shape of the tensor"),
    Column(title="count", right=True, meaning="how many values; a tied one counts once"),
    Column(title="share", right=True, rank=3, meaning="of all values"),
    Column(title="mean ± std", right=True, rank=1, meaning="over the finite values; correction 1"),
    Column(
        title="min … max", right=True, rank=2, meaning="the least and the greatest finite value"
    ),
    Column(title="histogram", rank=5, meaning="ten bins from min to max; | is zero"),
    Column(title="flags", meaning="what deserves a look"),
    Column(title="first values", rank=4, least=12, meaning="of the first row"),
)

GRADIENT = Column(
    title="gradient",
    right=True,
    rank=2,
    meaning="the Euclidean norm of .grad as it is now",
)

LAZY = "not initialized yet"
"""Why a lazy layer's parameter has no values."""

NAMED = 10
"""How many names a line has before it says that there are more."""

FRAME_COLUMNS = (
    "name",
    "shape",
    "dtype",
    "device",
    "count",
    "percent",
    "bytes",
    "trainable",
    "tied_to",
    *STATISTICS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterRecord(OfTensor):
    """One parameter.

    Attributes:
        name: the name in `named_parameters()`, or the key of the mapping.
        tensor: its shape, dtype, device and statistics, and its leading rows.
        percent: its share of all values, in 0..100; None for a lazy one, which has no shape yet.
        bytes: `numel * element_size`; None for a lazy one.
        trainable: whether it requires a gradient.
        tied_to: the name under which the same tensor stands earlier, or None.
        has_grad: whether it has a gradient; None where that was not asked.
        grad_norm: the Euclidean norm of the gradient, None where there is none or it has no values.
        values: the leading rows as nested lists.
    """

    name: str
    tensor: TensorRecord
    percent: float | None
    bytes: int | None
    trainable: bool
    tied_to: str | None
    has_grad: bool | None = None
    grad_norm: float | None = None

    @property
    def count(self) -> int | None:
        """How many values it has; None for a lazy one."""
        return None if self.tensor.unknown == LAZY else self.tensor.numel

    @property
    def size(self) -> str:
        """Its bytes as text."""
        return units.size(self.bytes)

    @property
    def values(self) -> Any:
        """The leading rows as nested lists."""
        return self.tensor.values

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Its shape; None for a lazy one."""
        return None if self.tensor.unknown == LAZY else self.tensor.shape

    @property
    def main(self) -> TensorRecord:
        """The parameter's own tensor."""
        return self.tensor


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Params(Record):
    """The parameters of a network, or the tensors of a state dict.

    Attributes:
        title: what they are of.
        rows: one for each name; a tied parameter stands under each of its names.
        noun: what one row is called.
        total_bytes: the bytes of all, a shared storage once.
        forms: how those weights of the network are held that are no plain parameters.
        others: the names of what the mapping holds that has no tensor in it.
        graded: whether the gradients are told.
    """

    SORTABLE: ClassVar = ("count", "percent", "bytes", *STATISTICS, "grad_norm")

    title: str
    rows: tuple[ParameterRecord, ...]
    noun: str = "parameter"
    total_bytes: int = 0
    forms: tuple[WeightForm, ...] = ()
    others: tuple[str, ...] = ()
    graded: bool = False

    @property
    def total(self) -> int:
        """How many values there are, a tied parameter counted once."""
        return sum(row.count or 0 for row in self.rows if row.tied_to is None)

    @property
    def trainable(self) -> int:
        """How many of them require a gradient."""
        return sum(row.count or 0 for row in self.rows if row.tied_to is None and row.trainable)

    def brief(self) -> str:
        """Return a few words that name the record."""
        return f"<Params of {self.title}: {len(self.rows)} {self.noun}s>"

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __getitem__(self, name: str) -> ParameterRecord:
        """Return the parameter of this name.

        Raises:
            KeyError: if there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no {self.noun} {name!r}; there are {', '.join(r.name for r in self.rows)}")

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row a name."""
        return data_frame(self.rows, FRAME_COLUMNS + (("grad_norm",) if self.graded else ()))

    def show(self, **options: Any) -> Self:
        """Return the same record with other display options.

        Raises:
            TypeError: for an option that does not exist.
            ValueError: for a column to sort by that does not exist.
        """
        if options.get("sort") == "grad_norm" and not self.graded:
            raise ValueError("to sort by 'grad_norm' the gradients are needed: --grad")
        return Record.show(self, **options)  # super() does not know a class with slots

    @property
    def notes(self) -> tuple[str, ...]:
        """The lines below the table that hold for all rows."""
        lines = [*form_lines(self.forms), *self._gradients()]
        if self.others:
            lines.append(f"without a tensor: {_listed(self.others)}")
        return tuple(lines)

    def _gradients(self) -> list[str]:
        if not self.graded or not self.rows:
            return []
        norm = joint_norm(
            row.grad_norm for row in self.rows if row.tied_to is None and row.grad_norm is not None
        )
        without = [row.name for row in self.rows if self.lacks_gradient(row)]
        if not any(row.has_grad for row in self.rows):
            why = "run a backward first, such as loss_fn(net(x), y).backward()"
            if self.noun != "parameter":
                why = "a state dict holds none, so type the network itself"
            return [f"no {self.noun} has a gradient: {why}"]
        lines = [f"gradients: norm {_number(norm)} together"] if norm is not None else []
        if without:
            of = f"{len(without)} of {units.plural(len(self.rows), self.noun)}"
            lines.append(f"no gradient: {of}: {_listed(without)}")
        return lines

    @staticmethod
    def lacks_gradient(row: ParameterRecord) -> bool:
        """Tell whether a parameter requires a gradient and got none."""
        return row.has_grad is False and row.trainable

    @property
    def heading(self) -> str:
        """The line above the table: how many parameters and values there are."""
        frozen = self.total - self.trainable
        counts = units.plural(self.total, "value")
        if self.noun == "parameter":
            counts += f" ({self.trainable:,} trainable, {frozen:,} non-trainable)"
        heading = f"{self.title} · {units.plural(len(self.rows), self.noun)} · {counts}"
        return f"{heading} · {units.size(self.total_bytes)}"

    def shown(self, view: View) -> list[int]:
        """Return the numbers of the rows that a view shows, in its order."""
        found = [i for i, row in enumerate(self.rows) if view.matches(row.name)]
        key = view.sort
        if key is not None:
            found.sort(key=lambda i: _rank(getattr(self.rows[i], key)))
        return found if view.top is None else found[: view.top]

    def table(self, *, text: bool) -> Table:
        """Return the table of the parameters whose names have at most `depth` dots."""
        view, notes = self.view, list(self.notes)
        shown = [self.rows[i] for i in self.shown(replace(view, top=None))]
        if view.layers and not shown:
            notes.append(f"no {self.noun} matches {' '.join(view.layers)}")
        if view.depth is not None:
            kept = [row for row in shown if row.name.count(".") <= view.depth]
            if len(kept) < len(shown):
                hidden = units.plural(len(shown) - len(kept), self.noun)
                notes.append(f"{hidden} below level {view.depth} not shown")
            shown = kept
        limit = MOST_ROWS if view.top is None else min(view.top, MOST_ROWS)
        if len(shown) > limit:
            notes.append(f"{limit:,} of {len(shown):,} shown; see them all with to_frame()")
        return Table(
            heading=self.heading,
            label=Column(title="name", meaning="as in named_parameters()"),
            columns=(*COLUMNS[:-2], *((GRADIENT,) if self.graded else ()), *COLUMNS[-2:]),
            rows=tuple(self._row(row) for row in shown[:limit]),
            notes=tuple(notes),
            tree=False,
            show_details=view.values is not None,
        )

    def _row(self, row: ParameterRecord) -> Row:
        tensor = row.tensor
        rows = leading_rows(tensor.values, tensor.shape, self.view.values_shown)
        usual = self.rows[0].tensor
        shape = units.shape(row.shape)
        shape += f" {tensor.dtype}" if tensor.dtype != usual.dtype else ""
        shape += f" {tensor.device}" if tensor.device != usual.device else ""
        return Row(
            label=row.name,
            cells=(
                shape,
                "" if row.count is None else units.count(row.count),
                "" if row.percent is None else units.percent(row.percent / 100),
                tensor.mean_and_std,
                tensor.min_and_max,
                tensor.histogram,
                *((_norm_text(row),) if self.graded else ()),
                ", ".join(self.flags(row)),
                rows[0] if rows else "",
            ),
            details=() if row.shape is None else (f"{tensor.caption}, {row.size}", *rows),
            strong=bool(tensor.nan or tensor.inf),
        )

    def flags(self, row: ParameterRecord) -> list[str]:
        """Return what deserves a look, in words."""
        tensor, flags = row.tensor, []
        if row.tied_to is not None:
            flags.append(f"= {row.tied_to}")
        if not row.trainable and self.noun == "parameter":
            flags.append("frozen")
        if tensor.nan:
            flags.append(f"{tensor.nan:,} NaN")
        if tensor.inf:
            flags.append(f"{tensor.inf:,} Inf")
        if row.grad_norm is not None and isnan(row.grad_norm):
            flags.append("NaN in the gradient")
        if row.grad_norm is not None and isinf(row.grad_norm):
            flags.append("Inf in the gradient")
        if self.lacks_gradient(row):
            flags.append("no gradient")
        if tensor.zeros == 1:
            flags.append("all zeros")
        if tensor.unknown:
            flags.append(f"no values: {tensor.unknown}")
        return flags


def _rank(value: float | None) -> float:
    """Return what sorts the largest first, NaN before all numbers and None after them."""
    if value is None:
        return inf
    return -inf if isnan(value) else -value


def _number(value: float) -> str:
    return units.numbers(value)[0]


def _norm_text(row: ParameterRecord) -> str:
    if row.grad_norm is not None:
        return _number(row.grad_norm)
    return "unknown" if row.has_grad else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
