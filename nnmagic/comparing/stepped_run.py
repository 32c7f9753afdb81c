"""A run in a thread of its own that waits at each call until somebody has looked at it."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Semaphore, Thread
from typing import Any

import torch

from nnmagic.comparing.watched_run import CallKey, NetworkCall
from nnmagic.contexts import block
from nnmagic.network.nested_values import tensors_in

Tensors = tuple[torch.Tensor, ...]

BEGAN, ENDED = "began", "ended"

Event = tuple[CallKey, str]
"""A call, and whether it begins or ends."""


class Cancelled(BaseException):
    """Ends a run that nobody looks at any more, past the user's own `except Exception`."""


class SteppedRun:
    """A run that goes on only while somebody waits for one of its calls.

    It has a random state of its own, which begins as the one that it was made in; grad mode,
    inference mode and autocast are those of the thread that made it. One of the two threads runs at
    any time.

    Args:
        call: the call to make.
        wanted: the calls that will be asked for.
    """

    def __init__(self, call: NetworkCall, wanted: set[CallKey]) -> None:
        self.error: BaseException | None = None
        self._call, self._wanted = call, wanted
        self._held: dict[Event, Tensors] = {}
        self._here: tuple[Event, Tensors] | None = None
        self._is_over = self._is_cancelled = False
        self._go, self._paused = Semaphore(0), Semaphore(0)
        self._random = RandomState()
        self._modes = modes_here()
        self._thread = Thread(target=self._run, name="nnmagic: the other side", daemon=True)
        self._thread.start()

    def at(self, key: CallKey, kind: str) -> Tensors | None:
        """Go on to the begin or the end of a call; return what it got or returned.

        None where the run ends before. What it passes on the way is copied and held.
        """
        event = key, kind
        while event not in self._held and not self._is_over:
            if self._here is not None and self._here[0] == event:
                return self._here[1]
            self._hold()
            self._step()
        return self._held.pop(event, None)

    def close(self) -> None:
        """End the run where it is."""
        self._is_cancelled = True
        self._held.clear()
        self._here = None
        while not self._is_over:
            self._step()
        self._thread.join()

    def _hold(self) -> None:
        if self._here is not None:
            event, tensors = self._here
            self._held[event] = tuple(each.detach().clone() for each in tensors)
            self._here = None

    def _step(self) -> None:
        mine = RandomState()
        self._random.set()
        self._go.release()
        self._paused.acquire()
        self._random = RandomState()
        mine.set()

    def _run(self) -> None:
        self._go.acquire()
        try:
            with self._modes():
                if not self._is_cancelled:
                    self._call.watched(self._began, self._ended)
        except BaseException as error:  # noqa: BLE001 - the run beside it goes on
            self.error = None if isinstance(error, Cancelled) else error
        finally:
            self._is_over = True
            self._paused.release()

    def _began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if key in self._wanted:
            self._wait((key, BEGAN), tensors_in((args, kwargs))[1])
        return args, kwargs

    def _ended(self, key: CallKey, output: Any) -> Any:
        if key in self._wanted:
            self._wait((key, ENDED), tensors_in(output)[1])
        return output

    def _wait(self, event: Event, tensors: Tensors) -> None:
        self._here = event, tensors
        del tensors
        self._paused.release()
        self._go.acquire()
        if self._is_cancelled:
            raise Cancelled


class RandomState:
    """The state of torch's generators, and of Python's, as it is now."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._cpu = torch.default_generator.get_state()
        self._devices = [(generator, generator.get_state()) for generator in _device_generators()]

    def set(self) -> None:
        """Put it back."""
        random.setstate(self._python)
        torch.default_generator.set_state(self._cpu)
        for generator, state in self._devices:
            generator.set_state(state)


def _device_generators() -> tuple[torch.Generator, ...]:
    return torch.cuda.default_generators if torch.cuda.is_initialized() else ()


def modes_here() -> Callable[[], Any]:
    """Return what enters the modes of this thread in another: gradients, inference, autocast."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    kinds = ["cpu", *(["cuda"] if torch.cuda.is_initialized() else [])]
    casts = [
        torch.autocast(kind, torch.get_autocast_dtype(kind))
        for kind in kinds
        if torch.is_autocast_enabled(kind)
    ]
    device = torch.get_default_device()

    @block
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(inference))
            stack.enter_context(torch.set_grad_enabled(grad))
            for cast in casts:
                stack.enter_context(cast)
            if device.type != "cpu":
                stack.enter_context(device)
            yield

    return entered
