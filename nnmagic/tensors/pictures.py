"""What a trace is drawn by: of the last iteration alone, within a budget for all of it."""

from collections.abc import Callable, Mapping

from nnmagic.records.kept_slices import PICTURE_VALUES
from nnmagic.records.tensor_log import TensorLog
from nnmagic.tensors.devices import PendingReads

BUDGET = 32 << 20
"""How many bytes all that is drawn of a trace's last iteration takes at most."""

SCREEN_VALUES = 1 << 20
"""How many values a network's own input or output is drawn by: as large as a screen can use."""

SMALL_VALUES = 4096
"""How many values a picture has where the room runs out."""

LEVELS = ((PICTURE_VALUES, BUDGET // 2), (SMALL_VALUES, BUDGET // 4))
"""How large pictures are, and how much room each of these sizes leaves to what comes later."""


class Room:
    """What all that is drawn of a trace shares.

    Attributes:
        left: how many bytes of the budget are left, also of those that are lent.
        lent: how many bytes of these are lent to what gives way.
        kept: what takes some of it.
    """

    def __init__(self) -> None:
        self.left = BUDGET
        self.lent = 0
        self.kept: list[LastIteration] = []

    def drop(self, series: int) -> None:
        """Let go of what an iteration is drawn by, now that the next one of its series begins."""
        for each in self.kept:
            each.drop(series)

    def take(self, size_bytes: int) -> None:
        """Take so many bytes; what they were lent to gives way."""
        self.left -= size_bytes
        for each in self.kept if self.lent > self.left else ():
            each.give_way()


class LastIteration:
    """What is kept of the last iteration of each series, and dropped when the next one begins.

    Args:
        room: what it takes bytes of.
        pending: what waits on accelerators to be read.
        let_go: lets go of what has this number.
    """

    def __init__(self, room: Room, pending: PendingReads, let_go: Callable[[int], None]) -> None:
        self.room = room
        room.kept.append(self)
        self._pending = pending
        self._let_go = let_go
        self._bytes: dict[int, int] = {}
        self._of_series: dict[int, list[int]] = {}
        self._waiting: dict[int, int] = {}

    def note(self, number: int, series: int, size_bytes: int) -> None:
        """Note what is kept until the next iteration of a series begins.

        Args:
            number: its number.
            series: what the iteration that it is of is counted of.
            size_bytes: how many bytes it takes.
        """
        self._forget(number)
        self._take(size_bytes)
        self._bytes[number] = size_bytes
        self._of_series.setdefault(series, []).append(number)

    def waits(self, number: int, pending: int) -> None:
        """Note what it waits for on an accelerator."""
        self._waiting[number] = pending

    def drop(self, series: int) -> None:
        """Let go of what was kept of an iteration."""
        for number in self._of_series.pop(series, ()):
            if self._forget(number):
                self._let_go(number)

    def give_way(self) -> None:
        """Let go of what only borrows its room, until there is enough for all that takes some."""

    def _take(self, size_bytes: int) -> None:
        self.room.take(size_bytes)

    def renumber(self, numbers: Mapping[int, int]) -> None:
        """Go on with the new numbers; nothing waits to be read."""
        self._waiting.clear()
        self._bytes = {numbers[old]: size for old, size in self._bytes.items() if old in numbers}
        self._of_series = {
            series: [numbers[old] for old in kept if old in numbers]
            for series, kept in self._of_series.items()
        }

    def _forget(self, number: int) -> bool:
        """Give its room back; return whether it was kept."""
        size_bytes = self._bytes.pop(number, None)
        if size_bytes is None:
            return False
        self._take(-size_bytes)
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._pending.forget(waiting)
        return True

    def __contains__(self, number: int) -> bool:
        return number in self._bytes


class Borrowed(LastIteration):
    """The same in room that nothing else has taken yet: it gives way to what comes later."""

    def fits(self, size_bytes: int) -> bool:
        """Tell whether there is room for so many bytes."""
        return self.room.lent + size_bytes <= self.room.left

    def give_way(self) -> None:
        """Let go of the newest, until there is enough room for all that takes some."""
        while self.room.lent > self.room.left and self._bytes:
            number = next(reversed(self._bytes))
            self._forget(number)
            self._let_go(number)

    def _take(self, size_bytes: int) -> None:
        self.room.lent += size_bytes


class Pictures(LastIteration):
    """The values to draw tensors by.

    Args:
        log: the columns that hold them.
        pending: what waits on accelerators to be read.
    """

    def __init__(self, log: TensorLog, pending: PendingReads) -> None:
        super().__init__(Room(), pending, log.drop_picture)

    def values_for(self, numel: int, width: int, *, screen: bool) -> int:
        """Return how many values a tensor may be drawn by now.

        Args:
            numel: how many it has.
            width: how many bytes one takes.
            screen: whether it may fill a screen.
        """
        room = self.room.left
        if screen and min(numel, SCREEN_VALUES) * width <= room:
            return SCREEN_VALUES
        for values, left in LEVELS:
            if min(numel, values) * width + left <= room:
                return values
        return 0
