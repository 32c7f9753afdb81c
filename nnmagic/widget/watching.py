"""Following a network live: every later call of it goes to a widget, until that is closed."""

import atexit
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn

from nnmagic.network.calls import CallObserver, RunningCall, in_backward, observed
from nnmagic.network.naming import Naming, name_bound_to
from nnmagic.recording.iterations import Iterations
from nnmagic.recording.recorder import Recorder, WrittenCall
from nnmagic.records.call_log import TraceLog
from nnmagic.records.tensor_log import TensorLog
from nnmagic.records.trace import Trace
from nnmagic.tensors.writer import TensorWriter
from nnmagic.widget.live_network import LiveNetwork
from nnmagic.widget.widget import NetworkWidget

SECONDS = 0.1
"""How far apart updates reach the page at least."""

SHARE = 0.01
"""How much of the time may go into measuring every value; beyond it samples are measured."""

THINNED = 256
"""How many values of a tensor are measured where measuring all would slow the network down."""


class Watcher(CallObserver[WrittenCall]):
    """Records each call of a network into a log of its own, and hands the latest to a widget.

    Every call is recorded, so that the latest is always there. All values are measured at most ten
    times a second, and only as long as that costs little of the time that the network runs;
    between those, samples are, and the rows say so. What is on an accelerator is read at the end of
    each outermost call, not inside. The network is held weakly. Compiled networks
    run as they are: the stance of the compiler holds for all threads, and is left alone.

    Args:
        module: the network.

    Attributes:
        paused: whether calls are passed over for a while.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = weakref.ref(module)
        naming = Naming(self._candidates, _name_in_the_notebook, only=True)
        home = naming.network_of(module)
        assert home is not None
        self.home = home
        super().__init__(naming)
        self.iterations = Iterations(TraceLog(home.label))
        self.recorder = self._new_recorder(home.label)
        self.paused = False
        self._own_counts: dict[tuple[str, str], int] | None = None
        self._widget: weakref.ref[NetworkWidget] | None = None
        self._stack = ExitStack()
        self._sending = threading.Lock()
        self._scheduling = threading.RLock()  # a network may be collected, and so stop it, within
        self._timer: threading.Timer | None = None
        self._sender: threading.Thread | None = None
        self._is_over = False
        self._latest: Trace | None = None
        self._sent = 0.0
        self._began = 0.0
        self._measured_at = 0.0
        self._spent = 0.0
        self._in_full = False

    def _candidates(self) -> list[tuple[str, nn.Module]]:
        module = self.module()
        if module is None:
            return []
        return [(_name_in_the_notebook(module) or type(module).__name__, module)]

    # Recording.

    def _new_recorder(self, title: str, max_values: int | None = None) -> Recorder:
        counted = self.iterations.log
        log = TraceLog(title, TensorLog(self.lock), series=[*counted.series])
        log.begun, log.recorded, log.stride = (
            counts[:] for counts in (counted.begun, counted.recorded, counted.stride)
        )
        tensors = TensorWriter(log.tensors, "sample")
        tensors.max_values = max_values
        return Recorder(log, tensors, eager=False)

    def start(self, widget: NetworkWidget) -> None:
        """Follow the network from now on, into this widget."""
        self._widget = weakref.ref(widget)
        self._stack.enter_context(observed(self, eager=False))
        module = self.module()
        assert module is not None
        end = weakref.finalize(module, _close, self._widget, "the network is gone")
        self._stack.callback(end.detach)
        at_exit = partial(_close, self._widget, "its kernel has ended")
        atexit.register(at_exit)  # comes before IPython's own, which lets all networks go
        self._stack.callback(atexit.unregister, at_exit)

    def stop(self) -> None:
        """Show the last call; leave nothing of ours on torch, and no timer running."""
        self._stack.close()
        self.iterations.finish()
        with self._scheduling:
            self._is_over = True
            if self._timer is not None:
                self._timer.cancel()
        for thread in (self._timer, self._sender):
            if thread and thread.is_alive() and thread is not threading.current_thread():
                thread.join(1)
        self._timer = self._sender = None
        self.flush()
        self._latest = None

    def stack_here(self) -> list[RunningCall[WrittenCall]] | None:
        """Return the calls in progress of this thread; one thread is followed at a time."""
        stack = super().stack_here()
        return None if not stack and self.is_busy else stack

    def enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RunningCall[WrittenCall] | None:
        """Note that a call of the network, or within it, begins."""
        if not self.stack_here():
            passed = self.paused or in_backward()
            entry = None if passed else self.home.names.get(id(module))
            if entry is None or entry[1]() is not module:
                return None
        return super().enter(module, args, kwargs)

    def skips(self, call: RunningCall[WrittenCall]) -> bool:
        """Count an outermost call; none is passed over."""
        call.iteration = self.iterations.of_call(call)
        return False

    def began(self, call: RunningCall[WrittenCall]) -> WrittenCall:
        """Begin a log with every iteration."""
        begin = time.perf_counter()
        if call.depth == 0 and self._is_next(call):
            elapsed = begin - self._measured_at
            self._in_full = elapsed >= SECONDS and self._spent <= SHARE * elapsed
            if self._in_full:
                self._measured_at, self._spent = begin, 0.0
            title = f"{self.home.label} · call {call.step + 1:,}"
            self.recorder = self._new_recorder(title, None if self._in_full else THINNED)
        written = self.recorder.began(call)
        self._count(begin)
        return written

    def _is_next(self, call: RunningCall[WrittenCall]) -> bool:
        """Tell whether an outermost call is no more of what the log shows.

        A method's run ends where it calls a layer again, so that the log stays small.
        """
        log = self.recorder.log
        shown = {log.layer_of(root).name for root in log.roots}
        return call.iteration.is_new or call.layer in shown

    def ended(self, call: RunningCall[WrittenCall], output: Any) -> None:
        """Hand the log on when an outermost call returns."""
        begin = time.perf_counter()
        self.recorder.ended(call, output)
        self._count(begin)
        if call.depth == 0:
            self._finished()

    def raised(self, call: RunningCall[WrittenCall], error: BaseException) -> None:
        """Hand the log on when an exception leaves the network."""
        self.recorder.raised(call, error)
        if call.depth == 0:
            self._finished(error)

    def _count(self, begin: float) -> None:
        if self._in_full:
            self._spent += time.perf_counter() - begin

    # Sending.

    def _finished(self, error: BaseException | None = None) -> None:
        self.recorder.conclude(error)
        self._latest = self.last
        self._send_in_time()

    def flush(self) -> None:
        """Show the latest call now, if it waits to be shown."""
        if self._latest is not None:
            self._send(wait=1)  # another thread may be showing the one before

    def _send_in_time(self) -> None:
        wait = self._sent + SECONDS - time.monotonic()
        if wait <= 0:
            self._send()
        else:
            self._send_later(wait)

    def _send_later(self, wait: float) -> None:
        with self._scheduling:  # a timer that another thread sees has begun
            if self._timer is None and not self._is_over:
                self._timer = threading.Timer(wait, self._send_from_timer)
                self._timer.daemon = True
                self._timer.start()

    def _send_from_timer(self) -> None:
        with self._scheduling:
            self._sender, self._timer = threading.current_thread(), None
        self._send_in_time()  # the network's own thread may have sent a moment ago

    def _send(self, wait: float = 0) -> None:
        """Show the latest call; the network's own run never sees an error of ours."""
        widget = None if self._widget is None else self._widget()
        if widget is None:
            return
        if not self._sending.acquire(timeout=wait):
            self._send_later(SECONDS)
            return
        try:
            trace, self._latest = self._latest, None
            if trace is not None:
                self._sent = time.monotonic()
                widget.follow(trace)
                widget.update_static_in_time()
        except Exception as error:  # noqa: BLE001 - an observer observes: no error of ours gets out
            self.recorder.log.notes.append(f"not shown: {type(error).__name__}: {error}")
        finally:
            self._sending.release()

    @property
    def last(self) -> Trace:
        """The trace of the last call, finished or under way."""
        return Trace(log=self.recorder.log, root=self.recorder.roots)

    # What the widget asks.

    def counts(self) -> dict[tuple[str, str], int] | None:
        """Return the number of parameters of each layer, as they were at the first call."""
        if self._own_counts is None:
            self._own_counts = LiveNetwork(self.last).counts()
        return self._own_counts


