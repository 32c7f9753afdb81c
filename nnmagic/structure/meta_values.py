"""Constant propagation in a run for shapes: small integers such as lengths, masks and token ids."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from nnmagic.structure.meta_cache import LightMode
from nnmagic.torch_private import FakeTensor, no_dispatch, schema_of, tree_leaves, tree_map_only

MOST_VALUES = 4096
"""The values of a larger tensor are not followed."""

PACKING = "aten::_pack_padded_sequence"

LIFTED = torch.ops.aten.lift_fresh.default

CONSTANTS = frozenset({"aten::full", "aten::ones", "aten::zeros"})


class _KnownValues(LightMode):
    """Computes the values of small tensors beside a run for shapes.

    Attributes:
        values: the real tensor for each empty tensor whose values are known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: Any = WeakIdKeyDictionary()
        self._ids: set[int] = set()  # of all that were ever known, to pass over the rest at once

    def remember(self, empty: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Take note of the value of an empty tensor, and return the empty tensor."""
        if value.numel() <= MOST_VALUES:
            self.values[empty] = value
            self._ids.add(id(empty))
        return empty

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        if func is LIFTED and not _is_empty(args[0]):
            lifted = func(*args)  # made of the numbers in a list
            return self.remember(lifted, args[0]) if _is_named(lifted) else lifted
        lists = (each if type(each) in (list, tuple) else (each,) for each in args)
        has_known = any(id(each) in self._ids for each in chain.from_iterable(lists))
        if func.namespace == "prim" or not (kwargs or has_known):
            return func(*args, **kwargs)
        name = schema_of(func).name
        if name == PACKING:
            return func(args[0], self.values.get(args[1], args[1]), *args[2:])
        got = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        empty_ones = [each for each in got if _is_empty(each)]
        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        to_meta = device is not None and device.type == "meta"
        real = [self._value(each) for each in empty_ones]
        if any(value is None for value in real):
            if schema_of(func).is_mutable:
                for each in empty_ones:
                    self.values.pop(each, None)
            return func(*args, **kwargs)
        if not empty_ones and not (
            to_meta and (_are_small(got) if got else _is_made(name, args, kwargs))
        ):
            return func(*args, **kwargs)
        with no_dispatch():
            found = func(*self._real(args), **self._real(kwargs))
        if device is not None and not to_meta and not any(map(_is_named, empty_ones)):
            return found
        same = {id(value): empty for value, empty in zip(real, empty_ones, strict=True)}
        place = device or next((empty.device for empty in empty_ones), None)

        def empty_for(value: torch.Tensor) -> torch.Tensor:
            empty = same.get(id(value))
            if empty is not None:
                return empty
            return self.remember(
                torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=place),
                value,
            )

        return tree_map_only(torch.Tensor, empty_for, found)

    def _value(self, empty: torch.Tensor) -> torch.Tensor | None:
        known = self.values.get(empty)
        return getattr(empty, "constant", None) if known is None else known

    def _real(self, value: Any) -> Any:
        def real(each: torch.Tensor) -> torch.Tensor:
            known = self._value(each)
            return each if known is None else known

        found = tree_map_only(torch.Tensor, real, value)
        placed = isinstance(found, dict) and found.get("device") is not None
        return found | {"device": torch.device("cpu")} if placed else found


def _is_named(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is on a real device by name only."""
    return isinstance(tensor, FakeTensor)


def _is_empty(tensor: torch.Tensor) -> bool:
    return tensor.is_meta or _is_named(tensor)


def _are_small(tensors: list[torch.Tensor]) -> bool:
    return all(each.numel() <= MOST_VALUES and _is_exact(each.dtype) for each in tensors)


def _is_exact(dtype: torch.dtype | None) -> bool:
    return dtype is not None and not dtype.is_floating_point and not dtype.is_complex


def _is_made(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether an operation makes a few integers from numbers alone."""
    if name == "aten::arange":
        return all(isinstance(number, int) and abs(number) <= MOST_VALUES for number in args)
    return name in CONSTANTS and _is_exact(kwargs.get("dtype")) and prod(args[0]) <= MOST_VALUES


def known_values(
    modules: Iterable[nn.Module], real: Any, on_meta: Any, *, all_small: bool
) -> AbstractContextManager[Any]:
    """Return a mode in which a network can read small integers in a run for shapes.

    `pack_padded_sequence` reads the lengths of its sequences, other networks look for padding in
    their masks and ids. Followed are the user's own tensors of a few integers, the numbers of a
    list, and all that is computed from them.

    Args:
        modules: what is to run, all modules of it.
        real: its arguments.
        on_meta: the same arguments without values.
        all_small: whether to know more than lists, such as lengths; it takes half as long again.
    """
    values = tree_leaves(real)
    all_small |= any(issubclass(kind, nn.RNNBase) for kind in set(map(type, modules)))
    if not all_small and not any(_can_be_known(value) and value.dim() == 1 for value in values):
        return nullcontext()
    known = _KnownValues()
    for value, empty in zip(values, tree_leaves(on_meta), strict=False):
        if _can_be_known(value):
            with no_dispatch():
                known.remember(empty, value.detach().cpu().clone())
    return known


def _can_be_known(value: Any) -> bool:
    plain = type(value) is torch.Tensor and value.layout is torch.strided
    return plain and not _is_empty(value) and _are_small([value])
