"""Ranks that ran the same network: what they agree on, call by call, and what parts."""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from math import prod

import numpy as np

from nnmagic.display.table import with_ancestors
from nnmagic.records.call_log import TraceLog
from nnmagic.records.finding import Finding
from nnmagic.records.findings.of_calls import finding_of
from nnmagic.records.ranks.activations import SameData
from nnmagic.records.ranks.digests import CallDigests
from nnmagic.records.ranks.layouts import Part, misfit, shard_place, shards
from nnmagic.records.ranks.rank_sets import MOST_CLASSES, Classes, ranks_text
from nnmagic.records.ranks.same_runs import Logs, findings_of_order, orders
from nnmagic.records.ranks.state import MISFIT, StateRules
from nnmagic.records.tally import merged
from nnmagic.records.tensor import Statistics

BY_STATISTICS = (
    "no digests were noted: what has the same statistics and the same kept values is said to be "
    "equal"
)

MOST_LAYOUTS = 5
"""So many calls whose shards do not fit together are told."""


class Replicas:
    """Ranks that ran the same network: its replicas, or those that share one.

    Args:
        logs: their runs.

    Attributes:
        logs: the same.
        reference: the rank that its rows show: of the largest class that agrees.
        of_same_data: the ranks that got the same data, those of the reference first.
        own_data: whether no two ranks got the same data.
        findings: what parts.
        notes: lines on what differs and may.
    """

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.notes: list[str] = []
        self._order = orders(logs)
        order = Classes(self._order)
        usual = order.classes[0][0]
        noted = all(len(log.tensors.digests) for log in logs.values() if len(log.tensors))
        digests = CallDigests(noted=noted)
        of_calls = {rank: digests.of(log) for rank, log in logs.items()}
        data = Classes({rank: _data(log, of_calls[rank][0]) for rank, log in logs.items()})
        self.own_data = len(data.classes[0]) == 1 < len(logs)
        self.of_same_data = [
            SameData(
                {rank: logs[rank] for rank in ranks},
                of_calls,
                self._order,
                next((rank for rank in order.classes[0] if rank in ranks), ranks[0]),
            )
            for ranks in data.classes
        ]
        self.reference = self.of_same_data[0].reference
        if self.own_data:
            self.reference = usual
            self.of_same_data.sort(key=lambda group: group.reference != usual)
        if not noted and len(logs) > 1:
            self.notes.append(BY_STATISTICS)
        self.findings = [*findings_of_order(logs, order)]
        if len(logs) > 1:
            state = StateRules(logs, own_data=self.own_data)
            self.findings += state.found
            self.notes += state.notes
        self.findings += self._of_layouts(order)
        self.findings += chain.from_iterable(group.findings() for group in self.of_same_data)

    @property
    def log(self) -> TraceLog:
        """The run that its rows show."""
        return self.logs[self.reference]

    def _of_layouts(self, order: Classes) -> list[Finding]:
        """Return the calls whose outputs do not lie on the ranks as their placements say."""
        ranks = order.classes[0]
        log, found = self.logs[ranks[0]], list[Finding]()
        spread = {i for i, each in enumerate(log.tensors.metadata) if each.placements is not None}
        index = log.tensors.metadata_index
        for call in range(len(log) if spread else 0):
            for place, tensor in enumerate(log.outputs[call]):
                if index[tensor] not in spread or len(found) == MOST_LAYOUTS:
                    continue
                parts = self._parts(ranks, call, place)
                text, rank = misfit(parts) if len(parts) == len(ranks) else ("", None)
                if text:
                    text = f"the output of {log.name_of(call)}: {text}"
                    found.append(finding_of(log, call, MISFIT, text, rank=rank))
        return found

    def _parts(self, ranks: Sequence[int], call: int, place: int) -> dict[int, Part]:
        """Return what each rank holds of an output of a call, where it returned as many."""
        found: dict[int, Part] = {}
        for rank in ranks:
            log = self.logs[rank]
            if place < len(log.outputs[call]):
                found[rank] = log.tensors.metadata_of(log.outputs[call][place])
        return found

    def words(self, call: int) -> str:
        """Return which ranks returned the same of a call of the reference, in words."""
        if self.own_data:
            return "own data"
        if len(self._alike) > MOST_CLASSES:
            return f"{len(self._alike)} groups of data"
        return " | ".join(_words(group, call) for group in self._alike)

    def parted(self, call: int) -> Classes | None:
        """Return the ranks by what they returned of a call; None where they agree or may differ."""
        if self.own_data:
            return None
        groups = self._alike if self.partings else []
        parted = (each for each in groups if not (each.agree[call] or each.may_differ(call)))
        return next((group.classes(call) for group in parted), None)

    @cached_property
    def partings(self) -> dict[int, str]:
        """The calls in which ranks that got the same part, and how, in a sentence."""
        groups = self._alike
        return {call: group.sentence(call) for group in groups for call in group.partings}

    def around_partings(self) -> set[int]:
        """Return the calls in which ranks part, and those that these were made in."""
        return with_ancestors(self.log.parents_of(range(len(self.log))), self.partings)

    def call_of(self, rank: int, call: int) -> int | None:
        """Return the call of a rank that is a call of the reference; None where it made none."""
        group = next(group for group in self.of_same_data if rank in group.logs)
        return group.call_of(rank, call)

    def errors(self, call: int) -> tuple[float | None, float | None]:
        """Return how far apart ranks are in what a call got, and in what it returned, at most."""
        if self.parted(call) is None:
            return None, None
        found = [group.errors(call) for group in self._alike]
        got, made = (max((each[side] or 0.0 for each in found), default=0.0) for side in (0, 1))
        return got or None, made or None

    def statistics(self, call: int) -> Statistics | None:
        """Return the statistics of all shards of what a call returned; None for another tensor."""
        tensor = self.log.main_output(call)
        if tensor is None or not shards(self.log.tensors.metadata_of(tensor)):
            return None
        ranks = [rank for rank in self.logs if self._order[rank] == self._order[self.reference]]
        parts, seen = [], set[tuple[int, ...]]()
        for rank in ranks:
            log = self.logs[rank]
            held = log.main_output(call)
            if held is None or held in log.tensors.measured:
                return None
            metadata = log.tensors.metadata_of(held)
            place = shard_place(metadata)
            if place not in seen:
                seen.add(place)
                parts.append((log.tensors.statistics_of(held), metadata.numel))
        whole = self.log.tensors.metadata_of(tensor).global_shape
        is_whole = whole is not None and sum(numel for _, numel in parts) == prod(whole)
        return merged(parts) if is_whole else None

    @cached_property
    def _alike(self) -> list[SameData]:
        """The groups whose calls are those of the reference."""
        mine = self._order[self.reference]
        return [group for group in self.of_same_data if self._order[group.reference] == mine]


def _words(group: SameData, call: int) -> str:
    if group.agree[call]:
        return ranks_text(group.ranks)
    return (
        f"{ranks_text(group.ranks)} shards" if group.may_differ(call) else str(group.classes(call))
    )


def _data(log: TraceLog, got: np.ndarray) -> bytes:
    """Return what is equal for runs whose root calls got the same."""
    roots = np.array(log.roots, np.int64)
    return b"" if not len(roots) else got[roots].tobytes()
