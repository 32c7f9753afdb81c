"""The tensors of a network, a state dict or a checkpoint, by name."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from nnmagic.display.units import listed
from nnmagic.network.layers import layers_by_every_name
from nnmagic.records.comparison.sides import Side
from nnmagic.tensors.shards import part_here
from nnmagic.torch_private import (
    buffers_of,
    parameters_of,
    saved_by_torch,
    storage_id,
    transient_buffers_of,
)

ENTRIES = (
    *("state_dict", "model_state_dict", "model", "module", "net", "network", "params", "weights"),
    *("params_ema", "ema", "state_dict_ema", "model_ema", "generator"),
)
"""Where checkpoints have the state dict, the likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTensors(Side):
    """Tensors by name, each to be had when it is asked for.

    Attributes:
        tensor: returns the tensor of a name.
    """

    tensor: Callable[[str], torch.Tensor]


def tensors_of_network(network: nn.Module, title: str, typed: str) -> NamedTensors:
    """Return what the state dict of a network holds: its parameters and persistent buffers.

    Args:
        network: the network; no code of its own is run.
        title: what the record calls it.
        typed: what stands for it in a line of Python.
    """
    found: dict[str, torch.Tensor] = {}
    kinds: dict[str, str] = {}
    for layer, module in layers_by_every_name(network).items():
        before = f"{layer}." if layer else ""
        persistent = {
            name: buffer
            for name, buffer in buffers_of(module).items()
            if name not in transient_buffers_of(module)
        }
        for held, kind in ((parameters_of(module), "parameter"), (persistent, "buffer")):
            tensors = {before + name: each for name, each in held.items() if each is not None}
            found |= tensors
            kinds |= dict.fromkeys(tensors, kind)
        for name, each in named_in(saved_by_torch(module), []):
            found.setdefault(before + name, each)
    return NamedTensors(
        title=title,
        typed=typed,
        keys={name: id(tensor) for name, tensor in found.items()},
        kinds=kinds,
        tensor=found.__getitem__,
    )


def tensors_of_mapping(mapping: Mapping[Any, Any], title: str, typed: str) -> NamedTensors:
    """Return the tensors of a state dict, or of the one in a checkpoint.

    Args:
        mapping: names and tensors, which may be nested.
        title: what the record calls it.
        typed: what stands for it in a line of Python.

    Raises:
        ValueError: if there is no tensor in it.
    """
    entry = entry_of(mapping)
    notes = []
    held: Any = mapping
    for key in entry:
        held = held[key]
    if entry:
        path = "".join(f"[{key!r}]" for key in entry)
        beside = [str(key) for key in mapping if key != entry[0]]
        more = f"; beside it: {listed(beside)}" if beside else ""
        notes.append(f"{title} is a checkpoint: {path} of it was compared{more}")
    if isinstance(held, nn.Module):
        return replace(tensors_of_network(held, title, typed), notes=tuple(notes))
    others: list[str] = []
    found = dict(named_in(held, others))
    if held and not found:
        raise ValueError(f"{title} holds no tensors; give a network or a state dict")
    if others and not entry:
        notes.append(f"entries of {title} without a tensor: {listed(others)}")
    return NamedTensors(
        title=title,
        typed=typed,
        keys={name: same_values(tensor) for name, tensor in found.items()},
        notes=tuple(notes),
        tensor=found.__getitem__,
    )


def entry_of(mapping: Mapping[Any, Any]) -> tuple[Any, ...]:
    """Return the keys that lead to the state dict in a checkpoint; none in a state dict itself."""
    if any(isinstance(each, torch.Tensor) for each in mapping.values()):
        return ()
    with_tensors = [key for key, each in mapping.items() if _holds_tensors(each)]
    known = [key for key in ENTRIES if key in with_tensors]
    if known or len(with_tensors) == 1:
        return ((known or with_tensors)[0],)
    for key in ENTRIES:
        if isinstance(mapping.get(key), Mapping) and (deeper := entry_of(mapping[key])):
            return (key, *deeper)
    return ()


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(each, torch.Tensor) for each in value.values())
    return isinstance(value, nn.Module)


def named_in(
    value: Any, others: list[str], name: str = "", parents: frozenset[int] = frozenset()
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of nested mappings and sequences, with dotted names.

    Args:
        value: a value of any kind.
        others: gets the names of what holds no tensor.
        name: the value's own name.
        parents: the containers that it is in, so that one may hold itself.
    """
    if isinstance(value, torch.Tensor):
        yield name, value
        return
    found = False
    inside: list[str] = []
    if isinstance(value, Mapping | list | tuple) and id(value) not in parents:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, each in items:
            full = f"{name}.{key}" if name else str(key)
            for pair in named_in(each, inside, full, parents | {id(value)}):
                found = True
                yield pair
    others.extend(inside if found else [name])


def same_values(tensor: torch.Tensor) -> Hashable:
    """Return a key that is equal for tensors that are one parameter: where their values lie.

    A state dict holds a new tensor for each name.
    """
    try:
        tensor = part_here(tensor)
        if tensor.numel() and not tensor.is_meta:
            start = storage_id(tensor), int(tensor.storage_offset())
            return *start, tensor.dtype, tuple(tensor.shape), tensor.stride()
    except (RuntimeError, NotImplementedError, ValueError):
        pass  # lazy, or without a storage
    return id(tensor)
