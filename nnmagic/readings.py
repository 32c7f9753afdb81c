"""The values of any tensor as NumPy arrays."""

import dis
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from nnmagic.statistics import PIECE, in_pieces
from nnmagic.tensors import PLAIN

NATIVE = frozenset(
    (
        torch.float32,
        torch.float64,
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
    )
)
"""The dtypes that NumPy reads in place, at full speed."""

DENSE = 1 << 16
"""A sparse tensor of at most this many values is read as a dense one."""


class Reading(NamedTuple):
    """Where the values of a tensor are.

    Attributes:
        whole: a dense tensor of the same shape, None where there is none.
        flat: the distinct values in one dimension, in any order.
        times: how many times each of them stands in the tensor.
        zeros: how many zeros there are besides.
    """

    whole: torch.Tensor | None
    flat: torch.Tensor
    times: int = 1
    zeros: int = 0

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the values in pieces; complex ones by absolute value, half precision as float32."""
        if self.flat.dtype in NATIVE:
            yield from in_pieces(self.flat.numpy())
            return
        for start in range(0, self.flat.numel(), PIECE):
            yield as_array(self.flat[start : start + PIECE])


def why_unreadable(tensor: torch.Tensor) -> str:
    """Return why the values of a tensor cannot be read, or an empty text."""
    if tensor.is_meta:
        return "on the meta device"
    if torch._is_functional_tensor(tensor):
        return "a functional tensor"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "inside torch.func"
    if _is_distributed(tensor):
        return _spread_over(tensor)
    kind = type(tensor)
    if kind not in PLAIN and _refuses(kind):
        return f"a {kind.__name__} refuses every function"
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__ and not tensor.is_nested:
        return f"a {kind.__name__} does not show them"
    return ""


def _refuses(kind: Any) -> bool:
    """Tell whether a subclass's `__torch_function__` can only raise.

    Its code is read: to call it could be noticed, by one that writes a log for example.
    """
    function: Any = getattr(kind.__torch_function__, "__func__", None)
    if not hasattr(function, "__code__"):
        return False
    return all(not each.opname.startswith("RETURN") for each in dis.get_instructions(function))


def _is_distributed(tensor: torch.Tensor) -> bool:
    module = sys.modules.get("torch.distributed.tensor")  # slow to import, and then none exists
    return module is not None and isinstance(tensor, module.DTensor)


def _spread_over(tensor: Any) -> str:
    """Return how a DTensor is spread over devices, empty where this process holds all of it."""
    sizes = tensor.device_mesh.shape
    return ", ".join(
        f"{placement} over {size} devices"
        for placement, size in zip(tensor.placements, sizes, strict=True)
        if size > 1 and not placement.is_replicate()
    )


def read(tensor: Any) -> Reading:
    """Return where the values of a readable tensor are, without a copy if that can be had."""
    if _is_distributed(tensor):
        tensor = tensor._local_tensor  # `to_local` would run DTensor's own code
    if tensor.is_nested:
        return Reading(None, torch.cat([part.reshape(-1) for part in _components(tensor)]))
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        numel = tensor.numel()
        if numel > DENSE and not tensor.is_mkldnn:
            values = _stored(tensor)
            return Reading(None, values, zeros=numel - values.numel())
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    tensor = tensor.resolve_neg()
    distinct = tensor
    if 0 in tensor.stride() and tensor.numel():
        for axis, stride in enumerate(tensor.stride()):
            if stride == 0:
                distinct = distinct.narrow(axis, 0, 1)
    times = tensor.numel() // distinct.numel() if distinct is not tensor else 1
    return Reading(tensor, _flat(distinct), times)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_contiguous():
        return tensor.view(-1)
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=strides.__getitem__, reverse=True)
    return tensor.permute(order).reshape(-1)  # a view where the memory has no gaps


def _components(tensor: Any) -> list[torch.Tensor]:
    """Return tensors that together hold the values of a nested one."""
    if tensor.layout is torch.strided:
        return list(tensor.detach().unbind())
    values, lengths = tensor._values.detach(), tensor._lengths
    if lengths is None:
        return [values]
    runs = zip(tensor._offsets.tolist(), lengths.tolist(), strict=False)
    return [values.narrow(tensor._ragged_idx - 1, start, length) for start, length in runs]


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()  # values at one place add up
    return tensor.values().reshape(-1)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return the values of a dense tensor; complex ones by absolute value, half as float32."""
    if tensor.is_complex():
        tensor = tensor.resolve_conj().to(torch.complex128).abs()
    elif tensor.dtype not in NATIVE:
        tensor = tensor.to(torch.float32)
    return tensor.numpy()
