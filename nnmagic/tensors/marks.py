"""What tells by a few of their values whether tensors were written to."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ctypes import c_int64, c_void_p
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnmagic.tensors import devices
from nnmagic.tensors.machine_code import compiled
from nnmagic.tensors.metadata import HiddenFromUserCode, is_lazy, version_of
from nnmagic.tensors.shards import PLAIN, part_here
from nnmagic.tensors.values import as_numpy, in_memory_order, storage_was_freed
from nnmagic.torch_private import DisableTorchFunction, is_functional, raw_version

NO_VALUES = b"none"
"""The sum of a tensor that has none to be changed."""

WORD = 4
"""How many bytes are read at once."""

READ = 64
"""How many values of a tensor are read, from all over it; of a smaller one all."""

SOURCE = f"""
define void @mark(ptr %addresses, ptr %sizes, i64 %count, ptr %marks) {{
entry:
  br label %tensor
tensor:
  %t = phi i64 [0, %entry], [%t.next, %end]
  %address.at = getelementptr i64, ptr %addresses, i64 %t
  %address = load i64, ptr %address.at
  %size.at = getelementptr i64, ptr %sizes, i64 %t
  %size = load i64, ptr %size.at
  %values = inttoptr i64 %address to ptr
  %words = lshr i64 %size, 2
  %is.small = icmp ule i64 %words, {READ}
  %number = select i1 %is.small, i64 %words, i64 {READ}
  %is.empty = icmp eq i64 %number, 0
  br i1 %is.empty, label %end, label %read
read:
  %i = phi i64 [0, %tensor], [%i.next, %read]
  %mark = phi i64 [0, %tensor], [%mark.next, %read]
  %turns = mul i64 %i, 2654435769
  %share = and i64 %turns, 4294967295
  %scaled = mul i64 %share, %words
  %spread = lshr i64 %scaled, 32
  %place = select i1 %is.small, i64 %i, i64 %spread
  %word.at = getelementptr i32, ptr %values, i64 %place
  %word = load i32, ptr %word.at, align 1
  %wide = zext i32 %word to i64
  %sum = add i64 %mark, %wide
  %mark.next = mul i64 %sum, -7046029254386353131
  %i.next = add nuw nsw i64 %i, 1
  %is.read = icmp eq i64 %i.next, %number
  br i1 %is.read, label %end, label %read
end:
  %found = phi i64 [0, %tensor], [%mark.next, %read]
  %mark.at = getelementptr i64, ptr %marks, i64 %t
  store i64 %found, ptr %mark.at
  %t.next = add nuw nsw i64 %t, 1
  %is.done = icmp eq i64 %t.next, %count
  br i1 %is.done, label %done, label %tensor
done:
  ret void
}}
"""
"""Reads words of 32 bits and sums them up, each sum times an odd number.

