"""Seeing the calls of torch's loss functions, which their layers make too."""

from collections.abc import Callable, Mapping
from inspect import signature
from threading import RLock
from types import CodeType, FunctionType
from typing import Any

import torch.nn.functional as F

from nnmagic.torch_private import skip_in_dynamo

WATCHED: tuple[Any, ...] = (
    F.cross_entropy,
    F.nll_loss,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
)

Note = Callable[[str, Mapping[str, Any]], None]
"""Takes note of a loss: the name of its function, and its arguments by their names."""


def _watched_call(*args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    watched: Any = "the function"  # a constant that is exchanged: the code has torch's globals
    watched.tell(args, kwargs)
    return watched.function(*args, **kwargs)


class Watched:
    """A function of torch whose code is exchanged as long as somebody wants to see its calls.

    A function that was imported by its name is seen too, and it stays the same object.
    """

    def __init__(self, function: FunctionType) -> None:
        self.target = function
        self.signature = signature(function)
        self.torchs_code: CodeType = function.__code__
        self.function = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__
        )
        code, place = _watched_call.__code__, function.__code__
        constants = (self if each == "the function" else each for each in code.co_consts)
        self.code = code.replace(  # a warning says where it was raised: in torch's own code
            co_consts=tuple(constants),
            co_filename=place.co_filename,
            co_firstlineno=place.co_firstlineno,
            co_name=place.co_name,
        )
        self.notes: tuple[Note, ...] = ()

    def tell(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hand the arguments of a call to all who watch."""
        try:
            given = self.signature.bind(*args, **kwargs).arguments
            for note in self.notes:
                note(self.target.__name__, given)
        except Exception:  # noqa: BLE001 - an observer observes: no error of ours gets out
            return

    def add(self, note: Note) -> None:
        """Hand every call to `note`, until it is removed."""
        with _LOCK:
            self.notes = (*self.notes, note)
            skip_in_dynamo(self.code)
            self.target.__code__ = self.code

    def remove(self, note: Note) -> None:
        """Hand it no more calls."""
        with _LOCK:
            self.notes = tuple(other for other in self.notes if other is not note)
            if not self.notes:
                self.target.__code__ = self.torchs_code


_FUNCTIONS: list[Watched] = []
_LOCK = RLock()


def watch_losses(note: Note) -> None:
    """Hand every call of a loss function to `note`, until `leave_losses`."""
    with _LOCK:
        if not _FUNCTIONS:
            _FUNCTIONS.extend(map(Watched, WATCHED))
        for each in _FUNCTIONS:
            each.add(note)


def leave_losses(note: Note) -> None:
    """Hand no more calls to `note`."""
    with _LOCK:
        for each in _FUNCTIONS:
            each.remove(note)
