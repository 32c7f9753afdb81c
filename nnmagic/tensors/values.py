"""The values of any tensor as NumPy arrays."""

import dis
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch

from nnmagic import torch_private as private
from nnmagic.display.units import with_article
from nnmagic.tensors.shards import PLAIN, part_here
from nnmagic.tensors.statistics import PIECE

NATIVE_NAMES = "float32 float64 bool uint8 uint16 uint32 uint64 int8 int16 int32 int64"
NATIVE = frozenset(getattr(torch, name) for name in NATIVE_NAMES.split())
"""The dtypes that NumPy reads in place, at full speed."""

DENSE = 1 << 16
"""A sparse tensor of at most this many values is read as a dense one."""


Values = np.ndarray | torch.Tensor
"""Dense values on the CPU: an array if NumPy has their dtype, else a tensor."""


class DenseValues(NamedTuple):
    """The values of a tensor on the host, without a copy where that can be had.

    Attributes:
        whole: in the tensor's own shape; None where it has no dense one.
        flat: the distinct values in one dimension, in any order.
        repeats: how many times each of them stands in the tensor.
        zeros: how many zeros there are besides.
    """

    whole: Values | None
    flat: Values
    repeats: int = 1
    zeros: int = 0

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the values in pieces; complex ones by absolute value, half precision as float32."""
        for start in range(0, len(self.flat), PIECE):
            yield as_array(self.flat[start : start + PIECE])


def why_unreadable(tensor: torch.Tensor) -> str:
    """Return why the values of a tensor cannot be read, or an empty text."""
    tensor = part_here(tensor)
    kind = type(tensor)
    if tensor.is_meta:
        return "on the meta device"
    if private.is_functional(tensor):
        return "a functional tensor"
    if private.is_in_transform(tensor):
        return "inside a torch.func transform"
    if kind in PLAIN:
        return "its storage was freed" if storage_was_freed(tensor) else ""
    if _refuses(kind):
        return f"{with_article(kind.__name__)} refuses every function"
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__ and not tensor.is_nested:
        return f"{with_article(kind.__name__)} hides its values"
    return ""


def storage_was_freed(tensor: torch.Tensor) -> bool:
    """Tell whether a dense tensor's storage is smaller than the tensor, as where it was freed."""
    if tensor.layout is not torch.strided or tensor.is_nested or not tensor.numel():
        return False
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    last = tensor.storage_offset() + sum((size - 1) * stride for size, stride in sizes)
    return tensor.untyped_storage().nbytes() < (last + 1) * tensor.itemsize


def _refuses(kind: Any) -> bool:
    """Tell whether a subclass's `__torch_function__` can only raise.

    Its code is read: to call it could be noticed, by one that writes a log for example.
    """
    function: Any = getattr(kind.__torch_function__, "__func__", None)
    if not hasattr(function, "__code__"):
        return False
    return all(not each.opname.startswith("RETURN") for each in dis.get_instructions(function))


def read(tensor: Any) -> DenseValues:
    """Return where the values of a readable tensor are, without a copy if that can be had.

    Of a DTensor they are those of the part that is here.
    """
    tensor = part_here(tensor)
    if tensor.is_nested:
        parts = [part.reshape(-1) for part in _components(tensor)]
        return DenseValues(None, _values(torch.cat(parts)))
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        if tensor.numel() > DENSE and not tensor.is_mkldnn:
            stored = _values(_stored(tensor))
            return DenseValues(None, stored, zeros=tensor.numel() - len(stored))
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    whole = _values(tensor if tensor.is_cpu else tensor.cpu())
    if tensor.is_contiguous():
        return DenseValues(whole, whole.reshape(-1))
    distinct, times = in_memory_order(whole, tensor.stride())
    return DenseValues(whole, distinct.reshape(-1), times)


def _values(tensor: torch.Tensor) -> Values:
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    return as_numpy(tensor) if tensor.dtype in NATIVE else tensor


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return an array on the memory of a dense tensor of a dtype that NumPy has.

    `tensor.numpy()` would do that too, and forbid torch to resize the storage ever after, as a
    network that frees it does.
    """
    if private.is_zero_tensor(tensor):  # it has no memory
        return tensor.numpy(force=True)
    return np.from_dlpack(tensor)


def in_memory_order(values: Any, strides: Sequence[int]) -> tuple[Any, int]:
    """Return a view of the distinct values, its axes in the order of the memory.

    Args:
        values: an array or a tensor.
        strides: how far apart they lie in the memory.

    Returns:
        The view, and how many times each value stands in the tensor.
    """
    times = 1
    distinct = values
    if 0 in strides and prod(values.shape):
        distinct = values[tuple(slice(None if stride else 1) for stride in strides)]
        times = prod(values.shape) // prod(distinct.shape)
    order = sorted(range(len(strides)), key=strides.__getitem__, reverse=True)
    if isinstance(distinct, np.ndarray):
        return distinct.transpose(order), times
    return distinct.permute(order), times


def _components(tensor: Any) -> list[torch.Tensor]:
    """Return tensors that together hold the values of a nested one."""
    if tensor.layout is torch.strided:
        return list(tensor.detach().unbind())
    return private.jagged_parts(tensor)


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()  # values at one place add up
    return tensor.values().reshape(-1)


def as_array(values: Values) -> np.ndarray:
    """Return dense values; complex ones by absolute value, half precision as float32."""
    if isinstance(values, np.ndarray):
        return values
    if values.is_complex():
        return values.resolve_conj().to(torch.complex128).abs().numpy()
    return values.to(torch.float32).numpy()
