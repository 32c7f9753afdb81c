"""How tensors travel through a run: which call made what another one got."""

from collections.abc import Iterable

from nnmagic.records.call_log import TraceLog

Sources = tuple[int | None, ...]
"""For each input of a call the call that made it; None where no recorded call did."""


class Flow:
    """Which calls made the tensors that other calls got, by the identity of the tensors.

    The maker of a tensor is the innermost call that returned it and had not got it: a container
    returns what its last layer made, and a layer that returns the very tensor that it got made
    nothing. A tensor that was written to in place is another one from then on.

    Args:
        log: the columns of the run.
        calls: the calls to look at, with all that they stand in; each is at most once there.

    Attributes:
        sources: the sources of each call, in the order in which the calls were nested.
        taken: for each call the makers of what it got and handed to no call inside it, by tensor.
        unchanged: for each call that returned tensors that it got, their makers.
    """

    def __init__(self, log: TraceLog, calls: Iterable[int]) -> None:
        self.log = log
        self.sources: dict[int, Sources] = {}
        self.taken: dict[int, dict[int, int]] = {}
        self.unchanged: dict[int, set[int]] = {}
        self._makers: dict[int, int] = {}
        self._first_entry = log.tensors.first_entry
        running: list[tuple[int, list[int]]] = []
        for call in log.nested(calls):
            while running and running[-1][0] != log.parent[call]:
                self._end(*running.pop())
            got = [self._first_entry(tensor) for tensor in log.inputs[call]]
            self._begin(call, got, running)
            running.append((call, got))
        while running:
            self._end(*running.pop())

    def _begin(self, call: int, got: list[int], running: list[tuple[int, list[int]]]) -> None:
        makers = self._makers
        self.sources[call] = tuple(map(makers.get, got))
        self.taken[call] = {each: makers[each] for each in got if each in makers}
        for above, _ in running:
            for tensor in got:
                self.taken[above].pop(tensor, None)

    def _end(self, call: int, got: list[int]) -> None:
        for tensor in map(self._first_entry, self.log.outputs[call]):
            if tensor not in got:
                self._makers.setdefault(tensor, call)
            elif tensor in self._makers:
                self.unchanged.setdefault(call, set()).add(self._makers[tensor])


def is_complete(log: TraceLog, calls: Iterable[int]) -> bool:
    """Tell whether all that calls got was made by these calls, or came in with a root call."""
    known, got = set[int](), set[int]()
    for call in calls:
        inputs = {*map(log.tensors.first_entry, log.inputs[call])}
        known.update(
            each for each in map(log.tensors.first_entry, log.outputs[call]) if each not in inputs
        )
        (known if log.parent[call] < 0 else got).update(inputs)
    return got <= known


def sources_of(log: TraceLog, call: int) -> Sources:
    """Return the sources of one call."""
    # its root call may have got what an earlier one returned
    first = 0 if log.tensors.same_as or log.functions else log.root_of(call)
    return Flow(log, range(first, call + 1)).sources[call]
