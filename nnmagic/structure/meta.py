"""Running a network on the meta device: shapes without values, and nothing left on the network."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from nnmagic import torch_private as private
from nnmagic.contexts import block
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.layers import ATOMS, Layers, modules_of, named_parameters
from nnmagic.network.preserve import preserved
from nnmagic.network.random_state import random_state_kept
from nnmagic.structure.leftovers import nothing_left
from nnmagic.structure.meta_rules import FLOATS, META
from nnmagic.structure.packed import holds_packed
from nnmagic.tensors.metadata import is_lazy

SIGNS = (
    "meta tensors",
    "meta tensor;",
    "meta device type tensor",
    "'meta' backend",
    "on meta device",
    "device meta",
    "meta is not on the expected device",
    "data-independent implementation does not exist",
    "should be a 1d cpu int64 tensor",
)
"""Pieces of what torch says where an operation cannot be done on the meta device."""


NUMBERS = FLOATS | {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
"""The dtypes of ordinary tensors that are not complex, which may be conjugated."""


class TensorMaker(Protocol):
    """Makes tensors without values.

    Attributes:
        mode: in which a forward makes its own.
    """

    mode: Any

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what stands for a tensor."""


class FakeTensors:
    """Makes torch's fake tensors: tensors without values that name a real device as their own.

    Which kernels torch takes, and what it casts under autocast, goes by the device.

    Args:
        device: the network's device, the CPU for one on meta; fakes of meta tensors are on it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = torch.device("cpu") if device.type == "meta" else device
        self.mode: Any = private.FakeTensorMode(allow_non_fake_inputs=True)

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a fake tensor of the same shape, strides and dtype."""
        if not (tensor.is_inference() or tensor.is_meta):
            return self.mode.from_tensor(tensor)
        device = self.device if tensor.is_meta else tensor.device
        with self.mode:
            empty = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
            )
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(empty, requires_grad=tensor.requires_grad)
        return empty.requires_grad_(tensor.requires_grad)


def takes_fake_tensors(network: nn.Module) -> bool:
    """Tell whether a network runs on fake tensors.

    It does not if it may pack sequences, if its weights are packed, or if the run makes parameters.
    """
    modules, parameters = modules_of(network), named_parameters(network).values()
    return not any(
        isinstance(module, nn.RNNBase) or holds_packed(module) for module in modules
    ) and (not any(map(is_lazy, parameters)))


