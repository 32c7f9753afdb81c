"""Putting a network, and the random state, back after a run."""

import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from nnmagic.contexts import block
from nnmagic.network.fingerprint import is_same
from nnmagic.network.layers import ATOMS, EVERY_MODULES, Layers, named_buffers
from nnmagic.tensors.metadata import is_lazy
from nnmagic.torch_private import buffers_of, parameters_of

CONTAINERS = (dict, OrderedDict, list, set, deque)

CLOSED = ATOMS | {Tensor, nn.Parameter}
"""The types of the values that hold nothing to be put back."""

PLAIN_CONTAINERS = frozenset({dict, OrderedDict, set})

CONTAINERS_OF_EVERY_MODULE = itemgetter(
    *(name for name, value in EVERY_MODULES.items() if type(value) in PLAIN_CONTAINERS)
)

CONTENTS_DEPTH = 4
"""How deep containers and objects within an attribute are put back."""


@block
def preserved(
    network: nn.Module, *, buffers: bool = True, layers: Layers | None = None
) -> Iterator[Layers]:
    """Put back everything that the modules of a network hold, on every way out of the block.

    Attributes, submodules, parameters, hooks, modes and the contents of plain containers are what
    they were, lazy layers still lazy; the values of buffers too, unless `buffers` is false.

    Args:
        network: the network.
        buffers: whether to copy the values of buffers.
        layers: its layers as they are now, where they are at hand.

    Yields:
        The layers.
    """
    layers = layers or Layers(network)
    modules = layers.modules
    held = [
        (module, type(module), (*module.__dict__,), (*module.__dict__.values(),))
        for module in modules
    ]
    contents = _Contents()
    contents.note_all([module.__dict__ for module in modules], layers.own)
    lazy: dict[int, Any] = {}
    for module in modules:
        for registry in (parameters_of(module), buffers_of(module)):
            if CLOSED.issuperset(map(type, registry.values())):
                continue
            for name, tensor in registry.items():
                if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
                    registry[name] = lazy.setdefault(id(tensor), _another(tensor))
    try:
        with values_kept(named_buffers(network).values() if buffers else ()):
            yield layers
    finally:
        for module, cls, names, values in held:
            if type(module) is not cls:
                module.__class__ = cls  # a lazy module becomes its full self in a run
            attributes = module.__dict__
            # a dict that is filled anew shares no keys with others of its class: slower for good
            same = len(attributes) == len(values) and all(map(is_, attributes.values(), values))
            if not same or (*attributes,) != names:
                attributes.clear()
                attributes.update(zip(names, values, strict=True))
        contents.put_back()


@block
def values_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Put the values of strided tensors back that are not on meta, where the block changes them."""
    copies = [
        (tensor, tensor.detach().clone())
        for tensor in tensors
        if not (tensor.is_meta or is_lazy(tensor) or tensor.is_nested)
        if tensor.layout is torch.strided
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in copies:
                if not is_same(tensor.detach(), value):
                    tensor.copy_(value)


def _another(lazy: Any) -> torch.Tensor:
    """Return an uninitialized tensor for a run to fill: it becomes a full one in place."""
    return type(lazy)(requires_grad=lazy.requires_grad, device=lazy.device, dtype=lazy.dtype)


class _Contents:
    """What is in plain containers, and in those within them."""

    def __init__(self) -> None:
        self.filled: dict[int, tuple[Any, Any]] = {}
        self.empty: list[Any] = []  # most of the containers that every module has
        self._closed = set(CLOSED)

    def note_all(self, modules: list[dict[str, Any]], own: list[dict[str, Any]]) -> None:
        """Take note of what the attributes of modules hold.

        The containers that every module has come first, all at once: most of them are empty.

        Args:
            modules: all attributes of each module.
            own: those of them that not every module has, and that may hold something.
        """
        try:
            every = list(chain.from_iterable(map(CONTAINERS_OF_EVERY_MODULE, modules)))
        except KeyError:  # a module that is made in a way of its own
            every = []
        if every and PLAIN_CONTAINERS.issuperset(map(type, every)):
            self.empty += [each for each in every if not each]
            self.note([each for each in every if each], CONTENTS_DEPTH)
            for attributes in filter(None, own):
                self.note(attributes.values(), CONTENTS_DEPTH)
        else:
            for attributes in modules:
                self.note(attributes.values(), CONTENTS_DEPTH)

    def note(self, values: Iterable[Any], depth: int) -> None:
        """Take note of what is in those of the values that are containers."""
        for value in values:
            kind = type(value)
            if kind in self._closed:
                continue
            if kind in CONTAINERS or issubclass(kind, CONTAINERS):
                if not value:
                    self.empty.append(value)
                elif id(value) not in self.filled:
                    self.filled[id(value)] = value, value.copy()
                    if depth > 1:
                        inside = value.values() if issubclass(kind, dict) else value
                        if not self._closed.issuperset(map(type, inside)):
                            self.note(inside, depth - 1)
            elif issubclass(kind, Tensor | nn.Module):
                self._closed.add(kind)  # a tensor holds nothing, the modules are all noted
            elif depth > 1:
                self.note(_inside(value), depth - 1)

    def put_back(self) -> None:
        """Let every container have what it had."""
        for container in filter(None, self.empty):
            container.clear()
        for container, content in self.filled.values():
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(content)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, tuple):
        return value
    kind = type(value)
    if kind.__module__ in ("builtins", "torch") or isinstance(value, nn.Module | Tensor | type):
        return ()
    # an object of the user's: its attributes are a container too
    return [vars(value)] if hasattr(value, "__dict__") else ()


@block
def random_state_kept(seed: int | None = None) -> Iterator[None]:
    """Put the random state of torch's CPU generator and of Python back after the block.

    Args:
        seed: what torch's generator starts from in the block; None leaves it as it is.
    """
    python, torchs = random.getstate(), torch.default_generator.get_state()
    try:
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        torch.default_generator.set_state(torchs)
