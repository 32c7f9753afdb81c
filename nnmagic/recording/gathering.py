"""The traces of all ranks of a `torch.distributed` job, sent to one of them after the run.

They go through the store that the job met at, piece by piece, not through a collective: that would
wait for a rank that is gone, and stand in the way of what the training still does.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic
from typing import Any

from torch import distributed

from nnmagic.records.loading.file import load_ranks
from nnmagic.records.ranks.joint_trace import JointTrace
from nnmagic.records.ranks.rank_sets import ranks_named
from nnmagic.records.trace import Trace
from nnmagic.torch_private import FORWARD_CODE, default_store

PIECE = 1 << 20
"""So many bytes are sent at a time: a store takes 8 MiB at most."""

GRACE = 1.0
"""So many seconds longer than the one that gets them the others wait: it says what went wrong."""

EARLY = 0.01
"""So many seconds before its time a wait may end: stores count whole milliseconds."""


def gather(trace: Trace, group: Any, dst: int, timeout: float) -> JointTrace | None:
    """Return the traces of all ranks of a group as one on the rank `dst`, None on the others.

    Args:
        trace: that of this rank.
        group: the process group; None is that of all ranks.
        dst: the rank in the job that gets them.
        timeout: seconds after which it ends.

    Raises:
        RuntimeError: outside a job, within a forward, or if another rank fails.
        TimeoutError: if a rank does not answer in time.
        ValueError: if `dst` is not in the group, or the timeout is not positive.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            "gather needs a process group: call torch.distributed.init_process_group, or "
            'nnmagic.load(["rank0.safetensors", ...])'
        )
    if _is_in_forward():
        raise RuntimeError("gather cannot run within a forward: call it after the run")
    if timeout <= 0:
        raise ValueError(f"timeout must be above 0 seconds, it is {timeout}")
    ranks = distributed.get_process_group_ranks(group)
    me = distributed.get_rank()
    if dst not in ranks or me not in ranks:
        raise ValueError(f"rank {dst if me in ranks else me} is not in the group: {ranks}")
    if trace.rank is None:
        size = distributed.get_world_size()
        trace = replace(trace, log=replace(trace.log, rank=me, world_size=size))
    with TemporaryDirectory() as folder:
        post = _Post(ranks, me, dst, timeout)
        do = post.collect if me == dst else post.send
        return _within(timeout, lambda: do(trace, folder))


def _is_in_forward() -> bool:
    """Tell whether this thread is in the call of a module."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is FORWARD_CODE:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _within(timeout: float, do: Callable[[], Any]) -> Any:
    """Return what a function returns, or end after so many seconds whatever it waits for.

    Raises:
        TimeoutError: if it has not returned by then.
        RuntimeError: if it fails in another way.
    """
    answers: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(do())
        except TimeoutError as error:
            errors.append(error)
        except Exception as error:  # noqa: BLE001 - what a store raises is torch's own
            reason = str(error).partition("\n")[0] or type(error).__name__
            errors.append(RuntimeError(f"gather: {reason}"))

    thread = Thread(target=run, daemon=True, name="nnmagic gather")
    thread.start()
    thread.join(timeout + 2 * GRACE)  # a store that does not answer keeps its own time
    if errors:
        raise errors[0].with_traceback(None) from None
    if not answers:
        raise TimeoutError(f"gather: the store did not answer within {timeout:g} s")
    return answers[0]


class _Post:
    """What one rank sends, or gets, in one gather.

    What a rank sends is numbered by how much the one that gets has dealt with of it, which alone
    counts: a gather that a rank skipped, or left when its time was up, puts no later one out of
    step.

    Args:
        ranks: the ranks of the group.
        me: this one.
        dst: the one that gets.
        timeout: seconds from now.
    """

    def __init__(self, ranks: list[int], me: int, dst: int, timeout: float) -> None:
        self.me, self.dst, self.timeout = me, dst, timeout
        self.others = [rank for rank in ranks if rank != me]
        self._end = monotonic() + timeout + (0 if me == dst else GRACE)
        self._store = default_store()
        self._name = f"nnmagic/gather/{dst}/{'-'.join(map(str, ranks))}"

    def send(self, trace: Trace, folder: str) -> None:
        """Send a trace, and wait until it was fetched."""
        mine = self._next(self.me)
        path = os.path.join(folder, "trace")
        trace.save(path)
        count = 0
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                self._store.set(f"{mine}/{count}", piece)
                count += 1
        self._store.set(mine, str(count))
        try:
            self._wait([f"{mine}/answer"], [self.dst])
        except TimeoutError:
            with suppress(Exception):
                self._store.delete_key(mine)  # a later gather is not to get it
            raise
        number, _, failed = self._store.get(f"{mine}/answer").decode().partition(" ")
        self._leave(number, [] if failed else self.others)
        if failed:
            raise TimeoutError(failed)

    def collect(self, trace: Trace, folder: str) -> JointTrace:
        """Return the traces of all ranks, fetched from the store."""
        number = str(self._store.add(f"{self._name}/gathers", 1))
        sent = {rank: self._next(rank) for rank in self.others}
        try:
            self._wait([*sent.values()], self.others)
        except TimeoutError as error:
            told = {rank: key for rank, key in sent.items() if self._store.check([key])}
            self._answer(told, f"{number} {error}")
            self._end = monotonic() + GRACE  # its own time is over, not that of those it told
            self._leave(number, [*told])
            raise
        paths = [self._fetch(key, os.path.join(folder, f"rank{r}")) for r, key in sent.items()]
        self._answer(sent, number)
        self._leave(number, self.others)
        return load_ranks([trace, *paths])

    def _next(self, rank: int) -> str:
        """Return the key of what a rank sends next."""
        return f"{self._name}/{rank}/{self._store.add(self._count_of(rank), 0)}"

    def _count_of(self, rank: int) -> str:
        """Return the key of how much of what a rank sent was dealt with."""
        return f"{self._name}/{rank}/count"

    def _answer(self, sent: dict[int, str], text: str) -> None:
        """Tell ranks what became of what they sent: the number of the gather, and what failed."""
        for rank, key in sent.items():
            self._store.add(self._count_of(rank), 1)
            self._store.set(f"{key}/answer", text)

    def _fetch(self, key: str, path: str) -> str:
        """Write what a rank sent to a file; return its path."""
        with open(path, "wb") as file:
            for piece in range(int(self._store.get(key))):
                file.write(self._store.get(f"{key}/{piece}"))
                self._store.delete_key(f"{key}/{piece}")
        return path

    def _wait(self, keys: list[str], ranks: list[int]) -> None:
        """Wait for keys, each of which a rank sets.

        Raises:
            TimeoutError: naming the ranks that have not.
        """
        left = self._end - monotonic()
        try:
            self._store.wait(keys, timedelta(seconds=max(left, 0.001)))
        except RuntimeError:  # what torch's stores raise, also when their time is up
            if monotonic() < self._end - EARLY:
                raise
            pairs = zip(keys, ranks, strict=True)
            late = [rank for key, rank in pairs if not self._store.check([key])]
            who = ranks_named(late or ranks)
            raise TimeoutError(f"gather: {who} did not answer within {self.timeout:g} s") from None

    def _leave(self, number: str, others: list[int]) -> None:
        """Wait until others have their answer too: the store may go with this process."""
        left = f"{self._name}/left/{number}"
        with suppress(Exception):
            self._store.set(f"{left}/{self.me}", b"")
            self._wait([f"{left}/{rank}" for rank in others], others)
