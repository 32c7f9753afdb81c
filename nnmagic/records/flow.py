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
        unchanged: for each call that returned tensors that it got, their makers.
        is_complete: whether all that calls got inside others was made by recorded calls, or came
            in with their root call.
    """

    def __init__(self, log: TraceLog, calls: Iterable[int]) -> None:
        self.log = log
        self.sources: dict[int, Sources] = {}
        self.unchanged: dict[int, set[int]] = {}
        self.is_complete = True
        self._makers: dict[int, int] = {}
        self._taken: dict[int, dict[int, int]] = {}
        self._first_entry = log.tensors.first_entry
        running: list[int] = []
        came_in: set[int] = set()
        for call in log.nested(calls):
            while running and running[-1] != log.parent[call]:
                self._end(running.pop())
            got = [*map(self._first_entry, log.inputs[call])]
            if not running:
                came_in = {*got}
            self._begin(call, got, running)
            self.is_complete &= all(each in self._makers or each in came_in for each in got)
            running.append(call)
        while running:
            self._end(running.pop())

    @property
    def taken(self) -> dict[int, set[int]]:
        """For each call the makers of what it got and handed to no call inside it."""
        return {call: {*makers.values()} for call, makers in self._taken.items()}

    def _begin(self, call: int, got: list[int], running: list[int]) -> None:
        self.sources[call] = tuple(map(self._makers.get, got))
        self._taken[call] = {each: self._makers[each] for each in got if each in self._makers}
        for above in running:
            for tensor in got:
                self._taken[above].pop(tensor, None)

    def _end(self, call: int) -> None:
        got = {*map(self._first_entry, self.log.inputs[call])}
        for tensor in map(self._first_entry, self.log.outputs[call]):
            if tensor not in got:
                self._makers.setdefault(tensor, call)
            elif tensor in self._makers:
                self.unchanged.setdefault(call, set()).add(self._makers[tensor])


def sources_of(log: TraceLog, call: int) -> Sources:
    """Return the sources of one call."""
    first = call
    while log.parent[first] >= 0:
        first = log.parent[first]
    if log.tensors.same_as or log.functions:
        first = 0  # its root call may have got what an earlier one returned
    return Flow(log, range(first, call + 1)).sources[call]
