"""Running a network on the meta device: shapes without values, and nothing left on the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from nnmagic.state import preserved
from nnmagic.tensors import is_lazy

REGISTRIES = frozenset(nn.Module().__dict__) - {"_parameters", "_buffers"}
"""The attributes of every module that hold no tensor of its own."""


class ValuesNeededError(RuntimeError):
    """A network reads values while it runs, which the meta device does not have."""


def on_meta(value: Any) -> Any:
    """Return the value with every tensor in it replaced by one of its form on the meta device."""
    return tree_map_only(torch.Tensor, _Twins(), value)


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
def networks_on_meta(network: nn.Module) -> Iterator[None]:
    """Give the network meta tensors for the length of the block, and put everything back.

    Tensors that a forward makes without naming a device are made on meta too. No random number is
    drawn from the session's generator.

    Raises:
        ValuesNeededError: where the forward fails only because meta tensors have no values.
    """
    twins = _Twins()
    with (
        preserved(network, buffers=False),
        torch.random.fork_rng(devices=[]),
        torch.device("meta"),
    ):
        for module in network.modules():
            for name, value in list(module.__dict__.items()):
                if name in ("_parameters", "_buffers"):
                    value.update({k: None if v is None else twins(v) for k, v in value.items()})
                elif name not in REGISTRIES and _holds_tensor(value):
                    module.__dict__[name] = tree_map_only(torch.Tensor, twins, value)
        try:
            yield
        except Exception as error:
            if is_for_want_of_values(error):
                raise ValuesNeededError(str(error).partition("\n")[0]) from error
            raise


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    if type(value) in (list, tuple):
        return any(map(_holds_tensor, value))
    return type(value) is dict and any(map(_holds_tensor, value.values()))


def is_for_want_of_values(error: Exception) -> bool:
    """Tell whether a forward failed only because meta tensors have no values."""
    text = str(error).lower()
    return isinstance(error, RuntimeError | TypeError | ValueError) and any(
        sign in text
        for sign in (
            "meta tensors",
            "meta tensor",
            "on meta device",
            "'meta' backend",
            "device meta",
            "meta is not on the expected device",
            "to numpy",
            "device type meta",
        )
    )
