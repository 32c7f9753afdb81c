"""The record of a network's parameters: shape, size, first values, statistics."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite, isinf, isnan, prod
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

from nnmagic.display import units
from nnmagic.display.table import Row, State, Table
from nnmagic.records.live_fields import LIVE
from nnmagic.records.parameter_tree import tree_of
from nnmagic.records.params_columns import COLUMNS, ParameterRow
from nnmagic.records.record import Options, Record, data_frame, joint_norm, ranked
from nnmagic.records.tensor import LAZY, STATISTICS, Sample, TensorColumns, TensorRecord
from nnmagic.records.weights import WeightForm, form_lines

if TYPE_CHECKING:
    from nnmagic.records.comparison.alignment import Renaming
    from nnmagic.records.comparison.parameters import ParamsComparison

NAMED = 10
"""How many names a line has before it says that there are more."""

FRAME_COLUMNS = (
    *("name", "shape", "dtype", "device", "count", "percent", "bytes", "trainable", "tied_to"),
    *STATISTICS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterRecord(TensorColumns):
    """One parameter.

    Attributes:
        name: the name in `named_parameters()`, or the key of the mapping.
        tensor: its shape, dtype, device and statistics, and its leading rows; of a DTensor those of
            the part that this process holds.
        percent: its share of all values, in 0..100; None for a lazy one, which has no shape yet.
        bytes: `numel * element_size` of what this process holds; None for a lazy one.
        trainable: whether it requires a gradient.
        tied_to: the name under which the same tensor stands earlier, or None.
        has_grad: whether it has a gradient; None without `--grad`.
        grad_norm: the Euclidean norm of the gradient, None where there is none or it has no values.
        axes: what its axes are called, ``("out", "in")``, where its layer's type tells; else empty.
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
    axes: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        """How many values it has, of a DTensor over all processes; None for a lazy one."""
        return None if self.shape is None else prod(self.shape)

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
        """Its shape, of a DTensor that over all processes; None for a lazy one."""
        tensor = self.tensor
        return None if tensor.unknown == LAZY else tensor.global_shape or tensor.shape

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
        graded: whether the rows have gradients.
        live: gives the values that the parameters have now; left out of equality and pickling.
    """

    SORTABLE: ClassVar = ("count", "percent", "bytes", *STATISTICS, "grad_norm")

    title: str
    rows: tuple[ParameterRecord, ...]
    noun: str = "parameter"
    total_bytes: int = 0
    forms: tuple[WeightForm, ...] = ()
    others: tuple[str, ...] = ()
    graded: bool = False
    live: Any = field(default=None, compare=False, repr=False, metadata=LIVE)

    def check(self, record: ParameterRecord) -> None:
        """Raise a ValueError, which says why, where a parameter's values cannot be loaded."""
        if self.live is None:
            raise ValueError("the parameters are not at hand: the record was loaded")
        self.live.tensor(record)

    def load(self, record: ParameterRecord, at_most: int) -> Sample:
        """Return all values of a parameter, which are equal to what was recorded of them.

        Args:
            record: its row.
            at_most: how many values to return: of a larger one the first items.

        Raises:
            ValueError: if they cannot be had; the text says why.
        """
        self.check(record)
        values: Sample = self.live.values(record, at_most)
        return values

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

    def compare(self, other: "Params", rename: "Renaming | None" = None) -> "ParamsComparison":
        """Return these parameters beside others, by the values that the records kept.

        `nnmagic.compare(net, other)` compares all values, of networks, state dicts and files.

        Args:
            other: another record of parameters.
            rename: what the other side calls this side's parameters, where it has other names:
                patterns in which `*` stands for any text, `{"*": "module.*"}`.

        Raises:
            ValueError: if a pattern on the right has more `*` than the one on the left.
        """
        from nnmagic.records.comparison.kept_parameters import compare_kept, kept_tensors

        return compare_kept(kept_tensors(self), kept_tensors(other), rename)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row a name."""
        return data_frame(self.rows, FRAME_COLUMNS + (("grad_norm",) if self.graded else ()))

    def show(self, **options: Unpack[Options]) -> Self:
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
            lines.append(f"entries without a tensor: {_listed(self.others)}")
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
        lines = [f"gradients: total norm {_number(norm)} together"] if norm is not None else []
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
        counts = units.plural(self.total, "value")
        if self.noun == "parameter":
            is_all = 0 < self.trainable == self.total
            counts += f", {'all' if is_all else f'{self.trainable:,}'} trainable"
        heading = f"{self.title} · {units.plural(len(self.rows), self.noun)} · {counts}"
        return f"{heading} · {units.size(self.total_bytes)}"

    def table(self) -> Table:
        """Return the table of the parameters below the layers that hold them, or sorted."""
        view, names = self.view, [row.name for row in self.rows]
        notes = [*self.notes, *view.unmatched(names, self.noun)]
        chosen = [self.rows[i] for i in ranked(self.rows, names, view, notes)]
        return Table(
            heading=self.heading,
            title="name",
            meaning="as in named_parameters()",
            columns=tuple(c for c in COLUMNS if self.graded or c.key != "grad_norm"),
            rows=list(self._rows(chosen)),
            notes=tuple(notes),
            details=ParameterRow.details,
            show_details=view.values is not None,
            open_levels=view.open_depth,
            flat=True,
            noun=self.noun,
            total=len(self.rows),
        )

    def _rows(self, chosen: Sequence[ParameterRecord]) -> Iterator[Row]:
        """Yield the rows, before each parameter those of the layers that it is the first in."""
        is_sorted = self.view.sort is not None or self.view.top is not None
        totals = self._totals()
        for place in tree_of([record.name for record in chosen], flat=is_sorted):
            if place.item is None:
                subject, state = ParameterRow(self, None, totals[place.name]), State.GROUP
            else:
                record = chosen[place.item]
                is_bad = record.nan or record.inf or not isfinite(record.grad_norm or 0)
                state = State.FLAGGED | State.STRONG if is_bad else 0
                subject = ParameterRow(self, record, record.count)
            yield Row(place.label, subject, place.level, place.name, state=state)

    def _totals(self) -> Counter[str]:
        """Return how many values each layer holds below it, a tied parameter at its first name."""
        totals = Counter[str]()
        for row in self.rows:
            holder = row.name
            while row.tied_to is None and "." in holder:
                holder = holder.rpartition(".")[0]
                totals[holder] += row.count or 0
        return totals

    def flags(self, row: ParameterRecord) -> list[str]:
        """Return what deserves attention, in words."""
        tensor, norm = row.tensor, row.grad_norm or 0.0
        flags = {
            f"= {row.tied_to}": row.tied_to is not None,
            "frozen": not row.trainable and self.noun == "parameter",
            f"{tensor.nan or 0:,} NaN": tensor.nan,
            f"{tensor.inf or 0:,} Inf": tensor.inf,
            "NaN in the gradient": isnan(norm),
            "Inf in the gradient": isinf(norm),
            "no gradient": self.lacks_gradient(row),
            "all zeros": tensor.zeros == 1,
            f"{tensor.shape} here, {', '.join(tensor.placements or ())}": tensor.placements,
            f"no values: {tensor.unknown}": tensor.unknown,
        }
        return [text for text, applies in flags.items() if applies]


def _number(value: float) -> str:
    return units.numbers(value)[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
