"""Telling of each recorded iteration when it is over: to a logger, or to a line in a terminal."""

import warnings
from bisect import bisect_left
from collections.abc import Callable
from math import isnan
from typing import Protocol

from nnmagic.recording.iterations import Iteration
from nnmagic.recording.recorder import Recorder
from nnmagic.records.shown_iterations import ShownIterations
from nnmagic.records.tensor import STATISTICS
from nnmagic.records.thinning import Renumbering

Tell = Callable[[Callable[[], dict[str, float]], int], object]
"""Gets what returns the numbers of an iteration by their names, and the iteration's number."""


class Follower(Protocol):
    """What follows the iterations of a run while it is recorded."""

    def begins(self, iteration: Iteration, *, learns: bool) -> None:
        """Note that a root call of an iteration begins.

        Args:
            iteration: the iteration.
            learns: whether it is of a network that learns, with gradients enabled.
        """

    def conclude(self) -> None:
        """Note that the run is over."""


class Reports:
    """Tells of the iterations of the series that learns, each when the next one begins.

    What else was recorded meanwhile, such as a validation, is told with it.

    Args:
        recorder: writes the log.
        tell: is told.
    """

    def __init__(self, recorder: Recorder, tell: Tell) -> None:
        self.recorder = recorder
        self.log = recorder.log
        self.tell: Tell | None = tell
        self.series: int | None = None
        self._iteration: int | None = None
        self._calls = 0
        self._measures = 0
        recorder.holders.append(self)

    def begins(self, iteration: Iteration, *, learns: bool) -> None:
        """Note that an iteration begins, and tell of the one before it."""
        if self.series is None and learns:
            self.series = iteration.series
        if iteration.series == self.series and iteration.is_new:
            self.conclude()
            self._iteration = None if iteration.is_skipped else iteration.number

    def conclude(self) -> None:
        """Tell of the last iteration."""
        if self._iteration is None or self.tell is None:
            return
        if self.recorder.gradients is not None:
            self.recorder.gradients.parameters.flush()
        try:
            self.tell(self._numbers, self._iteration)
        except Exception as error:  # noqa: BLE001 - a logger that fails does not end the training
            reason = f"not logged from iteration {self._iteration} on: {error!r}"
            warnings.warn(f"nnmagic: {reason}", stacklevel=2)
            self.log.say(reason)
            self.tell = None
        self._iteration = None
        self._calls, self._measures = len(self.log), len(self.log.measures)

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the calls."""
        self._calls = bisect_left([*numbers.calls], self._calls)
        self._measures = 0

    def _numbers(self) -> dict[str, float]:
        """Return what was recorded since the last report: `{"loss": 2.3, "0/mean": 0.1}`."""
        log, found = self.log, dict[str, float]()
        names = ShownIterations(log, None).names
        own = None if self.series is None else log.series[self.series].network

        def add(root: int, network: int, layer: str, quantity: str, value: float) -> None:
            series, _ = log.series_and_iteration_of(root)
            is_own = series == self.series or (network == own and log.series[series].grad)
            before = "" if is_own or series not in names else f"{names[series]}/"
            if not isnan(value) or quantity in ("loss", "grad_norm"):
                found[f"{before}{layer}/{quantity}" if layer else before + quantity] = value

        for call in range(self._calls, len(log)):
            layer, output, root = log.layer_of(call), log.main_output(call), log.root_of(call)
            if output is None or call in log.recomputed:
                continue
            statistics = log.tensors.statistics_of(output)
            for quantity in STATISTICS:
                add(root, layer.network, layer.name, quantity, getattr(statistics, quantity))
            if output in log.gradients:
                norm = log.tensors.norm_of(log.gradients[output])
                add(root, layer.network, layer.name, "grad_norm", norm)
        measures = log.measures
        for place in range(self._measures, len(measures)):
            if measures.root[place] >= self._calls:
                of = measures.quantities[measures.quantity[place]]
                add(measures.root[place], *of, measures.value[place])
        return found
