"""The record of a run of several ranks: the trace of each, and what they agree on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from nnmagic.display import units
from nnmagic.display.table import Table
from nnmagic.records.call_log import TraceLog
from nnmagic.records.curves.history import History
from nnmagic.records.live_fields import LIVE
from nnmagic.records.ranks.agreement import Agreement
from nnmagic.records.ranks.rank_sets import ranks_text
from nnmagic.records.ranks.table import JointTable
from nnmagic.records.trace import LayerCall, Trace

UNKNOWN: Any = None
"""In place of what is worked out of the traces of the ranks."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JointTrace(Trace):
    """The runs of several ranks as one trace, whose calls are those of all ranks.

    What is of one run, such as `trace[layer]`, is of the rank that the table shows: one of the
    largest class that agrees.

    Attributes:
        ranks: the trace of each rank, in their order.
        lines: what is to be said of ranks that are not there.
        agreement: what the ranks agree on; worked out of the traces.
        log: the columns of the rank that is shown, with the findings of all.
    """

    ranks: tuple[Trace, ...]
    lines: tuple[str, ...] = ()
    agreement: Agreement = field(default=UNKNOWN, compare=False, repr=False, metadata=LIVE)
    log: TraceLog = field(default=UNKNOWN, compare=False, repr=False, metadata=LIVE)

    def __post_init__(self) -> None:
        if self.agreement is not None:
            return
        logs = {_rank(each): each.log for each in self.ranks}
        agreement = Agreement(logs)
        shown = logs[agreement.groups[0].reference]
        others = [each for log in logs.values() if log is not shown for each in log.findings]
        own = [each for each in others if each not in shown.findings]
        findings = [*agreement.findings, *shown.findings, *dict.fromkeys(own)]
        object.__setattr__(self, "agreement", agreement)
        object.__setattr__(self, "log", replace(shown, findings=findings))

    def brief(self) -> str:
        """Return a few words that name the record."""
        calls = units.plural(len(self), "call")
        ranks = units.plural(len(self.ranks), "rank")
        return f"<Trace of {self.log.title}: {ranks}, {calls}>"

    def __len__(self) -> int:
        """Return the number of calls of all ranks."""
        return sum(map(len, self.ranks))

    def __iter__(self) -> Iterator[LayerCall]:
        """Yield the calls of each rank in the order in which they began, rank after rank."""
        return chain.from_iterable(self.ranks)

    def calls(self, name: str) -> tuple[LayerCall, ...]:
        """Return all calls of a layer on all ranks, named as for `trace[name]`."""
        found, missing = list[LayerCall](), KeyError(name)
        for each in self.ranks:
            try:
                found += each.calls(name)
            except KeyError as error:
                missing = error
        if not found:
            raise missing
        return tuple(found)

    def of_rank(self, rank: int) -> Trace:
        """Return the trace of a rank.

        Raises:
            KeyError: if it is not there.
        """
        for each in self.ranks:
            if each.rank == rank:
                return each
        raise KeyError(f"no rank {rank}; there are {ranks_text(map(_rank, self.ranks))}")

    @property
    def rank(self) -> None:
        """No rank of one: see `ranks`."""
        return None

    @property
    def failed(self) -> LayerCall | None:
        """The innermost call of the first rank that raised what nobody caught, or None."""
        return next((each.failed for each in self.ranks if each.failed is not None), None)

    @property
    def first_nonfinite(self) -> LayerCall | None:
        """The first call of the first rank that made NaN or Inf, or None."""
        found = (each.first_nonfinite for each in self.ranks)
        return next((each for each in found if each is not None), None)

    def history(self, *, series: bool = False) -> Any:
        """Return the tidy DataFrame of `Trace.history` of all ranks, with a first column `rank`."""
        import pandas as pd

        frames = []
        for each in self.ranks:
            frame = History(each.log).frame(series=series)
            frame.insert(0, "rank", each.rank)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def table(self) -> Table:
        """Return the table of the shown iteration, its rows folded by agreement."""
        return JointTable(
            self.log, self.view, self.agreement, self.lines, scores=self.default
        ).table()


def _rank(trace: Trace) -> int:
    assert trace.rank is not None
    return trace.rank


def joined(traces: Sequence[Trace], lines: Sequence[str] = ()) -> JointTrace:
    """Return the runs of several ranks as one trace.

    A trace that knows no rank, or one that an earlier trace has, gets its position.

    Args:
        traces: the runs, at least one.
        lines: what is to be said of ranks that are not there.
    """
    said, by_rank = list(lines), dict[int, Trace]()
    for position, trace in enumerate(traces):
        rank = trace.rank
        if rank is None or rank in by_rank:
            free = (n for n in range(position, position + len(traces) + 1) if n not in by_rank)
            position = next(free)
            if rank is not None:
                said.append(f"two traces are of rank {rank}: the second is shown as {position}")
            size = max(len(traces), position + 1, trace.world_size or 0)
            trace = replace(trace, log=replace(trace.log, rank=position, world_size=size))
        by_rank[_rank(trace)] = trace
    ranks = tuple(by_rank[rank] for rank in sorted(by_rank))
    missing = {*range(max(each.world_size or 0 for each in ranks))} - by_rank.keys()
    if missing:
        said.append(f"of {max(each.world_size or 0 for each in ranks)} ranks {_lack(missing)}")
    return JointTrace(ranks=ranks, lines=tuple(said), view=ranks[0].view)


def _lack(missing: set[int]) -> str:
    return f"{ranks_text(missing)} {'is' if len(missing) == 1 else 'are'} missing"
