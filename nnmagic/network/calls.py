"""Seeing every module call: the code of `nn.Module.__call__` is exchanged for a run's length."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from threading import RLock, get_ident
from types import CodeType
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from nnmagic.contexts import block
from nnmagic.network.layers import UNLIFTED
from nnmagic.network.naming import Naming, Network
from nnmagic.torch_private import (
    MODULE_CALL,
    STOPPED_EARLY,
    dynamo_is_loaded,
    graph_task,
    skip_in_dynamo,
)

HEADROOM = 200
"""How many frames an observer may need where the network itself has come to the last one."""


Record = TypeVar("Record")
"""What an observer keeps of a call while it is in progress."""


def in_backward() -> bool:
    """Tell whether this thread runs a backward, in which checkpoints are computed again."""
    return graph_task() >= 0


class RunningCall(Generic[Record]):
    """A module call that is in progress.

    Args:
        observer: who observes it.
        stack: the calls in progress of its thread.
        module: the layer.
        args: its positional arguments.
        kwargs: its keyword arguments.
        network: the network that the call belongs to.
        layer: the layer's dotted name, e.g. `"encoder.layers.0"`; `""` for the network itself.
        step: which outermost call of the network it is, from 0; an inner call has its
            parent's.

    Attributes:
        parent: the call that it was made in, or None.
        depth: how many calls were in progress in its thread when it began.
        recomputed: whether it runs during a backward, as the recomputation of a checkpoint does.
        iteration: what an observer that counts the outermost calls keeps of the count; an inner
            call has its parent's.
        is_skipped: whether neither it nor any call inside is observed.
        record: what the observer keeps of it; there from `began` on.
    """

    __slots__ = (
        *("observer", "stack", "module", "args", "kwargs", "network", "layer", "parent", "depth"),
        *("step", "iteration", "recomputed", "is_skipped", "record"),
    )

    iteration: Any
    record: Record

    def __init__(
        self,
        observer: "CallObserver[Record]",
        stack: "list[RunningCall[Record]]",
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        network: Network,
        layer: str,
        step: int,
    ) -> None:
        parent = stack[-1] if stack else None
        self.observer = observer
        self.stack = stack
        self.module = module
        self.args = args
        self.kwargs = kwargs
        self.network = network
        self.layer = layer
        self.parent = parent
        self.depth = len(stack)
        self.step = step
        self.recomputed: bool = graph_task() >= 0 or (parent is not None and parent.recomputed)
        if parent is None:
            self.iteration = None
            self.is_skipped = observer.skips(self)
        else:
            self.iteration = parent.iteration
            self.is_skipped = False


class CallObserver(ABC, Generic[Record]):
    """Follows the module calls of a run: which are in progress, and how they are named.

    It sees the calls of the thread that made it, and of threads that begin during the run; those
    that were there before have nothing to do with it. A layer's error may be caught by its network,
    a call may be interrupted: each call cuts the stack back to where it found it, so that it is
    right whatever ended the calls inside.

    Args:
        naming: names networks and layers.
        lock: held while a call begins or ends.

    Attributes:
        running: the calls in progress of the thread that made the observer, outermost first.
    """

    def __init__(self, naming: Naming, lock: AbstractContextManager[Any] | None = None) -> None:
        self.naming = naming
        self.running: list[RunningCall[Record]] = []
        self._thread = get_ident()
        self._others: dict[int, list[RunningCall[Record]] | None] = dict.fromkeys(
            sys._current_frames()
        )
        self.lock = lock or RLock()

    def skips(self, call: RunningCall[Record]) -> bool:
        """Tell whether an outermost call is passed over, with all that it calls."""
        return False

    @abstractmethod
    def began(self, call: RunningCall[Record]) -> Record:
        """Take note of a call before its forward runs; return the record to keep meanwhile."""

    @abstractmethod
    def ended(self, call: RunningCall[Record], output: Any) -> None:
        """Take note of what a call returned."""

    @abstractmethod
    def raised(self, call: RunningCall[Record], error: BaseException) -> None:
        """Take note of an exception on its way through a call."""

    def stopped(self, call: RunningCall[Record]) -> None:
        """Take note of a recomputation that ended early, since nothing more of it is needed."""

    def stack_here(self) -> list[RunningCall[Record]] | None:
        """Return the calls in progress of this thread; None if it is passed over."""
        thread = get_ident()
        if thread == self._thread:
            return self.running
        return self._others.setdefault(thread, [])

    @property
    def is_busy(self) -> bool:
        """Whether a call is in progress in any thread."""
        return bool(self.running) or any(self._others.values())

    def enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RunningCall[Record] | None:
        """Note that a call begins; None if it is not to be observed."""
        with self.lock:
            stack = self.running if get_ident() == self._thread else self.stack_here()
            if stack is None:
                return None
            depth = len(stack)
            try:
                named = self._inner(stack, module) if stack else self._outermost(stack, module)
                if named is None:
                    return None
                network, name, step = named
                call = RunningCall(self, stack, module, args, kwargs, network, name, step)
                stack.append(call)
                if not call.is_skipped:
                    call.record = self.began(call)
            except BaseException:  # an interrupt
                del stack[depth:]
                raise
        return call

    def _inner(
        self, stack: list[RunningCall[Record]], module: nn.Module
    ) -> tuple[Network, str, int] | None:
        """Return the network, the layer's name and the step of a call inside another one."""
        parent = stack[-1]
        network = parent.network
        if parent.is_skipped or type(module).__module__ == UNLIFTED:
            return None  # torch's check of an exported program's arguments is no layer
        entry = network.names.get(id(module))
        if entry is not None and entry[1]() is module:
            return network, entry[0], parent.step
        return network, network.name_of(module, parent.module, parent.layer), parent.step

    def _outermost(
        self, stack: list[RunningCall[Record]], module: nn.Module
    ) -> tuple[Network, str, int] | None:
        """Return the same of a call outside every other one."""
        recomputed = in_backward()
        # a recomputation, or a thread, goes on with a network of which another call is at the root
        goes_on = recomputed or stack is not self.running
        network = (self.naming.home_of if goes_on else self.naming.network_of)(module)
        if network is None:
            return None
        name = network.name_of(module, None, "")
        if not network.steps or not (recomputed or (goes_on and name)):
            network.steps += 1
        return network, name, network.steps - 1

    def leave(self, call: RunningCall[Record], output: Any) -> None:
        """Note that a call returned."""
        if not call.is_skipped:
            with self.lock:
                self.ended(call, output)
        stack = call.stack
        if stack and stack[-1] is call:
            stack.pop()
        else:
            del stack[call.depth :]

    def fail(self, call: RunningCall[Record], error: BaseException) -> None:
        """Note that a call is ended by an exception."""
        if not call.is_skipped:
            with self.lock:
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

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count a call; there is nothing to tell of its end."""
        if get_ident() not in self._others:
            self.calls += 1


class Observer(Protocol):
    """Sees the module calls; a call that it returns names its observer, who is told of its end."""

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any:
        """Note that a call begins; return what is to be told to `leave` or `fail`, or None."""


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
        self.torchs_code: CodeType = MODULE_CALL.__code__
        self.limit = 0
        self.enter: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any] = self._enter
        constants = (
            self if each == "the observers" else each for each in _observed_call.__code__.co_consts
        )
        self.code = _observed_call.__code__.replace(co_consts=tuple(constants))

    def add(self, observer: Observer, *, eager: bool) -> None:
        """Let an observer see the calls from now on."""
        with self._lock:
            if not self.observers:
                self.limit = sys.getrecursionlimit()
                sys.setrecursionlimit(self.limit + HEADROOM)
                skip_in_dynamo(self.code)
                self.torchs_code, MODULE_CALL.__code__ = MODULE_CALL.__code__, self.code
            self._set((*self.observers, observer))
            # before torch._dynamo is there nothing can have been compiled, and it takes a second
            if eager and dynamo_is_loaded():
                self.eager += (observer,)
                self.stance = self.stance or torch.compiler.set_stance("force_eager")

    def remove(self, observer: Observer) -> None:
        """Let it see no more."""
        with self._lock:
            self._set(tuple(each for each in self.observers if each is not observer))
            if observer in self.eager:
                self.eager = tuple(each for each in self.eager if each is not observer)
                if not self.eager:
                    self.stance.__exit__(None, None, None)
                    self.stance = None
            if self.observers:
                return
            MODULE_CALL.__code__ = self.torchs_code
            if sys.getrecursionlimit() == self.limit + HEADROOM:  # else the user has set another
                sys.setrecursionlimit(self.limit)

    def _set(self, observers: tuple[Observer, ...]) -> None:
        self.observers = observers
        self.alone = observers[0] if len(observers) == 1 else None
        self.enter = self._enter if self.alone is None else self.alone.enter

    def _enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[RunningCall[Any]] | None:
        calls = (observer.enter(module, args, kwargs) for observer in self.observers)
        return [call for call in calls if call is not None] or None

    def leave(self, call: RunningCall[Any] | list[RunningCall[Any]], output: Any) -> None:
        """Tell those who observe a call that it returned."""
        if isinstance(call, RunningCall) and call.observer is self.alone:
            call.observer.leave(call, output)
            return
        for each in call if isinstance(call, list) else (call,):
            if each.observer in self.observers:  # a thread may outlive the run
                each.observer.leave(each, output)

    def fail(self, call: RunningCall[Any] | list[RunningCall[Any]], error: BaseException) -> None:
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
