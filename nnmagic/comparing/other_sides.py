"""The other side of a comparison: a copy of the network, changed, or a network of the user's."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from nnmagic.comparing.watched_run import NetworkCall
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.layers import named_buffers, set_training
from nnmagic.torch_private import tree_flatten, tree_unflatten

DTYPES = {
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

WORDS = (*DTYPES, "eval", "train", "compiled", "items")
"""What a network can be compared with besides another network or a record."""

DROPS = re.compile(r"\w*Drop(out|Path|Block)\w*|StochasticDepth")
"""The classes of layers that drop values at random."""

MOST_ITEMS = 16
"""How many items of a batch run alone."""


class CannotCompareError(ValueError):
    """A network, or its call, has no other side; the text says why."""


def other_side(mine: NetworkCall, word: str) -> NetworkCall:
    """Return the same call of a copy of the network, changed as a word says.

    Raises:
        CannotCompareError: if the network cannot be copied.
    """
    if word in DTYPES:
        return in_dtype(mine, DTYPES[word])
    other = replace(mine, network=structure_copy(mine.network))
    if word in ("eval", "train"):
        set_training(other.network, training=word == "train")
    return other


def in_dtype(call: NetworkCall, dtype: torch.dtype) -> NetworkCall:
    """Return the same call of a copy of the network in another dtype, its arguments too.

    Raises:
        CannotCompareError: if the network cannot be copied.
    """
    converted = {
        id(each): nn.Parameter(each.detach().to(dtype, copy=True), each.requires_grad)
        for each in call.network.parameters()
        if type(each) is nn.Parameter and each.is_floating_point()
    }
    network = _copied(call.network, converted).to(dtype)
    return _with_arguments(replace(call, network=network), lambda leaf: _floating(leaf, dtype))


def call_of_other(mine: NetworkCall, network: nn.Module) -> NetworkCall:
    """Return the call of another network on the same arguments, in its dtype and on its device.

    Floating-point arguments go to the other's dtype only where they have that of this side.
    """
    own, others = _first_float(mine.network), _first_float(network)

    def suited(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or others is None:
            return leaf
        leaf = leaf.to(others.device)
        same = own is not None and leaf.dtype == own.dtype
        return _floating(leaf, others.dtype) if same else leaf

    return _with_arguments(replace(mine, network=network, layer=""), suited)


def items_of(call: NetworkCall) -> list[NetworkCall]:
    """Return the same call on each item of the batch alone, on copies of the network.

    Raises:
        CannotCompareError: if there is no batch of two items or more.
    """
    leaves, _ = tree_flatten((call.args, call.kwargs))
    sizes = [len(each) for each in leaves if isinstance(each, torch.Tensor) and each.ndim]
    if not sizes or sizes[0] < 2:
        raise CannotCompareError("items needs a batch of two or more")
    batch = sizes[0]

    def item(number: int) -> Callable[[Any], Any]:
        def cut(leaf: Any) -> Any:
            is_batch = isinstance(leaf, torch.Tensor) and leaf.ndim and len(leaf) == batch
            return leaf[number : number + 1].detach().clone() if is_batch else leaf

        return cut

    networks = (without_dropout(structure_copy(call.network)) for _ in range(batch))
    return [
        _with_arguments(replace(call, network=network), item(number))
        for number, network in zip(range(MOST_ITEMS), networks, strict=False)
    ]


def without_dropout(network: nn.Module) -> nn.Module:
    """Switch off what drops values at random, which no item alone can draw as its batch does."""
    for module in network.modules():
        if DROPS.fullmatch(type(module).__name__):
            module.training = False
    return network


def structure_copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network that shares its parameters; buffers and attributes are its own.

    Raises:
        CannotCompareError: if it cannot be copied.
    """
    shared = {id(each): each for each in network.parameters()}
    fresh = {id(each): each.detach().clone() for each in named_buffers(network).values()}
    return _copied(network, shared | fresh)


def snapshot(call: NetworkCall) -> NetworkCall:
    """Return the same call of a copy of the network as it is now, on copies of its arguments."""
    return fresh(replace(call, network=structure_copy(call.network)))


def _copied(network: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # noqa: BLE001 - whatever the network holds refuses in its own way
        why = first_line(error)
        raise CannotCompareError(
            f"{type(network).__name__} cannot be copied ({type(error).__name__}: {why})"
        ) from None


def fresh(call: NetworkCall) -> NetworkCall:
    """Return the same call on copies of its arguments: a forward may write into what it gets."""
    return _with_arguments(call, _leaf_copy)


def _leaf_copy(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        with torch.no_grad():
            return leaf.clone().requires_grad_(leaf.requires_grad)
    try:
        return copy.deepcopy(leaf)
    except Exception:  # noqa: BLE001 - what cannot be copied is shared
        return leaf


def _with_arguments(call: NetworkCall, change: Callable[[Any], Any]) -> NetworkCall:
    leaves, form = tree_flatten((call.args, call.kwargs))
    args, kwargs = tree_unflatten(list(map(change, leaves)), form)
    return replace(call, args=args, kwargs=kwargs)


def _floating(leaf: Any, dtype: torch.dtype) -> Any:
    is_float = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
    return leaf.detach().to(dtype, copy=True) if is_float else leaf


def _first_float(network: nn.Module) -> torch.Tensor | None:
    return next((each for each in network.parameters() if each.is_floating_point()), None)
