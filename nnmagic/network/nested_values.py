"""The shapes of nested values, and the tensors in them."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from itertools import count
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from nnmagic.display.units import Shape
from nnmagic.tensors.metadata import shape_of
from nnmagic.tensors.shards import PLAIN

LEAVES = frozenset((type(None), bool, int, float, complex, str, bytes))
"""What holds no tensor: a list of a million of them is passed over quickly."""

NONE_NAMED: Mapping[str, Any] = MappingProxyType({})

DEEPEST = 64
"""What is nested deeper is not looked for."""


ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

LONGEST_KEY = 60
"""How much is kept of the repr of a key."""

FLAT = LEAVES | {torch.Tensor}

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

FORWARDS = WeakKeyDictionary[type[nn.Module], tuple[str, ...]]()
"""The names of the positional parameters of each class's forward, kept: they take 10 us to read."""


def tensors_side_by_side(
    values: tuple[Any, ...], named: Mapping[str, Any] = NONE_NAMED
) -> list[torch.Tensor] | None:
    """Return the tensors of a tuple in which each is one value; None where that is not so.

    Args:
        values: the tuple.
        named: further values, none of which may be a tensor or a container.
    """
    if FLAT.issuperset(map(type, values)) and LEAVES.issuperset(map(type, named.values())):
        return [value for value in values if type(value) is torch.Tensor]
    return None


def tensors_in(value: Any) -> tuple[Shape, tuple[torch.Tensor, ...]]:
    """Return the nested shapes of a value, and its tensors in the order of the nesting.

    Tuples, lists and named tuples become tuples; mappings and dataclasses become dicts; what holds
    no tensor is dropped. A value without any tensor has the shape None.
    """
    if type(value) in PLAIN:
        return shape_of(value), (value,)
    tensors: list[torch.Tensor] = []
    return _shapes(value, tensors, set()), tuple(tensors)


def tensors_of_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Shape, tuple[torch.Tensor, ...]]:
    """Return the nested shapes of a call's arguments, and their tensors.

    One positional tensor: its shape. Otherwise a tuple of the positional ones, with a dict of the
    keyword ones last if there are any.
    """
    if len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor):
        return shape_of(args[0]), args
    if not kwargs:
        return tensors_in(args)
    tensors: list[torch.Tensor] = []
    positional = _shapes(args, tensors, set()) or ()
    keyword = _shapes(kwargs, tensors, set())
    shape = positional if keyword is None else (*positional, keyword)
    return shape or None, tuple(tensors)


def names_in(value: Any) -> tuple[str, ...]:
    """Return what each tensor in a value is called there, in the order of the nesting.

    Keys of mappings, fields of dataclasses and named tuples, positions in other tuples and lists,
    joined by dots: ``("logits", "past.0")``; of a single tensor ``("",)``.
    """
    names: list[str] = []
    _name(value, (), names, set())
    return tuple(names)


def names_of_arguments(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return what each tensor in a layer's arguments is called, as `names_in`.

    A positional argument has the name that the layer's forward gives it, else its number.
    """
    known = _forward_names(type(module))
    positional = {
        known[place] if place < len(known) else str(place): each for place, each in enumerate(args)
    }
    return names_in({**positional, **kwargs})


def _forward_names(kind: type[nn.Module]) -> tuple[str, ...]:
    names = FORWARDS.get(kind)
    if names is None:
        try:
            _, *parameters = signature(kind.forward).parameters.values()
        except Exception:  # noqa: BLE001 - an observer observes: what has no signature has no names
            parameters = []
        names = tuple(each.name for each in parameters if each.kind in POSITIONAL)
        FORWARDS[kind] = names
    return names


def _name(value: Any, path: tuple[str, ...], names: list[str], parents: set[int]) -> None:
    if issubclass(type(value), torch.Tensor):
        names.append(".".join(path))
    elif id(value) not in parents and len(parents) <= DEEPEST:
        for key, part in _parts(value):
            own = str(key) if isinstance(key, str | int) else _key_text(key)
            _name(part, (*path, own), names, parents | {id(value)})


def _shapes(value: Any, tensors: list[torch.Tensor], parents: set[int]) -> Shape:
    kind = type(value)  # `isinstance` would ask the value for its class, which may raise
    if issubclass(kind, torch.Tensor):
        tensors.append(value)
        return shape_of(value)
    if id(value) in parents or len(parents) > DEEPEST:
        return None  # a container that holds itself, or all but does
    parents.add(id(value))
    shapes = []
    for key, part in _parts(value):
        shape = _shapes(part, tensors, parents)
        if shape is not None:
            shapes.append((key, shape))
    parents.discard(id(value))
    if not shapes:
        return None
    if issubclass(kind, tuple | list):
        return tuple(shape for _, shape in shapes)
    named: dict[str | int, Shape] = {}
    for key, shape in shapes:
        name = key if isinstance(key, str | int) else _key_text(key)
        own = name
        for number in count(2):
            if own not in named:
                break
            own = f"{name}#{number}"  # two objects of one class
        named[own] = shape
    return named


def _key_text(key: Any) -> str:
    """Return the repr of a key, without what differs from run to run or is read off a device."""
    kind = type(key)
    if issubclass(kind, torch.Tensor):
        return f"{kind.__name__} {shape_of(key)}"
    if kind is tuple:
        return f"({', '.join(map(_key_text, key))}{',' * (len(key) == 1)})"
    if kind is frozenset:
        return f"frozenset({{{', '.join(sorted(map(_key_text, key)))}}})"
    try:
        text = repr(key)
    except Exception:  # noqa: BLE001 - it is the user's code that fails here
        text = kind.__name__
    text = " ".join(ADDRESS.sub("", text).split())
    return text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}…"


def _fields(value: Any) -> tuple[str, ...]:
    """Return the names of the fields of a named tuple; torch's own have them elsewhere."""
    kind = type(value)
    if kind is tuple or not issubclass(kind, tuple):
        return ()
    return tuple(getattr(kind, "_fields", ()) or getattr(kind, "__match_args__", ()))


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return what a container holds, its leaves left out.

    A container of the user's that cannot be read holds nothing; so does any other object.
    """
    try:
        if isinstance(value, tuple | list):
            parts: Iterable[tuple[Any, Any]] = zip(_fields(value) or count(), value, strict=False)
        elif isinstance(value, Mapping):
            parts = value.items()
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = (each.name for each in dataclasses.fields(value))
            parts = ((name, getattr(value, name, None)) for name in names)
        else:
            return []
        return [(key, part) for key, part in parts if type(part) not in LEAVES]
    except Exception:  # noqa: BLE001 - it is the user's code that fails here
        return []
