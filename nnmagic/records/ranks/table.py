"""The table of a run of several ranks: the rows of one of them, folded by agreement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from nnmagic.display.table import Column, Lanes, RelativeError, Row, State, Table
from nnmagic.records.call_log import TraceLog
from nnmagic.records.ranks.rank_sets import Classes, ranks_named, ranks_text
from nnmagic.records.record import View
from nnmagic.records.tensor import Statistics
from nnmagic.records.trace_columns import CallRow, flow_cells
from nnmagic.records.trace_table import TraceTable

if TYPE_CHECKING:
    from nnmagic.records.ranks.agreement import Agreement
    from nnmagic.records.ranks.replicas import Replicas

MOST_CHILDREN = 8
"""So many classes of ranks have a row of their own below a call in which they part."""


class JointRow(CallRow):
    """A call of several ranks as the subject of a row.

    Args:
        row: the same of the rank that is shown.
        group: the ranks that ran the same network.
        ranks: which of them returned the same, in words.
    """

    __slots__ = ("group", "ranks")

    def __init__(self, row: CallRow, group: Replicas, ranks: str) -> None:
        super().__init__(row.step, row.call, row.layer, row.label, row.times)
        self.group, self.ranks = group, ranks

    @cached_property
    def numbers(self) -> Statistics:
        """The statistics of its output: of all shards where all are there."""
        return self.group.statistics(self.call) or super().numbers

    @property
    def errors(self) -> tuple[float | None, float | None]:
        """How far apart the ranks are in what the call got, and in what it returned."""
        return self.group.errors(self.call)

    @property
    def wrong(self) -> list[str]:
        """What is wrong with the call, a sentence each: where its ranks part, by how much."""
        text = self.group.partings.get(self.call)
        return super().wrong if text is None else [text]


class ClassRow(CallRow):
    """A call of the ranks that differ from those that are shown.

    Args:
        step: the run of one of the ranks.
        call: its call.
        classes: the ranks.
        row: the row that it stands below.
    """

    __slots__ = ("ranks",)

    def __init__(self, step: TraceTable, call: int, ranks: Sequence[int], row: JointRow) -> None:
        super().__init__(step, call, row.layer, ranks_named(ranks), 0)
        self.ranks = ranks_text(ranks)

    @property
    def output(self) -> int | None:
        """The number of the tensor that the statistics are of; None for none."""
        return self.step.log.main_output(self.call)

    @property
    def type(self) -> str:
        """Nothing: the row above says it."""
        return ""

    @property
    def errors(self) -> tuple[float | None, float | None]:
        """Nothing: the row above says it."""
        return None, None


def _error(key: str, title: str, meaning: str, place: int) -> Column:
    def cell(row: JointRow | ClassRow) -> RelativeError | str:
        error = row.errors[place]
        return "" if error is None else RelativeError(error)

    return Column(key, "error", meaning, title=title, cell=cell, priority=3 - place)


RANKS = Column(
    "ranks",
    "text",
    "which ranks returned the same bytes; ≠ parts those that did not; numbers are of the heading's",
    priority=1,
    always=True,
)

ERRORS = (
    _error("input_error", "inherited", "||a - b|| / ||b|| of what ranks that part got", 0),
    _error("output_error", "differ by", "that of what they returned", 1),
)
"""Columns that are there only where ranks part."""


class JointTable:
    """Makes the table of several ranks: a tree for each network that some of them ran.

    Args:
        log: the columns of the rank that is shown, with the findings of all.
        view: the display options.
        agreement: what the ranks agree on.
        lines: what is to be said of ranks that are not there.
        scores: whether the output is one of class scores.
    """

    def __init__(
        self,
        log: TraceLog,
        view: View,
        agreement: Agreement,
        lines: Sequence[str],
        *,
        scores: bool,
    ) -> None:
        self.agreement, self.view, self.lines = agreement, view, lines
        first, *others = agreement.groups
        self.trees = [(first, TraceTable(log, view, scores=scores))]
        self.trees += [(group, TraceTable(group.log, view, scores=False)) for group in others]

    def table(self) -> Table:
        """Return the table."""
        tables = [tree.table() for _, tree in self.trees]
        rows = [
            row
            for (group, _), table in zip(self.trees, tables, strict=True)
            for row in self._rows(group, table.rows)
        ]
        has_parting = any(isinstance(row.subject, ClassRow) for row in rows)
        notes = (note for table in tables for note in table.notes)
        shown = tables[0]
        return replace(
            shown,
            heading=f"{shown.heading} · {self.agreement.sentence}",
            columns=tuple(self._columns(shown.columns, errors=has_parting)),
            rows=rows,
            notes=(*self.lines, *dict.fromkeys(notes), *self.agreement.notes),
            total=sum(table.total or 0 for table in tables),
            first=("where they part", "the first call that ranks part in")
            if has_parting
            else shown.first,
        )

    def _rows(self, group: Replicas, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield the rows of a tree, below each call in which ranks part one for each class."""
        steps: dict[int, TraceTable] = {}
        is_alone = len(self.trees) == 1
        above = group.around_partings()
        for row in rows:
            call = row.subject.call
            subject = JointRow(row.subject, group, group.words(call))
            classes, state = group.parted(call), row.state
            if classes is not None and call not in above:
                state |= State.DIMMED
            if call in group.partings:
                state = state & ~State.DIMMED | State.FLAGGED | State.STRONG | State.FIRST
            label, key = row.label, row.key
            if not is_alone and row.level == 0:
                label = f"{label} on {ranks_named(group.logs)}"
            yield row._replace(subject=subject, state=state, label=label, key=key)
            if classes is not None and call in group.partings and not row.subject.times:
                yield from self._children(group, row, subject, classes, steps)

    def _children(
        self,
        group: Replicas,
        row: Row,
        subject: JointRow,
        classes: Classes,
        steps: dict[int, TraceTable],
    ) -> Iterator[Row]:
        others = [ranks for ranks in classes.classes if group.reference not in ranks]
        for ranks in others[:MOST_CHILDREN]:
            rank = ranks[0]
            call = group.call_of(rank, subject.call)
            if call is None:
                continue
            if rank not in steps:
                steps[rank] = TraceTable(group.logs[rank], self.view, scores=False)
            child = ClassRow(steps[rank], call, ranks, subject)
            yield Row(
                label=child.label,
                subject=child,
                level=row.level + 1,
                name=f"{row.name} on {child.label}",
                state=State.FLAGGED,
            )

    def _columns(self, columns: Sequence[Column], *, errors: bool) -> Iterator[Column]:
        for column in columns:
            if column.cells is flow_cells:
                yield replace(column, cells=_flow_cells)
                continue
            yield column
            if column.key == "type":
                yield RANKS
            if column.key == "shape" and errors:
                yield from ERRORS


def _flow_cells(rows: Sequence[CallRow]) -> list[Lanes]:
    """Return how tensors come to these rows, tree by tree; rows of other ranks have no lane."""
    cells = [Lanes()] * len(rows)
    trees: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        if isinstance(row, JointRow):
            trees.setdefault(id(row.step), []).append(place)
    for places in trees.values():
        for place, cell in zip(places, flow_cells([rows[i] for i in places]), strict=True):
            sources = tuple(places[source] for source in cell.sources)
            unchanged = None if cell.unchanged is None else places[cell.unchanged]
            cells[place] = Lanes(sources, unchanged)
    return cells
