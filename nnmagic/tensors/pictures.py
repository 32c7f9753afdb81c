"""The values to draw tensors by: of the last iteration, within a budget for a whole trace."""

from nnmagic.records.kept_slices import PICTURE_VALUES
from nnmagic.records.tensor_log import TensorLog
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors.devices import PendingReads

BUDGET = 32 << 20
"""How many bytes all that is drawn of a trace's last iteration takes at most."""

SCREEN_VALUES = 1 << 20
"""How many values a network's own input or output is drawn by: as large as a screen can use."""

SMALL_VALUES = 4096
"""How many values a picture has where the room runs out."""

LEVELS = ((PICTURE_VALUES, BUDGET // 2), (SMALL_VALUES, BUDGET // 4))
"""How large pictures are, and how much room each of these sizes leaves to what comes later."""


class Pictures:
    """Keeps the pictures of a trace within its budget, and drops those of earlier iterations.

    Args:
        log: the columns that hold them.
        pending: what waits on accelerators to be read.

    Attributes:
        room: how many bytes are left.
    """

    def __init__(self, log: TensorLog, pending: PendingReads) -> None:
        self.log = log
        self.pending = pending
        self.room = BUDGET
        self._bytes: dict[int, int] = {}
        self._of_series: dict[int, list[int]] = {}
        self._waiting: dict[int, int] = {}

    def values_for(self, numel: int, width: int, *, screen: bool) -> int:
        """Return how many values a tensor may be drawn by now.

        Args:
            numel: how many it has.
            width: how many bytes one takes.
            screen: whether it may fill a screen.
        """
        if screen and min(numel, SCREEN_VALUES) * width <= self.room:
            return SCREEN_VALUES
        for values, left in LEVELS:
            if min(numel, values) * width + left <= self.room:
                return values
        return 0

    def note(self, tensor: int, series: int, size_bytes: int) -> None:
        """Note that a tensor is drawn, until the next iteration of a series begins.

        Args:
            tensor: its number.
            series: what the iteration that it is of is counted of.
            size_bytes: how many bytes its picture takes.
        """
        self._forget(tensor)
        self.room -= size_bytes
        self._bytes[tensor] = size_bytes
        self._of_series.setdefault(series, []).append(tensor)

    def take(self, size_bytes: int) -> bool:
        """Take room for what is drawn besides tensors; return whether there is enough.

        The last quarter of the room is left to tensors.
        """
        if size_bytes + BUDGET // 4 > self.room:
            return False
        self.room -= size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Give back room that was taken."""
        self.room += size_bytes

    def waits(self, tensor: int, pending: int) -> None:
        """Note what a tensor's picture waits for on an accelerator."""
        self._waiting[tensor] = pending

    def drop(self, series: int) -> None:
        """Let go of the pictures of an iteration: only the last one is drawn in full."""
        for tensor in self._of_series.pop(series, ()):
            if self._forget(tensor):
                self.log.drop_picture(tensor)

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the tensors; none waits to be read."""
        self._waiting.clear()
        tensors = numbers.tensors
        self._bytes = {tensors[old]: size for old, size in self._bytes.items() if old in tensors}
        self._of_series = {
            series: [tensors[old] for old in numbers if old in tensors]
            for series, numbers in self._of_series.items()
        }

    def _forget(self, tensor: int) -> bool:
        """Give the room of a picture back; return whether there was one."""
        size_bytes = self._bytes.pop(tensor, None)
        if size_bytes is None:
            return False
        self.room += size_bytes
        waiting = self._waiting.pop(tensor, None)
        if waiting is not None:
            self.pending.forget(waiting)
        return True

    def __contains__(self, tensor: int) -> bool:
        return tensor in self._bytes
