"""The table of parameters side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nnmagic.display import units
from nnmagic.display.table import Column, Kind, Row, State, Table, TensorShape
from nnmagic.records.columns import FLAGS
from nnmagic.records.comparison.parameter_rows import (
    CHANGED,
    MISSING,
    UNEXPECTED,
    ComparedParameter,
)
from nnmagic.records.comparison.verdicts import EQUAL, OTHER_SHAPE, UNKNOWN
from nnmagic.records.parameter_tree import tree_of
from nnmagic.records.record import ranked

if TYPE_CHECKING:
    from nnmagic.records.comparison.parameters import ParamsComparison


class ComparedParameterRow(NamedTuple):
    """A parameter as the subject of a row, None for a layer that holds some."""

    record: ComparedParameter | None

    @property
    def shape(self) -> TensorShape | str:
        """Its shape, and that of the other side where it is another."""
        if self.record is None:
            return ""
        if self.record.verdict == MISSING:
            return TensorShape(self.record.other_shape)
        is_other = self.record.verdict == OTHER_SHAPE
        other = f"other {units.shape(self.record.other_shape)}" if is_other else ""
        return TensorShape(self.record.shape, other)

    @property
    def other(self) -> str:
        """What the other side calls it, where that is another name."""
        if self.record is None or self.record.other_name in (None, self.record.name):
            return ""
        return self.record.other_name or ""

    @property
    def flags(self) -> str:
        """The verdict, and what else is to be said, in words."""
        record = self.record
        if record is None:
            return ""
        is_rounded = record.rounded and record.verdict == CHANGED
        flags = [f"{record.verdict} by rounding alone" if is_rounded else record.verdict]
        if record.has_other_dtype:
            flags.append(f"{record.dtype} here, {record.other_dtype} there")
        if record.unknown:
            flags.append(record.unknown)
        flags += [f"= {name}" for name in record.also]
        return ", ".join(flags)

    def details(self) -> list[str]:
        """Return lines that say how far the values lie apart, and where most."""
        record = self.record
        if record is None or record.verdict != CHANGED or record.error is None:
            return []
        lines = [f"||a - b|| / ||b|| = {record.error:.6g}"]
        if record.max_at is not None and record.max_abs is not None:
            lines.append(f"most at {record.max_at}, by {record.max_abs:.6g}")
        if record.cosine is not None:
            lines.append(f"cosine {record.cosine:.9g}")
        return lines


def _number(key: str, kind: Kind, title: str, meaning: str, priority: int) -> Column:
    def cell(row: ComparedParameterRow) -> float | str | None:
        value = "" if row.record is None else getattr(row.record, key)
        return "" if value is None else value

    return Column(key, kind, meaning, title=title, cell=cell, priority=priority)


COLUMNS = (
    Column("shape", "shape", "the shape of the tensor", narrowest=22, always=True),
    Column("other", "text", "what the other side calls it", title="other side", priority=3),
    _number(
        "error", "error", "error", "||a - b|| / ||b||, a this side's values and b the other's", 1
    ),
    _number("max_abs", "error", "max |a - b|", "the largest absolute difference", 2),
    _number("cosine", "number", "cosine", "of the angle between the two", 4),
    FLAGS,
)
"""The columns of parameters side by side: a new one goes here."""


def table_of(comparison: ParamsComparison) -> Table:
    """Return the table of the parameters below the layers that hold them, or sorted."""
    view, names = comparison.view, [row.name for row in comparison.rows]
    notes = [*_meanings(comparison), *comparison.notes, *view.unmatched(names, "parameter")]
    chosen = [comparison.rows[i] for i in ranked(comparison.rows, names, view, notes)]
    is_sorted = view.sort is not None or view.top is not None
    rows = [
        Row(
            label=place.label,
            subject=ComparedParameterRow(None if place.item is None else chosen[place.item]),
            level=place.level,
            name=place.name,
            state=State.GROUP if place.item is None else _state(chosen[place.item]),
        )
        for place in tree_of([row.name for row in chosen], flat=is_sorted)
    ]
    has_other = any(row.subject.other for row in rows)
    return Table(
        heading=comparison.heading,
        title="name",
        meaning="as in state_dict()",
        columns=tuple(column for column in COLUMNS if has_other or column.key != "other"),
        rows=rows,
        notes=tuple(notes),
        details=ComparedParameterRow.details,
        show_details=view.values is not None,
        open_levels=view.open_depth,
        flat=True,
        noun="parameter",
        total=len(comparison.rows),
    )


def _meanings(comparison: ParamsComparison) -> list[str]:
    """Return what missing and unexpected mean, where there is such a parameter."""
    mine, other = comparison.titles
    alone = {MISSING: f"in {other}, not in {mine}", UNEXPECTED: f"in {mine}, not in {other}"}
    said = [
        f"{verdict}: {where}" for verdict, where in alone.items() if verdict in comparison.counts
    ]
    return ["; ".join(said)] if said else []


def _state(record: ComparedParameter) -> int:
    if record.verdict in (EQUAL, UNKNOWN):
        return State.DIMMED
    if record.verdict == CHANGED:
        return 0 if record.rounded else State.FLAGGED
    return State.FLAGGED | State.STRONG