The words lie at multiples of the golden ratio, which spreads them without a period: evenly spaced
ones could all lie in one column of a matrix.
"""

STORAGE, BYTES, ON_CPU = Tensor.untyped_storage, attrgetter("nbytes"), attrgetter("is_cpu")
STORAGE_ADDRESS, STORAGE_BYTES = torch.UntypedStorage.data_ptr, torch.UntypedStorage.nbytes
PLAIN_TYPES = frozenset(PLAIN)


class Marks(NamedTuple):
    """What tells whether tensors were written to, to be compared with later marks of the same.

    Attributes:
        versions: their version counters, which not every write moves.
        addresses: where their memory is.
        values: sums of some of their values. That of a tensor on an accelerator is a tensor there,
            which the host need not wait for; of one whose values cannot be read it is None.
        spans: how many bytes their storages have, where each is all of its storage.
    """

    versions: Sequence[int]
    addresses: Sequence[int]
    values: Sequence[Any]
    spans: Sequence[int] | None = None


@lru_cache
def _machine_code() -> Callable[[int, int, int, int], None] | None:
    """Return the function, None where LLVM cannot be loaded: torch reads the values too."""
    return compiled(SOURCE, "mark", None, c_void_p, c_void_p, c_int64, c_void_p)


def marks_of(tensors: Sequence[Tensor], before: Marks | None = None) -> Marks:
    """Return what is all but certain to differ once most values of one of the tensors do.

    Args:
        tensors: any tensors.
        before: earlier marks of the same tensors.
    """
    marks = _read_in_place(tensors, before)
    if marks is not None:
        return marks
    found = []
    for tensor in tensors:
        one = _read_in_place([tensor])
        found.append(_mark_of(tensor) if one is None else [column[0] for column in one[:3]])
    return Marks(*zip(*found, strict=True)) if found else Marks((), (), ())


def _read_in_place(tensors: Sequence[Tensor], before: Marks | None = None) -> Marks | None:
    """Return the marks of plain tensors of the CPU, None where one of them is something else.

    A storage is read within its bounds: from its first byte to its last where each tensor is all
    of its own, which need not be asked again of storages that are where and as large as before.
    """
    read = _machine_code()
    if read is None or not tensors or not PLAIN_TYPES.issuperset(map(type, tensors)):
        return None
    try:
        with DisableTorchFunction():
            versions, storages = [*map(raw_version, tensors)], [*map(STORAGE, tensors)]
            spans = sizes = [*map(STORAGE_BYTES, storages)]
            addresses = [*map(STORAGE_ADDRESS, storages)]
            if before is None or before.spans != spans or before.addresses != addresses:
                if not all(map(ON_CPU, tensors)):
                    return None
                sizes = [*map(BYTES, tensors)]
                if sizes != spans:
                    if not all(map(_is_within, tensors, spans)):
                        return None
                    addresses = [*map(Tensor.data_ptr, tensors)]
                if 0 in addresses or min(sizes) < WORD:
                    return None
    except (RuntimeError, NotImplementedError):  # one has no storage, or no version
        return None
    count = len(sizes)
    bounds = array("q", addresses + sizes)  # the sizes become the sums
    place = bounds.buffer_info()[0]
    read(place, place + 8 * count, count, place + 8 * count)
    return Marks(versions, addresses, bounds[count:].tolist(), spans if sizes == spans else None)


def _is_within(tensor: Tensor, span: int) -> bool:
    """Tell whether a tensor's bytes are a part of its storage, which has so many."""
    start = tensor.storage_offset() * tensor.itemsize
    return tensor.is_contiguous() and bool(start + tensor.nbytes <= span)


def _mark_of(tensor: Tensor) -> tuple[int, int, Any]:
    """Return the version, the address and the sum of any tensor."""
    version, address = version_of(tensor), 0
    try:
        with HiddenFromUserCode():
            tensor = part_here(tensor)
            if tensor.is_meta or is_lazy(tensor):
                return version, 0, NO_VALUES
            with suppress(RuntimeError, NotImplementedError):  # it has no memory of its own
                address = tensor.data_ptr()
            parts = [_some_values(part) for part in _parts(tensor)]
            if any(map(devices.on_accelerator, parts)):
                return version, address, torch.cat(parts) if len(parts) > 1 else parts[0]
            return version, address, b"".join(as_numpy(part).tobytes() for part in parts)
    except Exception:  # noqa: BLE001 - an observer observes: no error of ours gets out
        return version, address, None


def _parts(tensor: Any) -> Iterator[Tensor]:
    """Yield the plain tensors that hold the values of a tensor."""
    tensor = part_here(tensor)
    kind = type(tensor)
    if kind in PLAIN or kind.__torch_dispatch__ is Tensor.__torch_dispatch__:
        yield tensor
    else:
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))


def _some_values(tensor: Tensor) -> Tensor:
    """Return a copy of the bytes of some values of a plain tensor, from all over it.

    Raises:
        ValueError: if it has none.
    """
    if is_functional(tensor) or storage_was_freed(tensor) or devices.is_capturing(tensor):
        raise ValueError("no values")
    values, _ = in_memory_order(tensor.detach(), tensor.stride())
    flat = values.reshape(-1)
    step = flat.numel() // READ
    # an odd step that is no multiple of a row, so that a matrix is not read in one column
    return flat[:: step - step // 89 | 1].clone().view(torch.uint8)
