"""A loop in a cell, shown while it runs: its widget gets the latest iteration in time."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from nnmagic.recording.iterations import Iteration
from nnmagic.recording.recorder import Recorder
from nnmagic.records.record import Record
from nnmagic.records.trace import Trace
from nnmagic.widget.live_points import point_of
from nnmagic.widget.watching import live_network_of
from nnmagic.widget.widget import NetworkWidget

SECONDS = 0.1
"""How far apart updates reach the page at least."""

SHARE = 0.03
"""How much of the time they may take; where one takes longer, the next one waits for longer."""

AFTER = 0.5
"""For how long a loop has run before it is shown."""

PATIENCE = 1.0
"""How long to wait for the loop that learns, before others are followed, as a validation is."""


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
        self.share = share
        self.widget: NetworkWidget | None = None
        self._recorder: Recorder | None = None
        self._trace: Trace | None = None
        self._leading: int | None = None
        self._learns = False
        self._due = time.monotonic() + after

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
        begin = time.monotonic()
        patience = 0 if iteration.series == self._leading else PATIENCE
        if begin < self._due + patience or self._recorder is None or not len(self._recorder.log):
            return
        is_first = self.widget is None  # which takes longer, once
        try:
            self._update(self._recorder)
        except Exception as error:  # noqa: BLE001 - an observer observes: no error of ours gets out
            self._recorder.log.say(f"not shown live: {type(error).__name__}: {error}")
            self._recorder = None
        spent = 0.0 if is_first else time.monotonic() - begin
        self._due = begin + max(SECONDS, spent / self.share)

    def conclude(self) -> None:
        """Leave the rest to `finish`: the run is over."""

    def _update(self, recorder: Recorder) -> None:
        log = recorder.log
        if recorder.gradients is not None:
            recorder.gradients.parameters.flush()
        if self._trace is None:
            trace = self.shown(Trace(log=log))
            self._trace = replace(trace, view=replace(trace.view, step=None))
        if self.widget is None:
            self.widget = NetworkWidget(self._trace, running=True)
            self.widget.show()
        places = zip(reversed(log.root_series), reversed(log.root_iteration), strict=True)
        iteration = next((number for of, number in places if of == self._leading), 0)
        self.widget.follow(self._trace, partial(point_of, log, iteration))

    def finish(self, trace: Record) -> bool:
        """Show the record of the whole run; return whether there is a widget that does.

        Args:
            trace: the record, with its display options.
        """
        self._recorder = None
        if self.widget is None or self.widget.closed_because:
            return False
        self.widget.become(trace, live_network_of)
        return True
