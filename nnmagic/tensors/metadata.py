"""What any tensor says of itself without its values being read."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import nn

from nnmagic.records.tensor import Metadata
from nnmagic.tensors.shards import PLAIN, is_spread, mesh_of, part_here, placements_of
from nnmagic.torch_private import (
    DisableFuncTorch,
    DisableTorchDispatch,
    DisableTorchFunction,
    dispatch_modes,
    function_modes,
    nested_sizes,
    raw_version,
    storage_id,
    transform_level,
)


class HiddenFromUserCode:
    """A block in which what we do to tensors runs no code of the user's.

    Neither the modes that the user has entered nor a subclass's own `__torch_function__` or
    `__torch_dispatch__` sees it, and it is no part of a `torch.func` transform.
    """

    __slots__ = ("_guards",)

    def __enter__(self) -> Self:
        self._guards = DisableTorchFunction(), DisableTorchDispatch(), DisableFuncTorch()
        for guard in self._guards:
            guard.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for guard in reversed(self._guards):
            guard.__exit__(None, None, None)


def hidden_from_user_code(tensor: torch.Tensor) -> AbstractContextManager[Any]:
    """Return a block in which no code of the user's sees what is done to a tensor."""
    return HiddenFromUserCode() if has_observers(tensor) else nullcontext()


def has_observers(tensor: torch.Tensor) -> bool:
    """Tell whether code of the user's or a transform might see what is done to a tensor."""
    return (
        type(tensor) not in PLAIN
        or function_modes() > 0
        or dispatch_modes() > 0
        or transform_level() is not None
    )


def is_lazy(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor of a lazy layer has no shape yet."""
    if type(tensor) in PLAIN:  # to ask for an instance is slow
        return False
    return isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)


def parts_of(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the plain tensors that a subclass keeps its values in; the tensor itself elsewhere.

    A quantised weight, for one, is integers and their scales, whatever dtype it claims.
    """
    if type(tensor) in PLAIN or tensor.is_nested:
        return [tensor]
    if is_spread(tensor):
        return [part_here(tensor)]
    try:
        names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
        return [part for name in names for part in parts_of(getattr(tensor, name))]
    except Exception:  # noqa: BLE001 - most subclasses have none, and one may refuse
        return [tensor]


def bytes_of(tensor: torch.Tensor) -> int:
    """Return `numel * element_size`, of a subclass that keeps its values in others theirs."""
    if type(tensor) in PLAIN:
        return tensor.numel() * tensor.element_size()
    return sum(part.numel() * part.element_size() for part in parts_of(tensor))


def storage_bytes(tensors: Iterable[torch.Tensor], besides: Iterable[torch.Tensor] = ()) -> int:
    """Return the bytes of tensors, those that share a storage counted once.

    Args:
        tensors: the tensors.
        besides: tensors whose storages are counted elsewhere.
    """
    held = [tensor for tensor in tensors if not is_lazy(tensor)]
    storages = list(map(storage_of, held))
    known = {storage_of(each)[0] for each in besides if not is_lazy(each)} if held else set()
    if not known.isdisjoint(key for key, _ in storages):
        return storage_bytes(
            t for t, (key, _) in zip(held, storages, strict=True) if key not in known
        )
    limits = dict(storages)
    if len(limits) == len(held):  # each has one of its own
        return sum(map(min, map(bytes_of, held), limits.values()))
    views: dict[Any, dict[Any, int]] = {}
    for tensor, (key, _) in zip(held, storages, strict=True):
        has_storage = key != id(tensor)
        view = (tensor.storage_offset(), tensor.shape, tensor.stride()) if has_storage else None
        views.setdefault(key, {})[view] = bytes_of(tensor)
    return sum(min(sum(sizes.values()), limits[key]) for key, sizes in views.items())


def storage_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Return what is equal for tensors that share a storage, and the bytes in it."""
    first, *others = parts_of(tensor)
    try:
        size = first.untyped_storage().nbytes() + sum(map(bytes_of, others))
        return storage_id(first), size
    except (RuntimeError, NotImplementedError):
        return id(tensor), bytes_of(tensor)  # one without a storage, such as a sparse one


def shape_of(tensor: torch.Tensor) -> tuple[int | None, ...]:
    """Return a tensor's shape, of a DTensor that of its part here, `()` where it does not tell.

    An axis without one size, such as the ragged one of a nested tensor, has the size None.
    """
    return metadata_of(tensor).shape


def metadata_of(tensor: torch.Tensor) -> Metadata:
    """Return a tensor's shape, dtype, device and number of values, of a DTensor of its part here.

    A tensor that does not tell is said to be of type `"unknown"`.
    """
    try:
        with hidden_from_user_code(tensor):
            held = part_here(tensor)
            dtype = str(held.dtype).removeprefix("torch.")
            metadata = Metadata(_sizes(held), dtype, str(held.device), held.numel())
            if is_spread(tensor):
                metadata = metadata._replace(
                    global_shape=tuple(tensor.shape),
                    placements=placements_of(tensor),
                    mesh=mesh_of(tensor),
                )
            return metadata
    except Exception:  # noqa: BLE001 - a subclass may refuse to be read
        return Metadata((), "unknown", "unknown", 0)


def _sizes(tensor: torch.Tensor) -> tuple[int | None, ...]:
    if not tensor.is_nested or tensor.layout is not torch.strided:
        return tuple(size if type(size) is int else None for size in tensor.shape)
    if tensor.size(0) == 0:
        return 0, *[None] * (tensor.dim() - 1)
    parts = nested_sizes(tensor)
    axes = zip(*parts, strict=True)
    return len(parts), *(axis[0] if len(set(axis)) == 1 else None for axis in axes)


def version_of(tensor: torch.Tensor) -> int:
    """Return the version counter of a tensor, -1 where it has none."""
    try:
        with hidden_from_user_code(tensor):
            return -1 if tensor.is_inference() else raw_version(tensor)
    except Exception:  # noqa: BLE001 - a subclass may refuse to be read
        return -1
