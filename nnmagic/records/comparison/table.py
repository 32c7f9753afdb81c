"""The table of two runs side by side."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from nnmagic.display import units
from nnmagic.display.table import Column, Kind, RelativeError, Row, State, Table, TensorShape
from nnmagic.records.columns import FLAGS
from nnmagic.records.comparison.rows import (
    NOTHING,
    ComparedCall,
    parting,
    unlike_inputs,
    verdict_of,
)
from nnmagic.records.comparison.verdicts import (
    AMPLIFIED,
    EQUAL,
    FAILED_THERE,
    INHERITED,
    ONLY_HERE,
    ONLY_THERE,
    OTHER_SHAPE,
    PARTS,
    UNKNOWN,
    WITHIN_ROUNDING,
)
from nnmagic.records.record import View, filtered
from nnmagic.records.trace_table import TraceTable

if TYPE_CHECKING:
    from nnmagic.records.comparison.comparison import Comparison


class ComparedRow:
    """A pair of calls as the subject of a row.

    Args:
        call: the pair.
        label: what the tree calls it.
        parts: whether the two runs part in it.
    """

    def __init__(self, call: ComparedCall, label: str, *, parts: bool = False) -> None:
        self.call, self.label, self.parts = call, label, parts

    @property
    def type(self) -> str:
        """The class of the layer, where its label does not say it."""
        return "" if self.call.type == self.label else self.call.type

    @property
    def shape(self) -> TensorShape:
        """The shape of what this side returned, of the other where only that made the call."""
        call = self.call
        if call.call is None:
            return TensorShape(call.other_shape)
        is_other = call.verdict == OTHER_SHAPE
        return TensorShape(
            call.output_shape, f"other {units.shape(call.other_shape)}" if is_other else ""
        )

    @property
    def other(self) -> str:
        """What the other side calls the layer, where that is another name."""
        call = self.call
        if call.other_layer is None or call.call is None or call.other_layer == call.layer:
            return ""
        return call.other_layer or "the network"

    @property
    def details(self) -> list[str]:
        """The verdict with its numbers."""
        return [verdict_of(self.call)]

    @property
    def flags(self) -> str:
        """The verdict."""
        return self.call.verdict


def _error(key: str, title: str, meaning: str, priority: int) -> Column:
    """Return a column of errors, each with what rounding explains of it."""

    def cell(row: ComparedRow) -> RelativeError | str | None:
        error: float | None = getattr(row.call, key)
        return "" if error is None else RelativeError(error, row.call.tolerance)

    return Column(key, "error", meaning, title=title, cell=cell, priority=priority)


def _number(key: str, kind: Kind, meaning: str, priority: int, title: str = "") -> Column:
    def cell(row: ComparedRow) -> float | str:
        number: float | None = getattr(row.call, key)
        return "" if number is None else number

    return Column(key, kind, meaning, title=title, cell=cell, priority=priority)


SCALE = "the bar reaches from 1e-8 to 1, the tick is the tolerance"

COLUMNS = (
    Column("type", "text", "the class of the layer", priority=5),
    Column("shape", "shape", "the shape of its output", narrowest=16, priority=4),
    Column("other", "text", "what the other side calls it", title="other side", priority=3),
    _error("input_error", "input error", f"||a - b|| / ||b|| of what the two got; {SCALE}", 2),
    _error("output_error", "output error", "that of what the two returned", 0),
    _error("own_error", "own error", "that, where the other side got this side's input", 0),
    _error("float64_error", "in float64", "that, where both sides run in float64", 3),
    _error("gradient_error", "output gradient error", "that of the gradients of the outputs", 3),
    _number("tolerance", "error", "what rounding explains: 2 eps sqrt(terms of a sum)", 6),
    _number("max_abs", "error", "the largest absolute difference of the outputs", 7, "max |a - b|"),
    _number("cosine", "number", "of the angle between the outputs", 8),
    FLAGS,
)
"""The columns of a comparison: a new one goes here."""

WHERE_KNOWN = ("other", "own_error", "float64_error", "gradient_error")
"""Those that are there only where a row has them."""


class ComparisonTable:
    """Makes the table of two runs side by side, in the order of this run.

    Args:
        comparison: the record.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        judge = comparison.judge()
        self.calls = [comparison.row(place, judge) for place in range(len(comparison))]
        self.first = None if judge.first is None else self.calls[judge.first]
        self.other_inputs = None if judge.other_inputs is None else self.calls[judge.other_inputs]
        self.by_call = {each.call: each for each in self.calls if each.call is not None}
        self.verdicts = Counter(call.verdict for call in self.calls)
        self.by_order = sum(call.matched_by == "order" for call in self.calls)
        self.trace = TraceTable(comparison.mine, self._view(), scores=False)

    def _view(self) -> View:
        """Return the display options: the iteration that says most where none was asked for."""
        view, shown = self.comparison.view, self.first or self.other_inputs
        if view.step is not None or shown is None or shown.call is None:
            return view
        return replace(view, step=shown.iteration)

    def table(self) -> Table:
        """Return the table."""
        comparison, view = self.comparison, self.comparison.view
        rows, names = self._rows()
        subjects = [row.subject for row in rows if row.subject is not None]
        columns = tuple(
            column
            for column in COLUMNS
            if column.key not in WHERE_KNOWN
            or any(each not in ("", None) for each in column.of(subjects))
        )
        return Table(
            heading=self.heading(),
            title="layer",
            meaning="in the order in which this side's calls began",
            columns=columns,
            rows=filtered(rows, names, view),
            notes=(*self._notes(), *self.trace.notes, *comparison.notes),
            open_levels=view.open_depth,
            details=lambda row: row.details,
            show_details=view.values is not None,
            noun="call",
            first=("where they part", "the first call that errs"),
        )

    def heading(self) -> str:
        """Return what stands above the table: of what it is, and the verdict."""
        pairs = sum(call.other_call is not None for call in self.by_call.values())
        count = f"{units.plural(pairs, 'pair')} of calls"
        if self.by_order:
            count += f", {self.by_order:,} matched by order"
        alone = [
            f"{units.plural(self.verdicts[verdict], 'call')} {verdict}"
            for verdict in (ONLY_HERE, ONLY_THERE, UNKNOWN)
            if verdict in self.verdicts
        ]
        sides = " against ".join(self.comparison.titles)
        shown = [f"{self.trace.shown.text} shown"] if self.trace.shown.text else []
        return " · ".join([sides, *self._outcome(), count, *alone, *shown])

    def _outcome(self) -> list[str]:
        """Return what the comparison has shown, in a few words each."""
        comparison, first = self.comparison, self.first
        words = [] if self.other_inputs is None else ["different inputs"]
        if first is not None:
            return [*words, f"part in {first.name}{first.in_iteration}"]
        failed = comparison.failed
        if failed is not None:
            return [*words, f"the other side failed in {failed.name}"]
        compared = {*self.verdicts} & {EQUAL, WITHIN_ROUNDING}
        if words or not compared:
            return words or ["nothing to compare"]
        is_whole = not {*self.verdicts} & {ONLY_HERE, ONLY_THERE}
        agree = "equal" if compared == {EQUAL} else "agree within rounding"
        return [agree if is_whole else f"{agree} in what both have"]

    def _rows(self) -> tuple[list[Row], list[str]]:
        rows, names, first = list[Row](), list[str](), self.first
        for line in self.trace.ordered():
            call = self.by_call.get(line.call)
            if call is None:
                continue
            label = self.trace.label(line.call)
            parts = first is not None and call.call == first.call and not line.times
            state = State.MANY_CALLS if line.times else 0
            state |= _state(call) | (State.FIRST | State.STRONG if parts else 0)
            name = call.layer or call.network
            rows.append(
                Row(
                    label=f"{label} × {line.times}" if line.times else label,
                    subject=ComparedRow(call, label, parts=parts),
                    level=line.level,
                    name=name,
                    state=state,
                )
            )
            names.append(call.layer or "")
        alone = [call for call in self.calls if call.call is None]
        if alone:
            title = f"only in the other: {units.plural(len(alone), 'call')}"
            rows.append(Row(label=title, name=title, state=State.GROUP | State.CONTEXT))
            names.append("")
        for call in alone:
            label = call.other_layer or call.network
            subject = ComparedRow(call, label)
            rows.append(Row(label=label, subject=subject, level=1, name=label, state=_state(call)))
            names.append(label)
        return rows, names

    def _notes(self) -> list[str]:
        comparison, first = self.comparison, self.first
        notes = [] if self.other_inputs is None else [unlike_inputs(self.other_inputs)]
        notes += [] if first is None else [parting(first)]
        notes += [NOTHING] if {*self.verdicts} == {UNKNOWN} else []
        rename = comparison.suggested_rename
        if rename:
            notes.append(
                f"{units.plural(self.by_order, 'pair')} matched by order; by name with "
                f"rename={json.dumps(rename)}"
            )
        outputs = [each.output for each in comparison.measured if each.output is not None]
        sampled = [each for each in outputs if each.compared < each.numel]
        if sampled:
            largest = max(sampled, key=lambda each: each.numel)
            notes.append(
                f"of {units.plural(len(sampled), 'output')} only the kept values were compared, at "
                f"most {largest.compared:,} of {largest.numel:,}"
            )
        items = [each.items for each in outputs if each.items is not None]
        if items:
            notes.append(f"the batches differ: the first {max(items)} items were compared")
        if any(call.verdict == WITHIN_ROUNDING for call in self.calls):
            notes.append(
                "within rounding: within the tolerance, less in float64, or no more than "
                f"{AMPLIFIED} times as far apart as what the call got"
            )
        return notes


def _state(call: ComparedCall) -> int:
    if call.verdict in (PARTS, OTHER_SHAPE, FAILED_THERE):
        return State.FLAGGED
    return State.DIMMED if call.verdict == INHERITED else 0
