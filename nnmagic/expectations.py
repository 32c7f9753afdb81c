"""What a layer expects of a tensor, in words: its axes, its dtype, its device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

Given = Mapping[str, Any]
"""The arguments of a call, by the names of the forward's parameters."""

AXES = ("depth", "height", "width")


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype without its prefix."""
    return str(dtype).removeprefix("torch.")


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return a shape as a plain tuple."""
    return tuple(tensor.shape)


def picture_axes(spatial: int) -> str:
    """Return the names of the axes of a batch with so many spatial ones."""
    return ", ".join(("batch", "channels", *AXES[-spatial:]))


def is_integer(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds integers, bools left out."""
    kinds = tensor.is_floating_point(), tensor.is_complex(), tensor.dtype is torch.bool
    return not any(kinds)


def axis(got: torch.Tensor, place: int, wanted: int, expects: str, name: str) -> str:
    """Say that one axis has not the wanted size, `""` if it has."""
    if got.dim() == 0 or got.dim() < -place:
        return f"got {shape_of(got)}, {expects}: it has no {name}"
    if got.shape[place] != wanted:
        return (
            f"got {shape_of(got)}, {expects}: the {name} must be {wanted}, it is {got.shape[place]}"
        )
    return ""


def number_of_axes(got: torch.Tensor, spatial: int, expects: str = "") -> str:
    """Say that a picture has too many or too few axes for a batch, and how to add them."""
    wanted = spatial + 2
    text = f"got {shape_of(got)}{expects}: it takes ({picture_axes(spatial)}), {wanted} axes"
    text += f", it got {got.dim()}"
    if got.dim() == wanted - 1:
        text += "; one item becomes a batch with .unsqueeze(0)"
    return text


def home(module: nn.Module, got: torch.Tensor) -> str:
    """Say that a tensor has not the device or dtype of the layer's own parameters."""
    weight = next(module.parameters(recurse=False), None)
    if weight is None:
        return ""
    text = elsewhere(weight, got)
    if text:
        return text
    if weight.dtype == got.dtype or not weight.is_floating_point():
        return ""
    if got.is_complex() or torch.is_autocast_enabled(got.device.type):
        return ""
    wanted = name_of(weight.dtype)
    text = f"got {name_of(got.dtype)}, its parameters are {wanted}: convert the input with "
    if got.dtype is torch.uint8:
        return f"{text}.to(torch.{wanted}) / 255 if it is a picture"
    return f"{text}.to(torch.{wanted})"


def elsewhere(weight: torch.Tensor, got: torch.Tensor) -> str:
    """Say that a tensor is not on the device of a parameter."""
    if weight.device == got.device:
        return ""
    text = f"got a tensor on {got.device}, its parameters are on {weight.device}"
    if weight.is_meta or got.is_meta:
        return text
    return f"{text}: move the input with .to({str(weight.device)!r})"


def home_of_layer(module: nn.Module, got: torch.Tensor, given: Given) -> str:
    """Say what `home` says, of a layer of which nothing else is known."""
    return home(module, got)


def argument(given: Given, name: str) -> torch.Tensor | None:
    """Return the argument of this name if it is a tensor."""
    value = given.get(name)
    return value if isinstance(value, torch.Tensor) else None
