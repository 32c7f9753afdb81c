"""Tensors without values in the place of those that one of many ranks holds."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn

from nnmagic.network.layers import device_of, named_buffers, named_parameters
from nnmagic.structure.meta import FakeTensors, on_meta, takes_fake_tensors
from nnmagic.tensors.shards import PLAIN


def dtype_on_rank(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Return the dtype of a tensor once the network is cast, as `net.to(dtype)` casts it."""
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


class RankTensors:
    """Makes a tensor without values for each of a network, of the shape and dtype of a rank's.

    They are fake tensors on the network's own device where it runs on such, so that torch takes the
    same kernels as there; meta tensors elsewhere.

    Args:
        network: the network, which still has its own tensors.
        shapes: the shapes of those parameters that a rank holds a part of, by their ids.
        dtype: what the floating-point ones are cast to; None leaves them as they are.

    Attributes:
        mode: in which a forward makes tensors.
    """

    def __init__(
        self,
        network: nn.Module,
        shapes: Mapping[int, tuple[int, ...]],
        dtype: torch.dtype | None,
    ) -> None:
        fakes = FakeTensors(device_of(network)) if takes_fake_tensors(network) else None
        self._make: Any = on_meta if fakes is None else fakes
        self._shapes = shapes
        self._dtype = dtype
        held = chain(named_parameters(network).values(), named_buffers(network).values())
        self._held = set(map(id, held))
        self._made: dict[Any, torch.Tensor] = {}
        self.mode: Any = torch.device("meta") if fakes is None else fakes.mode

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what stands for a tensor of the network; what is no part of it is not cast.

        One stands for all of the same form, as the layers of repeated blocks have them.
        """
        if id(tensor) not in self._held or type(tensor) not in PLAIN:
            return self._make(tensor)
        part = self._part_of(tensor)
        form = type(part), part.shape, part.stride(), part.dtype, part.requires_grad
        if form not in self._made:
            self._made[form] = self._make(part)
        return self._made[form]

    def clear(self) -> None:
        """Let go of the tensors."""
        self._made.clear()

    def arguments(self, value: Any) -> Any:
        """Return the arguments of a call, a tensor without values for each in them, cast too."""

        def empty(tensor: torch.Tensor) -> torch.Tensor:
            dtype = dtype_on_rank(tensor, self._dtype)
            if dtype is not tensor.dtype and type(tensor) in PLAIN and not tensor.is_nested:
                cast = torch.empty_like(tensor, dtype=dtype, device="meta")
                tensor = cast.requires_grad_(tensor.requires_grad)
            return self._make(tensor)

        return on_meta(value, empty)

    def _part_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a meta tensor of a rank's shape and dtype, the tensor itself where both are."""
        shape, dtype = self._shapes.get(id(tensor)), dtype_on_rank(tensor, self._dtype)
        if shape is None and dtype is tensor.dtype:
            return tensor
        if shape is None:
            part = torch.empty_like(tensor, dtype=dtype, device="meta")
        else:
            part = torch.empty(shape, dtype=dtype, device="meta")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(part, requires_grad=tensor.requires_grad)
        return part.requires_grad_(tensor.requires_grad)
