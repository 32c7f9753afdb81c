"""Putting a network back after a run."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from nnmagic.contexts import block
from nnmagic.network.contents import CLOSED, Contents
from nnmagic.network.fingerprint import is_same
from nnmagic.network.layers import EVERY_MODULES, Layers, named_buffers
from nnmagic.tensors.metadata import is_lazy
from nnmagic.tensors.shards import part_here
from nnmagic.torch_private import buffers_of, parameters_of

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
    contents = _contents_of(layers)
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
        for tensor in map(part_here, tensors)
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


def _contents_of(layers: Layers) -> Contents:
    """Take note of what the containers among the attributes of modules hold.

    Those that every module has come first, all at once: most of them are empty.
    """
    contents, modules = Contents(), [module.__dict__ for module in layers.modules]
    try:
        every = list(chain.from_iterable(map(CONTAINERS_OF_EVERY_MODULE, modules)))
    except KeyError:  # a module that is made in a way of its own
        every = []
    if every and PLAIN_CONTAINERS.issuperset(map(type, every)):
        contents.note_plain(every, CONTENTS_DEPTH)
        modules = layers.own
    for attributes in filter(None, modules):
        contents.note(attributes.values(), CONTENTS_DEPTH)
    return contents


def _another(lazy: Any) -> torch.Tensor:
    """Return an uninitialized tensor for a run to fill: it becomes a full one in place."""
    return type(lazy)(requires_grad=lazy.requires_grad, device=lazy.device, dtype=lazy.dtype)
