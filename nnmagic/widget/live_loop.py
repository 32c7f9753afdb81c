"""A loop in a cell, shown while it runs: its widget gets the latest iteration in time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nnmagic.recording.iterations import Iteration
from nnmagic.recording.recorder import Recorder
from nnmagic.records.call_log import TraceLog
from nnmagic.records.finding import Finding
from nnmagic.records.findings.threshold_rules import exceeded
from nnmagic.records.record import Record
from nnmagic.records.trace import Trace
from nnmagic.widget.live_points import point_of
from nnmagic.widget.widget import NetworkWidget

SECONDS, SHARE = 0.1, 0.02
"""How far apart updates reach the page at least, and how much of the time they may take at most."""

JUDGED_SECONDS, JUDGED_SHARE = 1.0, 0.005
"""The same of asking the rules with a bound, which read the whole record."""

JUDGED_FROM = 50
"""So many iterations must be recorded before those rules are asked: at first a loop settles."""

AFTER = 0.5
"""For how many seconds a loop has run before it is shown."""

PATIENCE = 1.0
"""How long to wait for the loop that learns, before others are followed, as a validation is."""


@dataclass(slots=True)
class Pace:
    """When something that is done again and again may be done next.

    Attributes:
        seconds: how far apart it is done at least.
        share: how much of the time it may take at most.
        due: when it may be done next.
    """

    seconds: float
    share: float
    due: float

    def done(self, begin: float, spent: float) -> None:
        """Note that it was done, when that began, and how many seconds it took."""
        self.due = begin + max(self.seconds, spent / self.share)


class LiveLoop:
    """Shows the loop of a cell in a widget while it runs, and then the record in the same one.

    The page cannot ask for anything meanwhile: the kernel is busy. All that it draws is sent from
    the loop's own thread, between two iterations.

    Args:
        shown: gives a trace the display options of the line.
        after: for how many seconds a loop has run before it is shown.
        share: how much of the time updates may take.

    Attributes:
        widget: the widget; None where nothing is shown yet.
    """

    def __init__(
        self, shown: Callable[[Trace], Any], *, after: float = AFTER, share: float = SHARE
    ) -> None:
        self.shown = shown
        self.widget: NetworkWidget | None = None
        self._recorder: Recorder | None = None
        self._trace: Trace | None = None
        self._leading: int | None = None
        self._learns = False
        self._recorded = 0, 0
        self._exceeded: list[Finding] = []
        begin = time.monotonic()
        self._showing = Pace(SECONDS, share, begin + after)
        self._judging = Pace(JUDGED_SECONDS, min(share, JUDGED_SHARE), begin)

    def follow(self, recorder: Recorder) -> "LiveLoop":
        """Show what this recorder writes from now on."""
        self._recorder = recorder
        return self

    def begins(self, iteration: Iteration, *, learns: bool) -> None:
        """Show what is recorded, if it is time to, now that an iteration begins.

        Args:
            iteration: the iteration.
            learns: whether it is one of a loop that learns.
        """
        if not iteration.is_new:
            return
        if self._leading is None or (learns and not self._learns):
            self._leading, self._learns = iteration.series, learns
        patience = 0 if iteration.series == self._leading else PATIENCE
        recorder, begin = self._recorder, time.monotonic()
        if begin < self._showing.due + patience or recorder is None or not len(recorder.log):
            return
        recorded = len(recorder.log) + recorder.log.left_out, len(recorder.log.findings)
        if recorded == self._recorded:  # with --every there may be nothing new for long
            return
        self._recorded = recorded
        try:
            is_first = self.widget is None  # which takes longer, once
            self._show(recorder)
            self._showing.done(begin, 0.0 if is_first else time.monotonic() - begin)
            if self.widget is not None:
                self.widget.update_static_in_time()
            self._judge(recorder.log)
        except Exception as error:  # noqa: BLE001 - an observer observes: no error of ours gets out
            recorder.log.say(f"not shown live: {type(error).__name__}: {error}")
            self._recorder = None

    def conclude(self) -> None:
        """Leave the rest to `finish`: the run is over."""

    def _show(self, recorder: Recorder) -> None:
        log = recorder.log
        if recorder.gradients is not None:
            recorder.gradients.parameters.flush()
        if self._trace is None:
            trace = self.shown(Trace(log=log))
            self._trace = replace(trace, view=replace(trace.view, step=None))
        if self.widget is None:
            self.widget = NetworkWidget(self._trace, running=True)
            self.widget.show()
        elif self.widget.closed_because:
            self._recorder = None
            return
        places = zip(reversed(log.root_series), reversed(log.root_iteration), strict=True)
        iteration = next((number for of, number in places if of == self._leading), 0)
        so_far = replace(log, findings=[*log.findings, *self._exceeded])
        self.widget.follow(replace(self._trace, log=so_far), partial(point_of, so_far, iteration))

    def _judge(self, log: TraceLog) -> None:
        """Ask the rules with a bound, if it is time to; the next update shows what they find."""
        begin = time.monotonic()
        recorded = 0 if self._leading is None else log.recorded[self._leading]
        if self._learns and recorded >= JUDGED_FROM and begin >= self._judging.due:
            self._exceeded = exceeded(log)
            self._judging.done(begin, time.monotonic() - begin)

    def finish(self, trace: Record) -> bool:
        """Show the record of the whole run; return whether there is a widget that does.

        Args:
            trace: the record, with its display options.
        """
        self._recorder = None
        if self.widget is None or self.widget.closed_because:
            return False
        self.widget.become(trace)
        return True
