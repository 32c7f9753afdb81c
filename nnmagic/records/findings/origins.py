"""Which calls of a run made NaN or Inf, and which only passed it on."""

import numpy as np

from nnmagic.records.call_log import FINISHED, TraceLog
from nnmagic.records.findings.nonfinite import is_softmax, is_wrong_input


class Origins:
    """Which calls of a run made NaN or Inf, and which got it.

    An Inf that a later call swallows, so that no output of the network holds it or a NaN of it, is
    no alarm: the -Inf of an attention's mask is such a one. Where a softmax gives NaN of a row that
    a mask filled with -Inf, the softmax made it.

    Args:
        log: the columns of the run.

    Attributes:
        producers: the calls that made some, in the order in which they returned.
        heirs: the calls that returned some since they got some.
        received: the first root call that got some which no call had made, or None.
        bad: the tensors that hold some.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self.producers: list[int] = []
        self.heirs: set[int] = set()
        self.received: int | None = None
        self._nan, self.bad = _nonfinite_tensors(log)
        if not self.bad:
            return
        self._root = log.root_of_each()
        self._calls = [*log.returned(range(len(log)))]
        self._consumers, self._made = self._flow()
        self._ends = self._bad_ends()
        self._tainted: set[int] = set()
        self._above: set[int] = set()
        for call in self._calls:
            self._judge(call)
        self.received = self._first_to_receive()

    @property
    def first(self) -> int | None:
        """The first call to return NaN or Inf that it did not get."""
        return self.producers[0] if self.producers else None

    def _flow(self) -> tuple[dict[int, list[int]], set[int]]:
        """Return the innermost calls that got each bad tensor, and all such that calls made."""
        log, consumers, made = self.log, dict[int, list[int]](), set[int]()
        for call in self._calls:
            for tensor in self.bad.intersection(log.inputs[call]):
                users = consumers.setdefault(tensor, [])
                if not any(log.parent[user] == call for user in users):
                    users.append(call)
            made |= self.bad.intersection(log.outputs[call]).difference(log.inputs[call])
        return consumers, made

    def _bad_ends(self) -> dict[int, set[int]]:
        """Return, by root call, the bad tensors that come out of it.

        Of one that did not return they are those that its unfinished calls got; of a function that
        no network follows, which may have got it, those that no other call gets.
        """
        log, ends = self.log, dict[int, set[int]]()
        last = max((root for root in self._root if not log.is_function(root)), default=-1)
        for call in self._calls:
            found = ends.setdefault(self._root[call], set())
            if log.ended[call] != FINISHED:
                found |= self.bad.intersection(log.inputs[call])
            elif log.parent[call] < 0 and (not log.is_function(call) or call > last):
                bad = self.bad.intersection(log.outputs[call])
                found |= bad - self._consumers.keys() if log.is_function(call) else bad
        return ends

    def _judge(self, call: int) -> None:
        """Tell what a call did, once all those that returned before are known."""
        log = self.log
        outputs = self.bad.intersection(log.outputs[call])
        if call in self._above:
            self._above.add(log.parent[call])
        elif not outputs:
            return
        else:
            is_heir = any(self._is_wrong(call, tensor) for tensor in log.inputs[call])
            makes_nan = outputs & self._nan and not self._nan.intersection(log.inputs[call])
            if is_heir and not (makes_nan and not self.producers):
                self.heirs.add(call)
            elif makes_nan or self._comes_out(call, outputs):
                self.producers.append(call)
                self._above.add(log.parent[call])
            else:
                return
        self._tainted |= outputs

    def _is_wrong(self, call: int, tensor: int) -> bool:
        """Tell whether an input of a call is NaN or Inf since something is wrong."""
        if tensor not in self.bad or tensor in self._tainted or tensor in self._made:
            return tensor in self._tainted
        matters = tensor in self._nan or bool(self._ends[self._root[call]])
        return matters and is_wrong_input(self.log, call, tensor)

    def _comes_out(self, call: int, tensors: set[int]) -> bool:
        """Tell whether an Inf that a call made, or what others made of it, leaves its network."""
        log, root = self.log, self._root[call]
        if not self._ends[root] and not log.is_function(root):
            return False
        ends = set[int]().union(*self._ends.values())
        pending, seen = [*tensors], set(tensors)
        while pending:
            tensor = pending.pop()
            if tensor in ends:
                return True
            users = self._consumers.get(tensor)
            if users is None and not log.functions:
                return True  # where it goes cannot be seen
            for user in users or ():
                if is_softmax(log, user) and not is_wrong_input(log, user, tensor):
                    continue
                new = self.bad.intersection(log.outputs[user]) - seen
                seen |= new
                pending += new
        return False

    def _first_to_receive(self) -> int | None:
        log = self.log
        for call in range(len(log) if self.first is None else self.first):
            if log.depth[call] == 0 and not log.is_function(call):
                for tensor in log.inputs[call]:
                    matters = tensor in self._nan or self._ends[call]
                    if matters and is_wrong_input(log, call, tensor):
                        return call
        return None


def _nonfinite_tensors(log: TraceLog) -> tuple[set[int], set[int]]:
    """Return the tensors that hold NaN, and those that hold NaN or Inf."""
    nan, inf = (
        set(np.flatnonzero(np.array(log.tensors.column(name)) > 0).tolist())
        for name in ("nan", "inf")
    )
    return nan, nan | inf
