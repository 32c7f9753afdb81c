"""Wrappers around the user's code that leave every exception exactly as it is."""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, _GeneratorContextManager, redirect_stdout
from functools import wraps
from io import StringIO
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


class _Block(_GeneratorContextManager[Any]):
    """Does what the base class does, without an assignment to an attribute of the exception.

    `contextlib` puts the traceback back by `error.__traceback__ = …`, which an exception that is a
    frozen dataclass refuses by another exception.
    """

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool | None:
        __tracebackhide__ = True
        if kind is None:
            return super().__exit__(kind, error, traceback)
        error = kind() if error is None else error
        try:
            self.gen.throw(error)
        except BaseException as raised:
            # a generator turns a StopIteration that goes through it into a RuntimeError
            turned = isinstance(raised, RuntimeError) and raised.__cause__ is error
            if raised is error or (turned and isinstance(error, StopIteration)):
                BaseException.with_traceback(error, traceback)
                return False
            raise
        return True


def block(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Return a function that gives a context manager, as `contextlib.contextmanager` does."""

    @wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> Any:
        return cast(Any, _Block)(function, args, kwargs)

    return made


@block
def quiet() -> Iterator[None]:
    """Let what runs in the block print nothing, and warn of nothing."""
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def without_garbage_collection(function: Callable[P, T]) -> Callable[P, T]:
    """Switch the garbage collector off while a function runs that makes many short-lived objects.

    One full collection in a process that has loaded torch takes a quarter of a second.
    """

    @wraps(function)
    def without_collections(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        enabled = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            if enabled:
                gc.enable()

    return without_collections
