"""Keeping the log of a run small while it grows: earlier iterations are thinned."""

from nnmagic.recording.recorder import Recorder
from nnmagic.records.thinning import MOST_ITERATIONS, iterations_of, shorten_samples, thin

MOST_WHOLE = 4096
"""How many tensors are written before those of earlier iterations are shortened."""


class LogLimits:
    """Leaves iterations out of a log as soon as a series has too many, and values of earlier ones.

    That is done between two iterations, when no call is in progress and nothing waits to be read.

    Args:
        recorder: writes the log.
        every: how far apart the recorded iterations are.
    """

    def __init__(self, recorder: Recorder, every: int) -> None:
        self.recorder = recorder
        self.log = recorder.log
        self.every = every
        self._kept: dict[int, int] = {}
        self._shortened = 0

    def make_room(self, series: int, *, is_busy: bool) -> None:
        """Make room for an iteration that is about to be recorded, unless a call is in progress."""
        if self._kept.get(series, 0) >= MOST_ITERATIONS and not is_busy:
            full = [of for of, kept in self._kept.items() if kept >= MOST_ITERATIONS]
            self._thin(full, MOST_ITERATIONS // 2)
        self.count(series)
        if len(self.log.tensors) - self._shortened > MOST_WHOLE and not is_busy:
            self._shorten()

    def count(self, series: int) -> None:
        """Note that an iteration is recorded."""
        self._kept[series] = self._kept.get(series, 0) + 1

    def conclude(self) -> None:
        """Leave the iterations evenly spaced, now that the run is over."""
        long = [of for of, recorded in enumerate(self.log.recorded) if recorded > MOST_ITERATIONS]
        if long:
            self._thin(long, MOST_ITERATIONS - 2)

    def _thin(self, series: list[int], most: int) -> None:
        before = len(self.log.tensors)
        self.recorder.thin(lambda held: thin(self.log, series, self.every, most, held))
        self._shortened = max(0, self._shortened - (before - len(self.log.tensors)))
        for of, numbers in iterations_of(self.log).items():
            self._kept[of] = len(numbers)

    def _shorten(self) -> None:
        """Shorten the values of all tensors but those of the last iteration of each series."""
        log, keep = self.log, self.recorder.tensors.keep
        if keep == "sample":
            last = dict(zip(log.root_series, log.root_iteration, strict=True))
            whole: set[int] = set()
            shown = False
            for call, parent in enumerate(log.parent):
                if parent < 0:
                    of, number = log.series_and_iteration_of(call)
                    shown = last[of] == number
                if shown:
                    whole.update(log.inputs[call], log.outputs[call])
            whole.update([log.gradients[each] for each in whole if each in log.gradients])
            whole.update(self.recorder.held)
            log.tensors.column("nan")  # reads what waits on accelerators
            numbers = range(self._shortened, len(log.tensors))
            shorten_samples(log.tensors, (each for each in numbers if each not in whole))
        self._shortened = len(log.tensors)
