"""The record of two runs side by side."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from nnmagic.display import units
from nnmagic.display.table import Table
from nnmagic.records.call_log import FAILED, TraceLog
from nnmagic.records.comparison.alignment import MatchedCalls, Renaming, aligned
from nnmagic.records.comparison.differences import KeptValues, overlap_of, worst
from nnmagic.records.comparison.rows import (
    NOTHING,
    ComparedCall,
    error_of,
    iteration_of,
    parting,
    shape_of,
    unlike_inputs,
)
from nnmagic.records.comparison.suggestion import suggested_rename
from nnmagic.records.comparison.table import ComparisonTable
from nnmagic.records.comparison.tolerance import Tolerances
from nnmagic.records.comparison.verdicts import (
    FAILED_THERE,
    ONLY_HERE,
    ONLY_THERE,
    UNKNOWN,
    Judge,
    Measured,
)
from nnmagic.records.record import Record, data_frame

FRAME_COLUMNS = (
    *("network", "layer", "other_layer", "matched_by", "call", "output_shape", "other_shape"),
    *("input_error", "output_error", "own_error", "max_abs", "cosine", "verdict"),
    *("max_at", "tolerance", "float64_error", "gradient_error", "iteration", "other_call"),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(Record):
    """Two runs side by side: a row for each call that both made, or that only one of them made.

    Attributes:
        mine: the columns of this run.
        other: the columns of the other one.
        pairs: which calls are the same, in this run's order, then those of the other run alone.
        measured: what was measured of each pair.
        isolated: whether each layer of the other side ran on this side's inputs.
        notes: the lines below the table.
    """

    mine: TraceLog
    other: TraceLog
    pairs: tuple[MatchedCalls, ...]
    measured: tuple[Measured, ...]
    isolated: bool = False
    notes: tuple[str, ...] = ()

    def judge(self) -> Judge:
        """Return the verdicts."""
        tolerances = Tolerances(self.mine, self.other)
        return Judge(
            self.mine,
            self.pairs,
            self.measured,
            [None if a is None or b is None else tolerances.of(a, b) for a, b, _ in self.pairs],
            tolerances.of_inputs,
            isolated=self.isolated,
        )

    @property
    def suggested_rename(self) -> dict[str, str]:
        """What the other side calls this side's layers, where they were matched by their order.

        At most five patterns, such as `{"blocks.*": "h.*"}`, to be given as `rename`.
        """
        return suggested_rename(self.mine, self.other, self.pairs)

    def brief(self) -> str:
        """Return a few words that name the record."""
        calls = units.plural(len(self.pairs), "call")
        mine, other = self.titles
        return f"<Comparison of {mine} and {other}: {calls}>"

    @property
    def titles(self) -> tuple[str, str]:
        """What this side and the other one are called."""
        return units.told_apart(self.mine.title, self.other.title)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[ComparedCall]:
        """Yield the rows."""
        judge = self.judge()
        for place in range(len(self.pairs)):
            yield self.row(place, judge)

    def row(self, place: int, judge: Judge) -> ComparedCall:
        """Return the row at a place, with what the judge says of it."""
        pair, measured, tolerance = self.pairs[place], self.measured[place], judge.tolerances[place]
        log, call = (self.mine, pair.mine) if pair.mine is not None else (self.other, pair.other)
        assert call is not None
        layer, output = log.layer_of(call), measured.output
        return ComparedCall(
            network=log.networks[layer.network],
            layer=None if pair.mine is None else layer.name,
            other_layer=None if pair.other is None else self.other.layer_of(pair.other).name,
            matched_by=pair.matched_by or None,
            call=pair.mine,
            other_call=pair.other,
            iteration=iteration_of(log, call),
            type=layer.type,
            output_shape=shape_of(self.mine, pair.mine),
            other_shape=shape_of(self.other, pair.other),
            input_error=error_of(measured.inputs),
            output_error=error_of(output),
            own_error=error_of(measured.own),
            max_abs=None if output is None else output.max_abs,
            max_at=None if output is None else output.max_at,
            cosine=None if output is None else output.cosine,
            tolerance=None if tolerance is None else tolerance.error,
            bound="" if tolerance is None else str(tolerance),
            float64_error=measured.float64,
            gradient_error=error_of(measured.gradient),
            verdict=judge.verdicts[place],
        )

    def __getitem__(self, name: str) -> ComparedCall:
        """Return the last row of a layer of this side.

        Raises:
            KeyError: if this side has no such layer.
        """
        rows = [row for row in self if row.layer == name]
        if not rows:
            raise KeyError(f"no layer named {name!r} was compared")
        return rows[-1]

    @property
    def first_divergence(self) -> ComparedCall | None:
        """The first call that errs, None where none does."""
        judge = self.judge()
        return None if judge.first is None else self.row(judge.first, judge)

    @property
    def different_inputs(self) -> ComparedCall | None:
        """The first call that the user's code made on other inputs than the other side's, or None.

        Rounding does not explain how far they lie apart, and no call erred before.
        """
        judge = self.judge()
        return None if judge.other_inputs is None else self.row(judge.other_inputs, judge)

    @property
    def failed(self) -> ComparedCall | None:
        """The innermost call that ended by an exception on the other side only, or None."""
        rows = [row for row in self if row.verdict == FAILED_THERE]
        return rows[-1] if rows else None

    def raise_if_different(self) -> None:
        """Raise if the runs part, got other inputs, or if only one of them made or finished a call.

        Raises:
            AssertionError: naming the first call that errs, the inputs, or the calls of one side
                alone.
            ValueError: if nothing can be compared.
        """
        __tracebackhide__ = True
        judge = self.judge()
        rows = [self.row(place, judge) for place in range(len(self))]
        differences = (
            [] if judge.other_inputs is None else [unlike_inputs(rows[judge.other_inputs])]
        )
        differences += [] if judge.first is None else [parting(rows[judge.first])]
        if differences:
            raise AssertionError("; ".join(differences))
        failed = self.failed
        if failed is not None:
            raise AssertionError(f"the other side failed in {failed.name}")
        for verdict in (ONLY_HERE, ONLY_THERE):
            alone = [row.name for row in rows if row.verdict == verdict]
            if alone:
                raise AssertionError(f"{verdict}: {units.listed(alone)}")
        if all(row.verdict == UNKNOWN for row in rows):
            raise ValueError(NOTHING)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row a matched call, and one for each of one side."""
        return data_frame(list(self), FRAME_COLUMNS)

    def table(self) -> Table:
        """Return the table of the shown iteration."""
        return ComparisonTable(self).table()


