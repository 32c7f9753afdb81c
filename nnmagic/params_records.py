"""The record of a network's parameters: shape, size, first values, statistics."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nnmagic import units
from nnmagic.records import (
    MOST_ROWS,
    STATISTICS,
    OfTensor,
    Record,
    TensorRecord,
    View,
    data_frame,
    leading_rows,
)
from nnmagic.tables import Column, Row, Table
from nnmagic.weight_records import WeightForm, form_lines

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
        percent: its share of all values, in 0..100.
        bytes: `numel * element_size`.
        trainable: whether it requires a gradient.
        tied_to: the name under which the same tensor stands earlier, or None.
        values: the leading rows as nested lists.
    """

    name: str
    tensor: TensorRecord
    percent: float
    bytes: int
    trainable: bool
    tied_to: str | None

    @property
    def count(self) -> int:
        """How many values it has."""
        return self.tensor.numel

    @property
    def values(self) -> Any:
        """The leading rows as nested lists."""
        return self.tensor.values

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.tensor.shape

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
    """

    SORTABLE: ClassVar = ("count", "percent", "bytes", *STATISTICS)

    title: str
    rows: tuple[ParameterRecord, ...]
    noun: str = "parameter"
    total_bytes: int = 0
    forms: tuple[WeightForm, ...] = ()

    @property
    def total(self) -> int:
        """How many values there are, a tied parameter counted once."""
        return sum(row.count for row in self.rows if row.tied_to is None)

    @property
    def trainable(self) -> int:
        """How many of them require a gradient."""
        return sum(row.count for row in self.rows if row.tied_to is None and row.trainable)

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
        return data_frame(self.rows, FRAME_COLUMNS)

    @property
    def heading(self) -> str:
        """The line above the table: how many parameters and values there are."""
        frozen = self.total - self.trainable
        counts = f"{self.total:,} values"
        if self.noun == "parameter":
            counts += f" ({self.trainable:,} trainable, {frozen:,} non-trainable)"
        heading = f"{self.title} · {units.plural(len(self.rows), self.noun)} · {counts}"
        return f"{heading} · {units.size(self.total_bytes)}"

    def shown(self, view: View) -> list[int]:
        """Return the numbers of the rows that a view shows, in its order."""
        found = [i for i, row in enumerate(self.rows) if view.matches(row.name)]
        key = view.sort
        if key is not None:
            found.sort(key=lambda i: -(getattr(self.rows[i], key) or 0))
        return found if view.top is None else found[: view.top]

    def table(self, *, text: bool) -> Table:
        """Return the table of the parameters whose names have at most `depth` dots."""
        view, notes = self.view, list(form_lines(self.forms))
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
            columns=COLUMNS,
            rows=tuple(self._row(row) for row in shown[:limit]),
            notes=tuple(notes),
            tree=False,
            show_details=view.values is not None,
        )

    def _row(self, row: ParameterRecord) -> Row:
        tensor = row.tensor
        rows = leading_rows(tensor.values, tensor.shape, self.view.values_shown)
        usual = self.rows[0].tensor
        shape = units.shape(tensor.shape)
        shape += f" {tensor.dtype}" if tensor.dtype != usual.dtype else ""
        shape += f" {tensor.device}" if tensor.device != usual.device else ""
        return Row(
            label=row.name,
            cells=(
                shape,
                units.count(tensor.numel),
                units.percent(row.percent / 100),
                tensor.mean_and_std,
                tensor.min_and_max,
                tensor.histogram,
                ", ".join(self.flags(row)),
                rows[0] if rows else "",
            ),
            details=(f"{tensor.caption}, {units.size(row.bytes)}", *rows),
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
        if tensor.zeros == 1:
            flags.append("all zeros")
        if tensor.unknown:
            flags.append(f"no values: {tensor.unknown}")
        return flags
