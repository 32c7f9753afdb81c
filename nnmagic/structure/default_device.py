"""The default device of a run, taken away while layers run that do not need it.

A default device, as `torch.device("meta")` sets it in a `with` block, sends every function of torch
through Python, which takes one to six microseconds.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from nnmagic import torch_private as private
from nnmagic.network.layers import has_hooks

NAMES = """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
    AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d
    Bilinear CELU ChannelShuffle ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d
    ConvTranspose1d ConvTranspose2d ConvTranspose3d CosineSimilarity Dropout Dropout1d Dropout2d
    Dropout3d ELU Embedding FeatureAlphaDropout Flatten Fold GELU GLU GroupNorm Hardshrink
    Hardsigmoid Hardswish Hardtanh Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d LPPool1d
    LPPool2d LPPool3d LayerNorm LeakyReLU Linear LocalResponseNorm LogSigmoid LogSoftmax MaxPool1d
    MaxPool2d MaxPool3d Mish PReLU PairwiseDistance PixelShuffle PixelUnshuffle RMSNorm ReLU ReLU6
    ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d
    ReplicationPad3d SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh
    Tanhshrink Threshold Unflatten Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d
    ZeroPad1d ZeroPad2d ZeroPad3d
"""

FORWARDS: Mapping[type, Any] = {
    layer: layer.forward for layer in (getattr(nn, name, None) for name in NAMES.split()) if layer
}
"""Layers of torch whose forward makes no tensor without naming its device."""


def has_torchs_forward(layer: nn.Module) -> bool:
    """Tell whether a layer is of a class in `FORWARDS`, and no code of the user's runs in its call.

    False for a subclass with a forward of its own, and for a layer with hooks.
    """
    kind = type(layer)
    forward = FORWARDS.get(kind)
    if forward is None or kind.forward is not forward:
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
