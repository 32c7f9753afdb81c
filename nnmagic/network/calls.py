"""Seeing every module call: the code of `nn.Module.__call__` is exchanged for a run's length."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from threading import RLock, get_ident
from types import CodeType, FunctionType
from typing import Any, cast

import torch
from torch import nn
from torch.utils import checkpoint

from nnmagic.contexts import block
from nnmagic.network.layers import UNLIFTED
from nnmagic.network.naming import Naming, Network

CALL = cast(FunctionType, nn.Module._wrapped_call_impl)
"""The function behind `nn.Module.__call__`."""

HEADROOM = 200
"""How many frames an observer may need where the network itself has come to the last one."""

STOPPED_EARLY = getattr(checkpoint, "_StopRecomputationError", ())
"""What ends the recomputation of a checkpoint when the backward has all that it needs."""


class RunningCall:
    """A module call that is in progress.

    Attributes:
        observer: who observes it.
        module: the layer.
        network: the network that the call belongs to; None for a call that is passed over.
        layer: the layer's dotted name.
        step: which outermost call of the network it belongs to.
        depth: how many observed calls of its thread were in progress when it began.
        parent: the call that it was made in, or None.
        recomputed: whether it runs during a backward, as the recomputation of a checkpoint does.
        stack: the calls in progress of its thread.
        notes: whatever the observer keeps for the length of the call.
    """

    __slots__ = (
        "depth",
        "layer",
        "module",
        "network",
        "notes",
        "observer",
        "parent",
        "recomputed",
        "stack",
        "step",
    )

    def __init__(
        self,
        observer: "CallObserver",
        module: nn.Module,
        network: Network | None,
        layer: str,
        step: int,
        parent: "RunningCall | None",
        recomputed: bool,
        stack: "list[RunningCall]",
    ) -> None:
        self.observer = observer
        self.module = module
        self.network = network
        self.layer = layer
        self.step = step
        self.depth = len(stack)
        self.parent = parent
        self.recomputed = recomputed
        self.stack = stack
        self.notes: Any = None


graph_task = torch._C._current_graph_task_id


def in_backward() -> bool:
    """Tell whether this thread runs a backward, in which checkpoints are computed again."""
    return graph_task() >= 0


class CallObserver(ABC):
    """Follows the module calls of a run: which are in progress, and how they are named.

    It sees the calls of the thread that made it, and of threads that begin during the run; those
    that were there before have nothing to do with it. A layer's error may be caught by its network,
    a call may be interrupted: each call cuts the stack back to where it found it, so that it is
    right whatever ended the calls inside.

    Args:
        naming: names networks and layers.
        every: observe the steps 0, every, 2 * every, ... of each network only.
    """

    def __init__(self, naming: Naming, every: int = 1) -> None:
        self.naming = naming
        self.every = every
        self.running: list[RunningCall] = []
        self._thread = get_ident()
        self._others: dict[int, list[RunningCall] | None] = dict.fromkeys(sys._current_frames())
        self._lock = RLock()

    @abstractmethod
    def began(self, call: RunningCall, args: tuple, kwargs: dict[str, Any]) -> None:
        """Take note of a call before its forward runs."""

    @abstractmethod
    def ended(self, call: RunningCall, output: Any) -> None:
        """Take note of what a call returned."""

    @abstractmethod
    def raised(self, call: RunningCall, error: BaseException) -> None:
        """Take note of an exception on its way through a call."""

    def stopped(self, call: RunningCall) -> None:  # noqa: B027 - of no interest to most
        """Take note of a recomputation that ended early, since nothing more of it is needed."""

    def stack_here(self) -> list[RunningCall] | None:
        """Return the calls in progress of this thread; None if it is passed over."""
        thread = get_ident()
        if thread == self._thread:
            return self.running
        return self._others.setdefault(thread, [])

    @property
    def is_busy(self) -> bool:
        """Whether a call is in progress in any thread."""
        return bool(self.running) or any(self._others.values())

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> RunningCall | None:
        """Note that a call begins; None if it is not to be observed."""
        with self._lock:
            stack = self.running if get_ident() == self._thread else self.stack_here()
            if stack is None:
                return None
            depth = len(stack)
            try:
                call = self._inner(module, stack) if stack else self._outermost(module, stack)
                if call is not None:
                    stack.append(call)
                    if call.network is not None:
                        self.began(call, args, kwargs)
            except BaseException:  # an interrupt
                del stack[depth:]
                raise
        return call

    def _inner(self, module: nn.Module, stack: list[RunningCall]) -> RunningCall | None:
        parent = stack[-1]
        network = parent.network
        if network is None or type(module).__module__ == UNLIFTED:
            return None  # torch's check of an exported program's arguments is no layer
        known = network.names.get(id(module))
        if known is not None and known[1]() is module:
            name = known[0]
        else:
            name = network.name_of(module, parent.module, parent.layer)
        recomputed = parent.recomputed or graph_task() >= 0
        return RunningCall(self, module, network, name, parent.step, parent, recomputed, stack)

    def _outermost(self, module: nn.Module, stack: list[RunningCall]) -> RunningCall | None:
        recomputed = in_backward()
        # a recomputation, or a thread, goes on with a network of which another call is at the root
        goes_on = recomputed or stack is not self.running
        found = (self.naming.home_of if goes_on else self.naming.network_of)(module)
        if found is None:
            return None
        name = found.name_of(module, None, "")
        if found.steps and (recomputed or (goes_on and name)):
            step = found.steps - 1
        else:
            step = found.steps
            found.steps += 1
        seen = None if step % self.every else found
        return RunningCall(self, module, seen, name, step, None, recomputed, stack)

    def leave(self, call: RunningCall, output: Any) -> None:
        """Note that a call returned."""
        if call.network is not None:
            with self._lock:
                self.ended(call, output)
        stack = call.stack
        if stack and stack[-1] is call:  # the usual case
            stack.pop()
        else:
            del stack[call.depth :]

    def fail(self, call: RunningCall, error: BaseException) -> None:
        """Note that a call is ended by an exception."""
        if call.network is not None:
            with self._lock:
                if call.recomputed and isinstance(error, STOPPED_EARLY):
                    self.stopped(call)
                else:
                    self.raised(call, error)
        del call.stack[call.depth :]


class CallCounter:
    """Counts the module calls of the thread that made it, and of threads that begin meanwhile."""

    def __init__(self) -> None:
        self.calls = 0
        self._others = sys._current_frames().keys() - {get_ident()}

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Count a call; there is nothing to tell of its end."""
        if get_ident() not in self._others:
            self.calls += 1


