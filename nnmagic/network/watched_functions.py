"""Seeing the calls of functions of torch, wherever the user's code has imported them."""

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from threading import RLock
from types import CodeType, FunctionType
from typing import Any

import torch

from nnmagic.contexts import block
from nnmagic.torch_private import graph_task, skip_in_dynamo

Began = Callable[[str, Mapping[str, Any]], None]
"""Takes note of a call that begins: the function's name, and its arguments by their names."""

Ended = Callable[[str, Any], None]
"""Takes note of a call that returned: the function's name, and what it returned."""


def _watched_call(*args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    watched: Any = "the function"  # a constant that is exchanged: the code has torch's globals
    watched.tell_began(args, kwargs)
    output = watched.function(*args, **kwargs)
    watched.tell_ended(output)
    return output


class _Watched:
    """A function whose code is exchanged as long as somebody wants to see its calls.

    A function that was imported by its name is seen too, and it stays the same object.
    """

    def __init__(self, function: FunctionType) -> None:
        self.target = function
        self.signature = signature(function)
        self.torchs_code: CodeType = function.__code__
        self.function = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__
        )
        self.function.__kwdefaults__ = function.__kwdefaults__
        code, place = _watched_call.__code__, function.__code__
        constants = (self if each == "the function" else each for each in code.co_consts)
        self.code = code.replace(  # a warning says where it was raised: in torch's own code
            co_consts=tuple(constants),
            co_filename=place.co_filename,
            co_firstlineno=place.co_firstlineno,
            co_name=place.co_name,
        )
        self.began: tuple[Began, ...] = ()
        self.ended: tuple[Ended, ...] = ()

    def tell_began(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hand the arguments of a call to all who watch."""
        try:
            given = self.signature.bind(*args, **kwargs).arguments
            for note in self.began:
                note(self.target.__name__, given)
        except Exception:  # noqa: BLE001 - an observer observes: no error of ours gets out
            return

    def tell_ended(self, output: Any) -> None:
        """Hand what a call returned to all who watch."""
        try:
            for note in self.ended:
                note(self.target.__name__, output)
        except Exception:  # noqa: BLE001 - an observer observes: no error of ours gets out
            return

    def exchange(self) -> None:
        """Have the function run the code that tells, as long as anybody watches."""
        is_watched = bool(self.began or self.ended)
        if is_watched:
            skip_in_dynamo(self.code)
        self.target.__code__ = self.code if is_watched else self.torchs_code


_WATCHED: dict[FunctionType, _Watched] = {}
_LOCK = RLock()


def watch(
    functions: tuple[Any, ...], began: Began | None = None, ended: Ended | None = None
) -> Callable[[], None]:
    """Hand every call of some functions to those who take note; return what ends that.

    Args:
        functions: functions of torch's that are written in Python.
        began: takes note of a call that begins.
        ended: takes note of a call that returned.
    """
    with _LOCK:
        for function in functions:
            if function not in _WATCHED:
                _WATCHED[function] = _Watched(function)
        watched = [_WATCHED[function] for function in functions]
        for each in watched:
            each.began += () if began is None else (began,)
            each.ended += () if ended is None else (ended,)
            each.exchange()

    def leave() -> None:
        with _LOCK:
            for each in watched:
                each.began = tuple(note for note in each.began if note is not began)
                each.ended = tuple(note for note in each.ended if note is not ended)
                each.exchange()

    return leave


@block
def backwards(
    began: Callable[[tuple[torch.Tensor, ...]], None], ended: Callable[[], None] | None = None
) -> Iterator[None]:
    """See every backward that accumulates gradients, for the length of the block.

    One that is made inside another, to compute a checkpoint again, is passed over.

    Args:
        began: gets the tensors that `backward` was called on, before it runs.
        ended: is called when it has returned, if given; not after an exception.
    """

    def begins(name: str, given: Mapping[str, Any]) -> None:
        if graph_task() >= 0:
            return
        tensors = given["tensors"]
        began((tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors))

    def ends(name: str, output: Any) -> None:
        if ended is not None and graph_task() < 0:
            ended()

    leave = watch((torch.autograd.backward,), begins, ends)
    try:
        yield
    finally:
        leave()
