"""Whether ranks that got the same data made the same of it, and the first call that did not."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import inf

import numpy as np

from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.alignment import MatchedCalls, aligned
from nnmagic.records.comparison.comparison import Comparison, kept_measured
from nnmagic.records.comparison.differences import Difference
from nnmagic.records.comparison.rows import ComparedCall, verdict_of
from nnmagic.records.comparison.verdicts import OTHER_SHAPE, PARTS, Measured
from nnmagic.records.finding import Finding
from nnmagic.records.findings.of_calls import finding_of
from nnmagic.records.held_tensor import PARAMETER
from nnmagic.records.ranks.layouts import is_replicated
from nnmagic.records.ranks.rank_sets import Classes, short
from nnmagic.records.ranks.same_runs import Logs

RULE = "ranks part here"

MOST_COMPARED = 8
"""So many ranks, no two of which are alike, are compared value by value with the first one."""

SOURCE = "2 eps sqrt(terms of a sum): docs/comparing.md"


class SameData:
    """Ranks that ran the same network on the same data.

    Args:
        logs: their runs.
        digests: for each rank the digests of what its calls got and returned.
        order: for each rank what is equal on those that made the same calls.
        usual: the rank whose calls count.

    Attributes:
        logs: the runs by rank.
        ranks: the ranks, in the order of the rows of `made`.
        reference: the rank that the others are held against: of the largest class that agrees.
        log: its run.
        made: a row a rank, a column a call of the reference: the digest of what it returned; 0
            where the rank made no such call, or one that returned no tensor.
    """

    def __init__(
        self,
        logs: Logs,
        digests: Mapping[int, tuple[np.ndarray, np.ndarray]],
        order: Mapping[int, Hashable],
        usual: int,
    ) -> None:
        self.logs, self.ranks = logs, list(logs)
        self._digests = digests
        alike = [rank for rank in logs if order[rank] == order[usual]]
        rows = {rank: digests[rank][1].tobytes() for rank in alike}
        most, _ = Counter(rows.values()).most_common(1)[0]
        self.reference = next(rank for rank in alike if rows[rank] == most)
        self.log = logs[self.reference]
        self._pairs: dict[int, tuple[MatchedCalls, ...] | None] = {
            rank: None if rank in rows else aligned(self.log, logs[rank]) for rank in logs
        }
        self.made = np.stack([self._row(rank, 1) for rank in self.ranks])

    def _row(self, rank: int, side: int) -> np.ndarray:
        """Return the digests of a rank's calls in the reference's order."""
        digests, pairs = self._digests[rank][side], self._pairs[rank]
        if pairs is None:
            return digests
        row = np.zeros(len(self.log), np.uint64)
        for mine, other, _ in pairs:
            if mine is not None and other is not None:
                row[mine] = digests[other]
        return row

    @cached_property
    def agree(self) -> np.ndarray:
        """For each call of the reference whether all ranks returned the same."""
        same: np.ndarray = (self.made == self.made[0]).all(0)
        return same

    def classes(self, call: int) -> Classes:
        """Return the ranks by what they returned of a call."""
        return Classes(dict(zip(self.ranks, self.made[:, call].tolist(), strict=True)))

    @cached_property
    def comparisons(self) -> dict[int, Comparison]:
        """The reference beside a rank of each class that differs from it, the first few."""
        return {rank: self._comparison(rank) for rank in self._unlike()}

    @cached_property
    def partings(self) -> dict[int, ComparedCall]:
        """The calls in which ranks part though they got the same, each with its largest error."""
        seen: dict[int, ComparedCall] = {}
        for comparison in self.comparisons.values():
            row = self._first_parting(comparison)
            if row is not None and row.call is not None:
                before = seen.get(row.call)
                if before is None or (row.output_error or 0) > (before.output_error or 0):
                    seen[row.call] = row
        return dict(sorted(seen.items()))

    def findings(self) -> Iterator[Finding]:
        """Yield the calls in which ranks part."""
        for call, row in self.partings.items():
            yield finding_of(
                self.log,
                call,
                RULE,
                self.sentence(call),
                number=row.output_error,
                bound=row.tolerance,
                source=SOURCE,
                rank=self.classes(call).odd_rank,
            )

    def call_of(self, rank: int, call: int) -> int | None:
        """Return the call of a rank that is a call of the reference; None where it made none."""
        pairs = self._pairs[rank]
        if pairs is None:
            return call
        return next((pair.other for pair in pairs if pair.mine == call), None)

    def errors(self, call: int) -> tuple[float | None, float | None]:
        """Return how far apart ranks are in what a call got, and in what it returned, at most."""
        inputs, outputs = [0.0], [0.0]
        for rank, comparison in self.comparisons.items():
            if self._pairs[rank] is None:
                measured = comparison.measured[call]
                inputs.append(measured.inputs.error if measured.inputs else 0.0)
                outputs.append(measured.output.error if measured.output else 0.0)
        return max(inputs) or None, max(outputs) or None

    def _unlike(self) -> list[int]:
        """Return a rank of each class that differs from the reference, the first few."""
        known = {self.made[self.ranks.index(self.reference)].tobytes()}
        found = list[int]()
        for rank, row in zip(self.ranks, self.made, strict=True):
            if row.tobytes() not in known and len(found) < MOST_COMPARED:
                known.add(row.tobytes())
                found.append(rank)
        return found

    def _comparison(self, rank: int) -> Comparison:
        """Return the reference and another rank side by side; what is equal is not compared."""
        other = self.logs[rank]
        pairs = self._pairs[rank] or [MatchedCalls(i, i, "name") for i in range(len(self.log))]
        reference = self.ranks.index(self.reference), self.ranks.index(rank)
        same_outputs = self.made[reference[0]] == self.made[reference[1]]
        same_inputs = self._row(self.reference, 0) == self._row(rank, 0)
        measured = []
        for pair in pairs:
            a, b = pair.mine, pair.other
            if a is None or b is None:
                measured.append(Measured())
            elif same_outputs[a] and same_inputs[a]:
                measured.append(Measured(inputs=EQUAL, output=EQUAL))
            else:
                measured.append(_measured(self.log, other, pair, same_inputs[a], same_outputs[a]))
        return Comparison(mine=self.log, other=other, pairs=tuple(pairs), measured=tuple(measured))

    def _first_parting(self, comparison: Comparison) -> ComparedCall | None:
        """Return the first call that errs and is not to differ; None where none does."""
        judge = comparison.judge()
        for place in judge.errs:
            pair, measured = comparison.pairs[place], comparison.measured[place]
            if pair.mine is None or pair.mine in self.spread:
                continue
            if measured.other_shape and measured.inputs == UNKNOWN:
                continue  # it got another shape, too
            row = comparison.row(place, judge)
            return replace(row, verdict=OTHER_SHAPE if measured.other_shape else PARTS)
        return None

    @cached_property
    def spread(self) -> set[int]:
        """The calls that give each rank a part of its own: those with shards of parameters."""
        log, layers = self.log, set[tuple[str, str]]()
        for each in log.held:
            if each.kind == PARAMETER and not is_replicated(each):
                layers.add((each.network, each.name.rpartition(".")[0]))
        of_layer = {
            i
            for i, layer in enumerate(log.layers)
            if (log.networks[layer.network], layer.name) in layers
        }
        metadata = {i for i, each in enumerate(log.tensors.metadata) if not is_replicated(each)}
        index = log.tensors.metadata_index
        return {
            call
            for call in range(len(log))
            if log.layer[call] in of_layer
            or (metadata and any(index[tensor] in metadata for tensor in log.outputs[call]))
        }

    def may_differ(self, call: int) -> bool:
        """Tell whether what ranks returned of a call differs for it is a shard, or comes of one."""
        return call in self.spread or bool(self.spread and not self.partings)

    def sentence(self, call: int) -> str:
        """Return how ranks part in a call: ``ranks 0-5, 7 equal; 6 differs from fc on by 3e-2``."""
        log, row = self.log, self.partings[call]
        name = log.name_with_type(call)
        by = f" by {short(row.output_error)}" if row.output_error else ""
        text = self.classes(call).parting(f"from {name} on{by}")
        return f"{text}: {verdict_of(row).partition(': ')[2]}"


EQUAL, UNKNOWN = Difference(0.0, 0.0), Difference(inf, inf)


def _measured(
    mine: TraceLog, other: TraceLog, pair: MatchedCalls, same_inputs: bool, same_outputs: bool
) -> Measured:
    """Return how far a pair of calls lies apart, of which something differs."""
    found, (a, b, _) = kept_measured(mine, other, pair), pair
    assert a is not None
    assert b is not None
    inputs, output = found.inputs, found.output
    if same_inputs:
        inputs = EQUAL
    elif not inputs or not inputs.error:  # nothing is kept, or what differs is not
        gap = _statistics_gap(mine, mine.inputs[a], other, other.inputs[b])
        inputs = Difference(gap, gap) if gap else UNKNOWN
    if same_outputs:
        output = EQUAL
    elif not output or not output.error:
        gap = _statistics_gap(mine, mine.outputs[a], other, other.outputs[b])
        output = Difference(gap, gap) if gap else output
    return replace(found, inputs=inputs, output=output)


def _statistics_gap(
    mine: TraceLog, ours: Sequence[int], other: TraceLog, theirs: Sequence[int]
) -> float:
    """Return how far the statistics alone set tensors apart: the error is at least so large."""
    gap = 0.0
    for a, b in zip(ours, theirs, strict=False):
        one, two = mine.tensors.statistics_of(a), other.tensors.statistics_of(b)
        numel, norm = other.tensors.metadata_of(b).numel, other.tensors.norm_of(b)
        if one[5:] != two[5:]:
            return inf
        if norm:
            shift = abs(one.mean - two.mean) * numel**0.5 / norm
            norms = abs(mine.tensors.norm_of(a) - norm) / norm
            largest = max(abs(one.max - two.max), abs(one.min - two.min)) / norm
            gap = max(gap, *(each for each in (shift, norms, largest) if each == each), 0.0)
    return gap
