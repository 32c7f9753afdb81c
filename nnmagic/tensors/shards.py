"""Tensors that are spread over the processes of a distributed run: the part that is here.

No other process is ever asked: a layer's call may be in the middle of anything.
"""

from typing import Any

import torch
from torch import nn

from nnmagic.torch_private import async_results, distributed_tensors, local_tensor

PLAIN = (torch.Tensor, nn.Parameter)
"""The types of tensors that hold their values themselves."""


def part_here(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of a tensor: of a DTensor its local part, else the tensor.

    The result of a collective that is under way is waited for, as by any other use of it.
    """
    if type(tensor) in PLAIN:
        return tensor
    held: Any = local_tensor(tensor) if isinstance(tensor, distributed_tensors()) else tensor
    return held.trigger_wait() if isinstance(held, async_results()) else held


def is_spread(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is a DTensor, which the processes of a mesh hold together."""
    return type(tensor) not in PLAIN and isinstance(tensor, distributed_tensors())


def is_whole(value: Any) -> bool:
    """Tell whether a tensor's values are here, and in its own memory.

    Those of a DTensor, and of what a collective is about to fill, are in another tensor's: an
    operation that their own code does not see would read where there is nothing.
    """
    return type(value) in PLAIN or not isinstance(value, (distributed_tensors(), async_results()))


def is_partial(tensor: Any) -> bool:
    """Tell whether a tensor is a DTensor of which a process has not the whole values."""
    return is_spread(tensor) and not all(each.is_replicate() for each in tensor.placements)


def placements_of(tensor: Any) -> tuple[str, ...]:
    """Return how a DTensor lies on each axis of its mesh: `("Shard(0)", "Replicate()")`."""
    return tuple(repr(each).replace("dim=", "") for each in tensor.placements)


def mesh_of(tensor: Any) -> tuple[tuple[int, int], ...]:
    """Return where this process is on each axis of a DTensor's mesh, and how many there are.

    A process that is not part of the mesh has no axes.
    """
    mesh = tensor.device_mesh
    return tuple(zip(mesh.get_coordinate() or (), mesh.shape, strict=False))
