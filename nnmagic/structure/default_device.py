"""The default device of a run, taken away while layers run that do not need it.

A default device, as `torch.device("meta")` sets it in a `with` block, sends every function of torch
through Python, which takes one to six microseconds.
"""

from typing import Any

from torch import nn

from nnmagic import torch_private as private
from nnmagic.network.layers import has_hooks

FILES = frozenset(
    f"torch.nn.modules.{name}"
    for name in (
        *("activation", "batchnorm", "channelshuffle", "conv", "distance", "dropout", "flatten"),
        *("fold", "instancenorm", "linear", "normalization", "padding", "pixelshuffle", "pooling"),
        *("sparse", "upsampling"),
    )
)
"""Where torch has layers whose forward makes no tensor without naming its device."""


def has_torchs_forward(layer: nn.Module) -> bool:
    """Tell whether a layer is of a class in `FILES`, and no code of the user's runs in its call.

    False for a subclass of the user's, for a replaced forward, and for a layer with hooks.
    """
    kind: Any = type(layer)
    if kind.__module__ not in FILES or kind.forward.__module__ not in FILES:
        return False
    if kind is nn.MultiheadAttention:  # whose weights may be computed by code of the user's
        return False
    return "forward" not in layer.__dict__ and not has_hooks(layer)


def set_aside(layer: nn.Module) -> private.DeviceContext | None:
    """Take the default device away for the call of a layer that does not need it.

    It stays where code of the user's would run in the call, and where other function modes are
    active beside it.

    Returns:
        The device's mode, for `put_back`; None if it stays.
    """
    if not has_torchs_forward(layer) or private.function_modes() != 1:
        return None
    mode = private.pop_function_mode()
    if type(mode) is private.DeviceContext:
        return mode
    private.push_function_mode(mode)
    return None


def put_back(device: private.DeviceContext) -> None:
    """Make the default device what it was before `set_aside`."""
    private.push_function_mode(device)
