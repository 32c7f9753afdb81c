"""What containers hold, and putting it back: by their base class, where it changed, or not at all.

A container's own class may refuse to be written (a frozen dictionary), or tell others of each write
(a list with listeners). So a container is read and written by the methods of `dict`, `list`, `set`
and the like, and one that did not change is not written.
"""

import builtins
import types
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from operator import is_
from typing import Any

from torch import Tensor, nn

from nnmagic.network.layers import ATOMS

CODE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, property)

CLOSED = ATOMS | {Tensor, nn.Parameter, *CODE}
"""The types of the values that hold nothing to be put back."""

LIBRARIES = frozenset({"builtins", "torch"})
"""Where there are types whose values hold nothing but what their own code puts there."""

MOST_COPIED, MOST_ENTERED = 100_000, 1000
"""Larger containers are not looked at, or not into."""


NAMES = vars(builtins)

BASES = (OrderedDict, dict, list, set, deque)


def base_of(kind: type) -> Any:
    """Return the type of container that a type is or derives from; None if it is no container."""
    return kind if kind in BASES else next((b for b in BASES if issubclass(kind, b)), None)


class Contents:
    """What containers, and those within them, held when it was noted."""

    def __init__(self) -> None:
        # the names of Python itself are in every file of code
        self._noted: dict[int, tuple[Any, Any]] = {id(NAMES): (NAMES, NAMES)}
        self._empty: list[Any] = []  # most of the containers that every module has
        self._closed: set[type] = set(CLOSED)

    def before(self, container: Any) -> Any:
        """Return what a container held: a dict or a list; None if that was not noted."""
        _, content = self._noted.get(id(container), (None, None))
        return content

    def holding(self, values: Mapping[int, Any]) -> list[Any]:
        """Return the containers that hold one of some values now.

        Args:
            values: the values by their `id`.
        """
        return [
            container
            for container, _ in self._noted.values()
            if any(id(each) in values for each in _values(base_of(type(container)), container))
        ]

    def note_plain(self, containers: Iterable[Any], depth: int) -> None:
        """Take note of what dicts, lists and sets hold that are of no other class."""
        filled: list[Any] = []
        for each in containers:
            (filled if each else self._empty).append(each)
        self.note(filled, depth)

    def note(self, values: Iterable[Any], depth: int) -> None:
        """Take note of what is in those of the values that are containers.

        Args:
            values: what to look at.
            depth: how many containers and objects deep.
        """
        for value in values:
            kind = type(value)
            if kind in self._closed:
                continue
            base = base_of(kind)
            if base is not None:
                if id(value) not in self._noted and base.__len__(value) <= MOST_COPIED:
                    content = self._noted[id(value)] = value, _copied(base, value)
                    inside = content[1].values() if type(content[1]) is dict else content[1]
                    if depth == 1 or len(inside) > MOST_ENTERED:
                        continue
                    if not self._closed.issuperset(map(type, inside)):
                        self.note(inside, depth - 1)
            elif issubclass(kind, tuple):
                if depth > 1:
                    self.note(tuple.__iter__(value), depth - 1)
            elif kind.__module__ in LIBRARIES or issubclass(kind, Tensor | nn.Module | type):
                self._closed.add(kind)  # modules and classes are for others to look at
            elif depth > 1 and type(attributes := getattr(value, "__dict__", None)) is dict:
                self.note((attributes,), depth - 1)  # an object of the user's

    def put_back(self) -> None:
        """Let every container have what it had."""
        for container in filter(None, self._empty):
            container.clear()
        for container, content in self._noted.values():
            base = base_of(type(container))
            if not _is_as_before(base, container, content):
                replace(container, content)


def replace(container: Any, content: Any) -> None:
    """Give a container another content: a dict or a list, as `Contents.before` returns it."""
    base = base_of(type(container))
    if base is list:
        list.__setitem__(container, slice(None), content)
        return
    if base is not dict or (*dict.keys(container),) != (*content,):
        base.clear(container)
    if base is OrderedDict:  # its own update would call a subclass's __setitem__
        for key, value in content.items():
            OrderedDict.__setitem__(container, key, value)
    else:
        (deque.extend if base is deque else base.update)(container, content)


def _copied(base: Any, container: Any) -> Any:
    if base is OrderedDict:
        return dict(OrderedDict.items(container))
    if base is deque:
        return list(deque.__iter__(container))
    if base is dict and type(container) is not dict:  # to be copied it would be asked for its keys
        return dict(zip(dict.keys(container), dict.values(container), strict=True))
    return base.copy(container)


def _values(base: Any, container: Any) -> Any:
    return base.values(container) if issubclass(base, dict) else list(base.__iter__(container))


def _is_as_before(base: Any, container: Any, content: Any) -> bool:
    if base.__len__(container) != len(content):
        return False
    if issubclass(base, dict):
        return all(map(is_, base.values(container), content.values())) and all(
            map(is_, base.keys(container), content)
        )
    return all(map(is_, base.__iter__(container), content))