def compare(mine: TraceLog, other: TraceLog, rename: Renaming | None = None) -> Comparison:
    """Return two runs side by side, compared by the values that were kept of them.

    Args:
        mine: this run.
        other: the other run.
        rename: what the other side calls this side's layers, where it has other names: patterns in
            which `*` stands for any text.

    Raises:
        ValueError: if a pattern of the map cannot be read.
    """
    pairs = aligned(mine, other, rename)
    return Comparison(
        mine=mine,
        other=other,
        pairs=pairs,
        measured=tuple(kept_measured(mine, other, pair) for pair in pairs),
    )


def kept_measured(mine: TraceLog, other: TraceLog, pair: MatchedCalls) -> Measured:
    """Return what the values that were kept tell of a pair."""
    a, b = pair.mine, pair.other
    if a is None or b is None:
        return Measured()
    kept = KeptValues(mine.tensors, other.tensors)
    outputs = kept.pairs(mine.outputs[a], other.outputs[b])
    graded = [
        (mine.gradients[x], other.gradients[y])
        for x, y in outputs
        if x in mine.gradients and y in other.gradients
    ]
    return replace(
        shapes_measured(mine, other, pair),
        inputs=kept.differences(mine.inputs[a], other.inputs[b]),
        output=worst(kept.difference(x, y) for x, y in outputs),
        gradient=worst(kept.difference(x, y) for x, y in graded),
    )


def shapes_measured(mine: TraceLog, other: TraceLog, pair: MatchedCalls) -> Measured:
    """Return what the shapes alone tell of a pair, and how the calls ended."""
    a, b = pair.mine, pair.other
    if a is None or b is None:
        return Measured()
    if other.ended[b] == FAILED and mine.ended[a] != FAILED:
        return Measured(failed=True)
    outputs = KeptValues(mine.tensors, other.tensors).pairs(mine.outputs[a], other.outputs[b])
    shapes = ((mine.tensors.metadata_of(x), other.tensors.metadata_of(y)) for x, y in outputs)
    others = any(overlap_of(one.shape, two.shape) is None for one, two in shapes)
    return Measured(other_shape=others or bool(mine.outputs[a]) != bool(other.outputs[b]))
