"""A run in a thread of its own beside a leading one: it waits for what that gets and returns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from threading import Lock, Thread
from typing import Any, NamedTuple

import torch

from nnmagic.comparing.watched_run import CallKey, NetworkCall
from nnmagic.comparing.whole_values import Differences
from nnmagic.contexts import block
from nnmagic.network.autocast import casting_to, casts_here
from nnmagic.network.random_state import RandomState
from nnmagic.records.comparison.differences import Difference

Tensors = tuple[torch.Tensor, ...]

Names = dict[CallKey, CallKey] | None
"""The leading run's call for each of a follower's; None where the two have the same names."""


Found = dict[CallKey, Difference | None]
"""By the leading run's call how far something of the two lies apart."""


class Event(NamedTuple):
    """A call of the leading run that begins, or one that ends."""

    key: CallKey
    is_end: bool


class Cancelled(BaseException):
    """Ends a run that nobody needs any more, past the user's own `except Exception`."""


class Follower(ABC):
    """A run that waits at each of its calls until the leading run is there too.

    One of the two runs at any time. It has a random state of its own, which begins as the one that
    it was made in; grad mode, inference mode and autocast are those of the thread that made it.

    Args:
        call: the call to make.
        twins: which calls of the leading run stand for this one's.
        around: entered for the run.

    Attributes:
        inputs: by the leading run's call how far what the two got lies apart.
        outputs: how far what they returned does.
        differences: compares tensors of the two.
        entered: what entering it gave.
        error: the exception by which the run ended.
        running: the leading run's calls for those that are in progress here, outermost first.
    """

    def __init__(
        self,
        call: NetworkCall,
        twins: Names = None,
        around: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.inputs: Found = {}
        self.outputs: Found = {}
        self.differences = Differences()
        self.entered: Any = None
        self.error: BaseException | None = None
        self.running: list[CallKey] = []
        self._call, self._twins, self._around = call, twins, around or nullcontext()
        self._wanted = None if twins is None else set(twins.values())
        self._held: dict[Event, Tensors] = {}
        self._held_at_begin: list[int] = []
        self._awaited: tuple[Event | None, ...] = ()
        self._here: tuple[Event, Tensors] | None = None
        self._is_alone = self._is_over = self._is_cancelled = False
        self._go, self._paused = Lock(), Lock()  # each held until the other thread lets it go
        self._go.acquire()
        self._paused.acquire()
        self._random, self._modes = RandomState(), modes_here()
        self._thread = Thread(target=self._run, name="nnmagic: the other side", daemon=True)
        self._thread.start()

    @abstractmethod
    def began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any], theirs: Tensors
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Look at a call that begins; return the arguments that the layer gets.

        Args:
            key: the leading run's call.
            args: the positional arguments here.
            kwargs: the keyword arguments.
            theirs: the tensors that the leading run's call got.
        """

    @abstractmethod
    def ended(self, key: CallKey, output: Any, theirs: Tensors) -> Any:
        """Look at what a call returned; return what its caller gets."""

    def begin(self) -> None:
        """Go on to the first call."""
        self._resume()

    def meet(self, event: Event, tensors: Tensors) -> None:
        """Go on from a call of the leading run; what is not asked for yet is copied and held."""
        if self._is_over or (self._wanted is not None and event.key not in self._wanted):
            return
        asked = False
        while event in self._awaited:
            asked = asked or event == self._awaited[0]
            self._here = event, tensors
            self._resume()
        self._here = None
        if not asked and not self._is_over:
            self._held[event] = tuple(each.detach().clone() for each in tensors)

    def finish(self, *, cancel: bool = False) -> None:
        """Go on alone to the end, or end where it is."""
        self._is_alone, self._is_cancelled = True, cancel
        while not self._is_over:
            self._resume()
        self._thread.join()
        self._held.clear()

    def _resume(self) -> None:
        leading = RandomState()
        self._random.set()
        self._go.release()
        self._paused.acquire()
        self._random = RandomState()
        leading.set()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._is_cancelled:
                with self._modes(), self._around as self.entered:
                    self._call.watched(self._began, self._ended)
        except BaseException as error:  # noqa: BLE001 - the leading run goes on, a line says so
            self.error = None if isinstance(error, Cancelled) else error
        finally:
            self._is_over, self._awaited = True, ()
            self._paused.release()

    def _at(self, event: Event) -> Tensors | None:
        """Wait for a call of the leading run; None if it ends, or its caller does, without it."""
        if event in self._held:
            return self._held.pop(event)
        if self._is_alone:
            return None
        caller = Event(self.running[-1], is_end=True) if self.running else None
        self._awaited = event, caller
        self._paused.release()
        self._go.acquire()
        self._awaited = ()
        if self._is_cancelled:
            raise Cancelled
        here, self._here = self._here, None
        return here[1] if here is not None and here[0] == event else None

    def _twin(self, key: CallKey) -> CallKey | None:
        return key if self._twins is None else self._twins.get(key)

    def _began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        twin = self._twin(key)
        theirs = None if twin is None else self._at(Event(twin, is_end=False))
        if twin is None or theirs is None:
            return args, kwargs
        args, kwargs = self.began(twin, args, kwargs, theirs)
        self.running.append(twin)
        self._held_at_begin.append(len(self._held))
        return args, kwargs

    def _ended(self, key: CallKey, output: Any) -> Any:
        twin = self._twin(key)
        if twin not in self.running:
            return output
        held = 0
        while self.running:  # a layer's error may have been caught by its caller
            held = self._held_at_begin.pop()
            if self.running.pop() == twin:
                break
        theirs = self._at(Event(twin, is_end=True))
        while len(self._held) > held:  # of calls inside, which has none here
            self._held.popitem()
        return output if theirs is None else self.ended(twin, output, theirs)


def modes_here() -> Callable[[], Any]:
    """Return what enters the modes of this thread in another: gradients, inference, autocast."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    casts, device = casts_here(), torch.get_default_device()

    @block
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(inference))
            stack.enter_context(torch.set_grad_enabled(grad))
            stack.enter_context(casting_to(casts))
            if device.type != "cpu":
                stack.enter_context(device)
            yield

    return entered
