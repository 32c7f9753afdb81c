"""Running a network on the meta device: shapes without values, and nothing left on the network."""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_map

from nnmagic.failures import first_line
from nnmagic.packed import packed_on_meta
from nnmagic.state import preserved, random_state_kept
from nnmagic.tensors import is_lazy

REGISTRIES = frozenset(nn.Module().__dict__) - {"_parameters", "_buffers"}
"""The attributes of every module that hold no tensor of its own."""


SIGNS = (
    "meta tensors",
    "meta tensor;",
    "meta device type tensor",
    "'meta' backend",
    "on meta device",
    "device meta",
    "meta is not on the expected device",
)
"""Pieces of what torch says where an operation cannot be done on the meta device."""


class ValuesNeededError(RuntimeError):
    """A network reads values while it runs, which the meta device does not have."""


def on_meta(value: Any) -> Any:
    """Return the value with every tensor in it replaced by one of its form on the meta device."""
    return _mapped(value, _Twins())


def _mapped(value: Any, twins: "_Twins") -> Any:
    def twin(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return twins(leaf)
        if isinstance(leaf, PackedSequence):  # the lengths in it stay where they can be read
            return leaf._replace(
                data=twins(leaf.data),
                sorted_indices=_mapped(leaf.sorted_indices, twins),
                unsorted_indices=_mapped(leaf.unsorted_indices, twins),
            )
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            copied = copy.copy(leaf)
            for each in dataclasses.fields(leaf):
                object.__setattr__(copied, each.name, _mapped(getattr(leaf, each.name), twins))
            return copied
        return leaf

    return tree_map(twin, value, is_leaf=lambda each: isinstance(each, PackedSequence))


class _Twins:
    """Gives every tensor one twin on the meta device, so that tied tensors stay tied."""

    def __init__(self) -> None:
        self.twins: dict[int, torch.Tensor] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        twin = self.twins.get(id(tensor))
        if twin is None:
            twin = self.twins[id(tensor)] = self._made(tensor)
        return twin

    @staticmethod
    def _made(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            return tensor
        if is_lazy(tensor):
            lazy: Any = type(tensor)
            return lazy(requires_grad=tensor.requires_grad, device="meta", dtype=tensor.dtype)
        twin = tensor.detach().to("meta")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(twin, requires_grad=tensor.requires_grad)
        return twin.requires_grad_(tensor.requires_grad) if tensor.requires_grad else twin


@contextmanager
def networks_on_meta(network: nn.Module) -> Iterator[list[str]]:
    """Give the network meta tensors for the length of the block, and put everything back.

    Tensors that a forward makes without naming a device are made on meta too. No random number is
    drawn from the session's generator. A hook of the user's that fails on meta is passed over.

    Yields:
        A list that fills with what to say of such hooks.

    Raises:
        ValuesNeededError: where the forward fails only because meta tensors have no values.
    """
    twins, failed_hooks = _Twins(), list[str]()
    with (
        preserved(network, buffers=False),
        random_state_kept(),
        packed_on_meta(network),
        torch.device("meta"),
    ):
        for module in network.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # its tensors are held elsewhere
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key, hook in hooks.items():
                    hooks[key] = _tolerant(hook, failed_hooks)
            for name, value in list(module.__dict__.items()):
                if name in ("_parameters", "_buffers"):
                    value.update({k: None if v is None else twins(v) for k, v in value.items()})
                elif name not in REGISTRIES and _holds_tensor(value):
                    module.__dict__[name] = _mapped(value, twins)
        try:
            yield failed_hooks
        except Exception as error:
            if is_for_want_of_values(error):
                raise ValuesNeededError(first_line(error)) from error
            raise


def _tolerant(hook: Any, failed: list[str]) -> Any:
    def tolerant(*args: Any, **kwargs: Any) -> Any:
        try:
            return hook(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a hook may read values, and has none to read
            name = getattr(hook, "__qualname__", type(hook).__name__)
            failed.append(f"the hook {name} fails on meta tensors: {first_line(error)}")
            return None

    return tolerant


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    if type(value) in (list, tuple):
        return any(map(_holds_tensor, value))
    return type(value) is dict and any(map(_holds_tensor, value.values()))


def is_for_want_of_values(error: Exception) -> bool:
    """Tell whether a forward failed only because meta tensors have no values or no real device."""
    text = str(error).lower() if isinstance(error, RuntimeError | TypeError) else ""
    return any(sign in text for sign in SIGNS)