def watch(module: nn.Module, /) -> NetworkWidget:
    """Return a widget that follows every later call of a network, from any cell.

    It ends with `close()`, its button, the end of its `with` block, `%unload_ext nnmagic`, another
    `watch` of the same network, or when the network is collected. Then nothing of nnmagic's is on
    the network or on torch.

    Raises:
        TypeError: if `module` is no `nn.Module`.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"watch takes a network, not {type(module).__name__}")
    return watching(module)


def watching(module: nn.Module, trace: Trace | None = None) -> NetworkWidget:
    """Return a widget that shows a trace of a network, and then follows it live.

    Args:
        module: the network.
        trace: what is shown at first; None shows that no call yet.
    """
    for other in NetworkWidget.open_ones():
        watcher = other.watcher
        if isinstance(watcher, Watcher) and watcher.module() is module:
            other.close(f"another watch of {watcher.home.label} has replaced it")
    watcher = Watcher(module)
    if trace is None:
        trace = watcher.last
        trace.log.notes.append(f"shows the next call of {watcher.home.label}")
    widget = NetworkWidget(trace, watcher=watcher)
    watcher.start(widget)
    return widget


def _name_in_the_notebook(module: nn.Module) -> str | None:
    """Return the name that `__main__`, the notebook's namespace, has for a network."""
    return name_bound_to(module, vars(sys.modules["__main__"]))


def _close(widget: "weakref.ref[NetworkWidget]", because: str) -> None:
    opened = widget()
    if opened is not None:
        opened.close(because)
