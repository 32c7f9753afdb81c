"""Seeing every module call: one wrapper around `nn.Module.__call__` for the length of a run."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling

from nnmagic.naming import Naming, Network


class RunningCall:
    """A module call that is in progress.

    Attributes:
        module: the layer.
        network: the network that the call belongs to; None for a call that is passed over.
        layer: the layer's dotted name.
        step: which outermost call of the network it belongs to.
        depth: how many observed calls were in progress when it began.
        notes: whatever the observer keeps for the length of the call.
    """

    __slots__ = ("depth", "layer", "module", "network", "notes", "step")

    def __init__(
        self, module: nn.Module, network: Network | None, layer: str, step: int, depth: int
    ) -> None:
        self.module = module
        self.network = network
        self.layer = layer
        self.step = step
        self.depth = depth
        self.notes: Any = None


class CallObserver(ABC):
    """Follows the module calls of a run: which are in progress, and how they are named.

    A layer's error may be caught by its network, a call may be interrupted: each call cuts the
    stack back to where it found it, so that it is right whatever ended the calls inside.

    Args:
        naming: names networks and layers.
        every: observe the steps 0, every, 2 * every, ... of each network only.
    """

    def __init__(self, naming: Naming, every: int = 1) -> None:
        self.naming = naming
        self.every = every
        self.running: list[RunningCall] = []

    @abstractmethod
    def began(self, call: RunningCall, args: tuple, kwargs: dict[str, Any]) -> None:
        """Take note of a call before its forward runs."""

    @abstractmethod
    def ended(self, call: RunningCall, output: Any) -> None:
        """Take note of what a call returned."""

    @abstractmethod
    def raised(self, call: RunningCall, error: BaseException) -> None:
        """Take note of an exception on its way through a call."""

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> RunningCall | None:
        """Note that a call begins; None if it is not to be observed."""
        if self.running:
            parent = self.running[-1]
            if parent.network is None:
                return None
            network, step = parent.network, parent.step
            name = network.name_of(module, parent.module, parent.layer)
        else:
            found = self.naming.network_of(module)
            if found is None:
                return None
            network, step = found, found.steps
            network.steps += 1
            name = network.name_of(module, None, "")
            if step % self.every:
                skipped = RunningCall(module, None, name, step, 0)
                self.running.append(skipped)
                return skipped
        call = RunningCall(module, network, name, step, len(self.running))
        self.running.append(call)
        self.began(call, args, kwargs)
        return call

    def leave(self, call: RunningCall, output: Any) -> None:
        """Note that a call returned."""
        if call.network is not None:
            self.ended(call, output)
        del self.running[call.depth :]

    def fail(self, call: RunningCall, error: BaseException) -> None:
        """Note that a call is ended by an exception."""
        if call.network is not None:
            self.raised(call, error)
        del self.running[call.depth :]


@contextmanager
def observed(observer: CallObserver, *, eager: bool = True) -> Iterator[None]:
    """Let the observer see every module call of this thread for the length of the block.

    Args:
        observer: what sees the calls.
        eager: whether compiled networks run eagerly, so that their layers can be seen.

    `nn.Module.__call__` is wrapped, as torch.fx does to trace: only there are keyword arguments,
    the output that the caller gets and KeyboardInterrupt all to be seen, and no instance gets a
    hook that would make torch leave its fused paths. Blocks may be nested, and end in any order.
    """
    thread = get_ident()

    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        __tracebackhide__ = True
        if is_dynamo_compiling() or get_ident() != thread:
            return link.previous(self, *args, **kwargs)
        watching = link.observer
        call = None if watching is None else watching.enter(self, args, kwargs)
        if watching is None or call is None:
            return link.previous(self, *args, **kwargs)
        try:
            output = link.previous(self, *args, **kwargs)
            watching.leave(call, output)
        except BaseException as error:
            watching.fail(call, error)
            raise
        return output

    link = _Link(__call__, observer, eager=eager)
    link.insert()
    try:
        yield
    finally:
        link.remove()


class _Link:
    """One wrapper in the chain of those around `nn.Module.__call__`.

    The first one makes room on the stack for the wrappers' own frames, the last one to go takes it
    back; the same with the stance in which compiled networks run eagerly. The chain hangs on torch
    itself, so that nothing is left where no recording is under way.

    Attributes:
        previous: what the wrapper calls.
        observer: what sees the calls; None once the link is removed, since a network that was
            compiled under it holds on to the wrapper.
        eager: whether compiled networks run eagerly while it is in the chain.
        stance: what ends that, shared by all links that need it.
    """

    def __init__(self, wrapper: Any, observer: CallObserver, *, eager: bool) -> None:
        self.eager = eager
        self.stance: Any = None
        self.wrapper = wrapper
        self.observer: CallObserver | None = observer
        self.previous: Any = None
        self.limits = (0, 0)
        wrapper.link = self

    def insert(self) -> None:
        """Put the wrapper on top."""
        self.previous = nn.Module.__call__
        below = getattr(self.previous, "link", None)
        if below is None:
            limit = sys.getrecursionlimit()
            self.limits = limit, 2 * limit
            sys.setrecursionlimit(2 * limit)
        else:
            self.limits = below.limits
        # before torch._dynamo is there nothing can have been compiled, and it takes a second
        if self.eager and "torch._dynamo" in sys.modules:
            shared = (link.stance for link in _links() if link.stance is not None)
            self.stance = next(shared, None) or torch.compiler.set_stance("force_eager")
        nn.Module.__call__ = self.wrapper  # type: ignore[method-assign]

    def remove(self) -> None:
        """Take the wrapper out, wherever in the chain it is."""
        self.observer = None
        above = getattr(nn.Module.__call__, "link", None)
        if above is self:
            nn.Module.__call__ = self.previous  # type: ignore[method-assign]
        while above is not None and above is not self:
            below = getattr(above.previous, "link", None)
            if below is self:
                above.previous = self.previous
            above = below
        before, raised = self.limits
        if self.stance is not None and not any(link.stance for link in _links()):
            self.stance.__exit__(None, None, None)
        last = not hasattr(nn.Module.__call__, "link")
        if last and sys.getrecursionlimit() == raised:  # else the user has set another limit
            sys.setrecursionlimit(before)


def _links() -> Iterator[_Link]:
    """Yield the links of the chain, the topmost first."""
    link = getattr(nn.Module.__call__, "link", None)
    while link is not None:
        yield link
        link = getattr(link.previous, "link", None)
