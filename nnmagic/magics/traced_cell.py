"""The cell form, %%nntrace: a cell that is run under the recorder, and followed while it runs."""

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.display import display
from torch import nn

from nnmagic.magics.answers import check_live, recorded, usage
from nnmagic.magics.display import is_kernel
from nnmagic.magics.expression import CellBody, Expression
from nnmagic.magics.progress import ProgressLine, is_terminal
from nnmagic.magics.request import Request
from nnmagic.network.random_state import random_state_kept
from nnmagic.recording.recorder import Recorder
from nnmagic.recording.reports import Follower, Reports
from nnmagic.records.trace import Trace

if TYPE_CHECKING:
    from nnmagic.widget.live_loop import LiveLoop


def run_cell(magic: Any, line: str, cell: str, shell: Any, local: dict[str, Any] | None) -> Any:
    """Run a cell under %%nntrace, show its trace and return its last value."""
    __tracebackhide__ = True
    with usage("%%nntrace"):
        request = Request(magic, line, shell, local)
        names = _networks_named(request)
        _check_options(request)
        request.view.pop("live", None)  # what is followed is the cell, and no later call
        body = CellBody(cell, request.shell)
        probe = _probe_of(request)
    naming = request.naming(names or body.names, only=bool(names))
    following = _Following(request)

    def run() -> Any:
        __tracebackhide__ = True
        try:
            return body.run()
        finally:
            following.end()

    more = {"probe": probe, "follow": following.follow, "show": following.show}
    trace = recorded(request, "cell", naming, run, naming.named, **more)
    following.show(trace)
    return None if body.silenced else trace.output


def _networks_named(request: Request) -> tuple[str, ...]:
    names = tuple(request.expression.replace(",", " ").split())
    for name in names:
        if not isinstance(request.look_up(name), nn.Module):
            raise UsageError(
                f"{name!r} is not the name of a network; type names such as net, "
                f"or nothing to record everything that runs"
            )
    return names


def _check_options(request: Request) -> None:
    options = request.options
    check_live(request)
    if options.against:
        raise UsageError("--against works on a line only: %nntrace --against eval net(x)")
    if options.input_size or options.device:
        raise UsageError("a cell has its own inputs; leave out --input-size and --device")


def _probe_of(request: Request) -> Any:
    """Return the input of `--probe`, drawn without a change of the session's random state."""
    if not request.options.probe:
        return None
    with random_state_kept(seed=0):
        return Expression(request.options.probe, request.shell, request.local).value()


class _Following:
    """Follows the loop of a cell: in a widget, or by a line in a terminal.

    Args:
        request: the line.

    Attributes:
        follow: makes what follows the iterations of a recorder; None where nothing does.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.follow: Callable[[Recorder], Follower] | None = None
        self._line: ProgressLine | None = None
        self._loop: LiveLoop | None = None
        if is_kernel(request.shell):
            if not request.options.static:
                self._loop = self._live_loop()
                self.follow = self._loop.follow
        elif is_terminal():
            self._line = ProgressLine(sys.stdout)
            self.follow = partial(Reports, tell=self._line)

    def _live_loop(self) -> "LiveLoop":
        # what only loads the extension does not wait for the widget's packages
        from nnmagic.widget.live_loop import AFTER, LiveLoop

        return LiveLoop(self.request.viewed, after=0 if self.request.options.live else AFTER)

    def end(self) -> None:
        """Take the line away."""
        if self._line is not None:
            self._line.close()

    def show(self, trace: Trace) -> None:
        """Show the record: in the widget that followed the loop, where one did."""
        record = self.request.shown(trace)
        if self._loop is None or not self._loop.finish(record):
            display(record)