Observer = CallObserver | CallCounter


def _observed_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    observers: Any = "the observers"  # a constant that is exchanged: the code has torch's globals
    call = None
    try:
        call = observers.enter(self, args, kwargs)
        if self._compiled_call_impl is None:
            output = self._call_impl(*args, **kwargs)
        else:
            output = self._compiled_call_impl(*args, **kwargs)
        if call is not None:
            observers.leave(call, output)
    except BaseException as error:
        if call is not None:
            observers.fail(call, error)
        raise
    return output


class _Observers:
    """Those who see the module calls now, and what is changed of the process meanwhile.

    The first one makes room on the stack for what observers call, the last one to go takes it
    back; the same with the stance in which compiled networks run eagerly. Threads and tracebacks
    may hold the code for longer than the run: no observer is left here in the end.

    Attributes:
        enter: notes that a call begins; returns the call, or those of several observers, or None.
    """

    def __init__(self) -> None:
        self.observers: tuple[Observer, ...] = ()
        self.eager: tuple[Observer, ...] = ()
        self.alone: Observer | None = None
        self.stance: Any = None
        self._lock = RLock()
        self.torchs_code: CodeType = CALL.__code__
        self.limit = 0
        self.enter: Callable[[nn.Module, tuple, dict[str, Any]], Any] = self._enter
        constants = (
            self if each == "the observers" else each for each in _observed_call.__code__.co_consts
        )
        self.code = _observed_call.__code__.replace(co_consts=tuple(constants))

    def add(self, observer: Observer, *, eager: bool) -> None:
        """Let an observer see the calls from now on."""
        with self._lock:
            self._add(observer, eager=eager)

    def _add(self, observer: Observer, *, eager: bool) -> None:
        if not self.observers:
            self.limit = sys.getrecursionlimit()
            sys.setrecursionlimit(self.limit + HEADROOM)
            dynamo = sys.modules.get("torch._dynamo")
            if dynamo is not None:
                dynamo.eval_frame.skip_code(self.code)
            self.torchs_code, CALL.__code__ = CALL.__code__, self.code
        self._set((*self.observers, observer))
        # before torch._dynamo is there nothing can have been compiled, and it takes a second
        if eager and "torch._dynamo" in sys.modules:
            self.eager += (observer,)
            self.stance = self.stance or torch.compiler.set_stance("force_eager")

    def remove(self, observer: Observer) -> None:
        """Let it see no more."""
        with self._lock:
            self._remove(observer)

    def _remove(self, observer: Observer) -> None:
        self._set(tuple(each for each in self.observers if each is not observer))
        if observer in self.eager:
            self.eager = tuple(each for each in self.eager if each is not observer)
            if not self.eager:
                self.stance.__exit__(None, None, None)
                self.stance = None
        if self.observers:
            return
        CALL.__code__ = self.torchs_code
        if sys.getrecursionlimit() == self.limit + HEADROOM:  # else the user has set another
            sys.setrecursionlimit(self.limit)

    def _set(self, observers: tuple[Observer, ...]) -> None:
        self.observers = observers
        self.alone = observers[0] if len(observers) == 1 else None
        self.enter = self._enter if self.alone is None else self.alone.enter

    def _enter(
        self, module: nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> list[RunningCall] | None:
        calls = (observer.enter(module, args, kwargs) for observer in self.observers)
        return [call for call in calls if call is not None] or None

    def leave(self, call: RunningCall | list[RunningCall], output: Any) -> None:
        """Tell those who observe a call that it returned."""
        if isinstance(call, RunningCall) and call.observer is self.alone:
            call.observer.leave(call, output)
            return
        for each in call if isinstance(call, list) else (call,):
            if each.observer in self.observers:  # a thread may outlive the run
                each.observer.leave(each, output)

    def fail(self, call: RunningCall | list[RunningCall], error: BaseException) -> None:
        """Tell those who observe a call that an exception ends it."""
        for each in call if isinstance(call, list) else (call,):
            if each.observer in self.observers:
                each.observer.fail(each, error)


OBSERVERS = _Observers()


@block
def observed(observer: Observer, *, eager: bool = True) -> Iterator[None]:
    """Let the observer see every module call for the length of the block.

    Args:
        observer: what sees the calls.
        eager: whether compiled networks run eagerly, so that their layers can be seen.

    `nn.Module.__call__` gets other code, which calls what it called: only there are keyword
    arguments, the output that the caller gets and KeyboardInterrupt all to be seen, and no instance
    gets a hook that would make torch leave its fused paths. To set the attribute, as torch.fx does
    to trace, empties the method caches of every subclass: 100 microseconds and more, where the code
    takes one; and dynamo, which knows the function, goes on as if nothing were there. Blocks may be
    nested, and end in any order.
    """
    OBSERVERS.add(observer, eager=eager)
    try:
        yield
    finally:
        OBSERVERS.remove(observer)
