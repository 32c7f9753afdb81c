"""Small integers that keep their values on the meta device: the lengths of packed sequences."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

MOST_VALUES = 4096
"""A tensor of more values is as unknown as any other on the meta device."""


class _KnownValues(TorchDispatchMode):
    """Computes what follows from known tensors, beside a run on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.values: Any = WeakIdKeyDictionary()

    def know(self, twin: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Take note of the value of a tensor on the meta device, and return that tensor."""
        if value.numel() <= MOST_VALUES:
            self.values[twin] = value
        return twin

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        name = func._schema.name
        if name == "aten::_pack_padded_sequence":
            return func(args[0], self.values.get(args[1], args[1]), *args[2:])
        got = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        twins = [each for each in got if each.is_meta]
        device = kwargs.get("device")
        to_meta = device is not None and torch.device(device).type == "meta"
        if not all(each in self.values for each in twins):
            if func._schema.is_mutable:
                for each in twins:
                    self.values.pop(each, None)
            return func(*args, **kwargs)
        if not twins and not (to_meta and (_is_small(got) if got else _counts_up(name, args))):
            return func(*args, **kwargs)
        real = [self.values[each] for each in twins]
        found = func(*self._real(args), **self._real(kwargs))
        if device is not None and not to_meta:
            return found
        same = {id(value): twin for value, twin in zip(real, twins, strict=True)}

        def twin_of(value: torch.Tensor) -> torch.Tensor:
            twin = same.get(id(value))
            return (
                self.know(torch.empty_like(value, device="meta"), value) if twin is None else twin
            )

        return tree_map_only(torch.Tensor, twin_of, found)

    def _real(self, value: Any) -> Any:
        found = tree_map_only(torch.Tensor, lambda each: self.values.get(each, each), value)
        to_meta = isinstance(found, dict) and str(found.get("device")) == "meta"
        return found | {"device": torch.device("cpu")} if to_meta else found


def _is_small(tensors: list[torch.Tensor]) -> bool:
    return all(each.numel() <= MOST_VALUES and not each.is_floating_point() for each in tensors)


def _counts_up(name: str, args: tuple) -> bool:
    return name == "aten::arange" and all(isinstance(n, int) and n <= MOST_VALUES for n in args)


def known_values(network: nn.Module, real: Any, on_meta: Any) -> AbstractContextManager[Any]:
    """Return what lets a network read small integers in a run on the meta device.

    `pack_padded_sequence` reads the lengths of its sequences. They are known where they are a list,
    or follow from an argument that is a list of integers in a tensor.

    Args:
        network: what is to run.
        real: its arguments.
        on_meta: the same arguments on the meta device.
    """
    known = _KnownValues()
    for value, twin in zip(tree_leaves(real), tree_leaves(on_meta), strict=False):
        if isinstance(value, torch.Tensor) and not value.is_meta and _is_list(value):
            known.know(twin, value.detach().cpu().clone())
    packs = any(isinstance(module, nn.RNNBase) for module in network.modules())
    return known if packs or known.values else nullcontext()


def _is_list(tensor: torch.Tensor) -> bool:
    exact = not tensor.is_floating_point() and not tensor.is_complex()
    return exact and tensor.dim() == 1 and tensor.layout is torch.strided
