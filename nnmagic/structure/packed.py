"""Packed weights: what a quantised layer holds in place of parameters."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.torch_private import methods_of, tree_leaves


class Stored(NamedTuple):
    """The shape and the stored dtype of one tensor in a packed weight.

    Attributes:
        shape: its shape, before it was packed.
        dtype: the dtype in which its values are stored.
    """

    shape: torch.Size
    dtype: torch.dtype


def holds_packed(module: nn.Module) -> bool:
    """Tell whether a module itself holds packed weights."""
    holds = torch.ScriptObject in map(type, module.__dict__.values())
    return holds and not isinstance(module, torch.jit.ScriptModule)


def packed_in(module: nn.Module) -> Iterator[Stored]:
    """Yield the tensors in the packed weights that a module itself holds."""
    for value in module.__dict__.values():
        if isinstance(value, torch.ScriptObject):
            yield from unpacked(value)


def unpacked(value: Any) -> Iterator[Stored]:
    """Yield the tensors in a packed weight, or in the packed weights that a cell is made of."""
    if isinstance(value, torch.Tensor):
        # weights in half precision are unpacked to float32; a bias is float32
        half = value.dim() > 1 and value.dtype is torch.float32
        yield Stored(value.shape, torch.float16 if half else value.dtype)
    elif isinstance(value, torch.ScriptObject):
        held: Any = value
        methods = methods_of(held)
        if "unpack" in methods:
            yield from unpacked(held.unpack())
        elif "__getstate__" in methods:
            state = tree_leaves(held.__getstate__())
            # a cell's biases are in its weights too
            weights = [each for each in state if isinstance(each, torch.ScriptObject)]
            yield from unpacked(weights or state)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from unpacked(each)


def matrices_of(value: Any) -> int:
    """Return the number of values in the matrices of packed weights, biases left out."""
    return sum(stored.shape.numel() for stored in unpacked(value) if len(stored.shape) > 1)