def on_meta(value: Any, fakes: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Any:
    """Return the value with every tensor in it replaced by one on the meta device.

    The new tensors have the same shapes, strides and dtypes.

    Args:
        value: a tensor, or any nesting of tuples, lists, dictionaries and dataclasses.
        fakes: makes other tensors instead, such as fake ones; None for the meta device.
    """
    return _mapped(value, _MetaTensors(fakes, anew=True))


def _mapped(value: Any, meta_tensors: "_MetaTensors") -> Any:
    def mapped(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return meta_tensors(leaf)
        if isinstance(leaf, PackedSequence):  # the lengths in it stay where they can be read
            return leaf._replace(
                data=meta_tensors(leaf.data),
                sorted_indices=_mapped(leaf.sorted_indices, meta_tensors),
                unsorted_indices=_mapped(leaf.unsorted_indices, meta_tensors),
            )
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            copied = copy.copy(leaf)
            for each in dataclasses.fields(leaf):
                object.__setattr__(
                    copied, each.name, _mapped(getattr(leaf, each.name), meta_tensors)
                )
            return copied
        return leaf

    return private.tree_map(mapped, value, is_leaf=lambda each: isinstance(each, PackedSequence))


class _MetaTensors:
    """Gives every tensor one meta tensor, always the same, so that tied tensors stay tied.

    Args:
        fakes: makes other tensors instead, such as fake ones; None for the meta device.
        anew: whether one that is on meta already gets another one too.
    """

    def __init__(
        self, fakes: Callable[[torch.Tensor], torch.Tensor] | None, *, anew: bool = False
    ) -> None:
        self._fakes = fakes
        self._anew = anew
        self._made_of: dict[int, torch.Tensor] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        empty = self._made_of.get(id(tensor))
        if empty is None:
            made = self._made if self._fakes is None or is_lazy(tensor) else self._fakes
            empty = self._made_of[id(tensor)] = made(tensor)
        return empty

    def clear(self) -> None:
        """Let go of the meta tensors."""
        self._made_of.clear()

    def _made(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta and not self._anew:
            return tensor
        kind = type(tensor)
        if (
            (kind is nn.Parameter or kind is torch.Tensor)
            and tensor.dtype in NUMBERS
            and tensor.layout is torch.strided
            and not tensor.is_nested
            and tensor.is_contiguous()
        ):  # all there is to know of its form; made in a third of the time that tensor.to takes
            new = torch.empty_like(tensor, device=META)
            if kind is nn.Parameter:
                return private.make_subclass(nn.Parameter, new, tensor.requires_grad)
            return new.requires_grad_() if tensor.requires_grad else new
        if is_lazy(tensor):
            lazy: Any = kind
            return lazy(requires_grad=tensor.requires_grad, device="meta", dtype=tensor.dtype)
        if tensor.is_nested and tensor.layout is torch.strided:
            raise RuntimeError("no nested tensor can be on the device meta")
        empty = tensor.detach().to(META)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(empty, requires_grad=tensor.requires_grad)
        return empty.requires_grad_(tensor.requires_grad) if tensor.requires_grad else empty


@block
def networks_on_meta(
    network: nn.Module, fakes: TensorMaker | None = None, layers: Layers | None = None
) -> Iterator[list[str]]:
    """Give the network meta tensors for the length of the block, and put everything back.

    Tensors that a forward makes without naming a device are made on meta too. No random number is
    drawn from the session's generator. A hook of the user's that fails on meta is passed over.

    Args:
        network: the network.
        fakes: makes those tensors, for the network and in its forward.
        layers: the network's layers as they are now, where they are at hand.

    Yields:
        A list that fills with what to say of such hooks, and of tensors that stay.
    """
    meta_tensors, remarks = _MetaTensors(fakes), list[str]()
    layers = layers or Layers(network)
    kept = preserved(network, buffers=fakes is not None, layers=layers)
    with nothing_left(layers, remarks), kept, random_state_kept():
        for module, own in zip(layers.modules, layers.own, strict=True):
            if isinstance(module, torch.jit.ScriptModule):
                continue  # its tensors are held elsewhere
            attributes = module.__dict__
            for hooks in (attributes[private.FORWARD_HOOKS], attributes[private.FORWARD_PRE_HOOKS]):
                if hooks:
                    hooks.update({k: _tolerant(v, remarks) for k, v in hooks.items()})
            for held in (attributes[private.PARAMETERS], attributes[private.BUFFERS]):
                for name, tensor in held.items():
                    if tensor is not None:
                        held[name] = meta_tensors(tensor)
            for name, value in own.items():
                if _holds_tensor(value):
                    attributes[name] = _mapped(value, meta_tensors)
        try:
            with torch.device("meta") if fakes is None else fakes.mode:
                yield remarks
        finally:
            meta_tensors.clear()


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
    if type(value) in ATOMS:
        return False
    if isinstance(value, torch.Tensor):
        return True
    if type(value) in (list, tuple):
        return any(map(_holds_tensor, value))
    return type(value) is dict and any(map(_holds_tensor, value.values()))


def is_for_want_of_values(error: Exception) -> bool:
    """Tell whether a forward failed, likely, for tensors that have no values or no real device.

    A real run is the proof; this is a guess, where there is none or not yet.
    """
    if isinstance(error, private.VALUES_NEEDED):
        return True
    text = str(error).lower() if isinstance(error, RuntimeError | TypeError) else ""
    return any(sign in text for sign in SIGNS)
