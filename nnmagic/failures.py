"""What a failed layer got against what it expects, and the line of code that called it."""

import linecache
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnmagic import calls, networks

TORCH_FOLDER = str(Path(torch.__file__).parent) + os.sep
OWN_FOLDER = str(Path(__file__).parent) + os.sep
WRAPPER = calls.__file__


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text."""
    try:
        return str(error).partition("\n")[0]
    except Exception:  # noqa: BLE001 - the text of an exception is the user's code too
        return ""


def annotate(error: BaseException, note: str) -> None:
    """Add a note to an exception, if it takes notes."""
    with suppress(Exception):
        error.add_note(f"nnmagic: {note}")


def mismatch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return what the layer got and what it expects, `""` where they do not visibly differ."""
    got = next((each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)), None)
    if got is None:
        return ""
    for layer_type, explain in EXPLANATIONS:
        if isinstance(module, layer_type):
            try:
                return explain(module, got)
            except Exception:  # noqa: BLE001 - a layer in disorder gets no explanation
                return ""
    return _devices(module, got)


def _devices(module: nn.Module, got: torch.Tensor) -> str:
    weight = next(module.parameters(recurse=False), None)
    if weight is None:
        return ""
    if weight.device != got.device:
        return f"got a tensor on {got.device}, its parameters are on {weight.device}"
    if got.is_floating_point() and weight.is_floating_point() and weight.dtype != got.dtype:
        return f"got {_name(got.dtype)}, its parameters are {_name(weight.dtype)}"
    if weight.is_floating_point() and not got.is_floating_point() and not got.is_complex():
        wanted = _name(weight.dtype)
        return (
            f"got {_name(got.dtype)}, its parameters are {wanted}: "
            f"convert the input with .to(torch.{wanted})"
        )
    return ""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _linear(module: Any, got: torch.Tensor) -> str:
    return _axis(
        got, -1, module.in_features, f"weight is {tuple(module.weight.shape)}", "last axis"
    )


def _convolution(module: Any, got: torch.Tensor) -> str:
    spatial = len(module.kernel_size)
    weight = f"weight is {tuple(module.weight.shape)}"
    if got.dim() not in (spatial + 1, spatial + 2):
        names = ", ".join(("depth", "height", "width")[-spatial:])
        return (
            f"got {tuple(got.shape)}, {weight}: it takes (batch, channels, {names}), "
            f"{spatial + 2} axes, it got {got.dim()}"
        )
    text = _axis(got, -spatial - 1, module.in_channels, weight, "channel axis")
    if text and got.shape[-1] == module.in_channels:
        text += "; the channels stand last, move them with .movedim(-1, 1)"
    return text or _devices(module, got)


def _embedding(module: Any, got: torch.Tensor) -> str:
    if got.is_floating_point() or got.is_complex() or got.dtype is torch.bool:
        rows = f"{module.num_embeddings:,} rows"
        return f"got {_name(got.dtype)}, it takes the ids of its {rows}: integers"
    if got.numel() and not got.is_meta:
        low, high = int(got.min()), int(got.max())
        if low < 0 or high >= module.num_embeddings:
            return f"got ids {low} … {high}, it has rows 0 … {module.num_embeddings - 1}"
    return ""


def _recurrent(module: Any, got: torch.Tensor) -> str:
    return _axis(got, -1, module.input_size, f"input_size is {module.input_size}", "last axis")


def _attention(module: Any, got: torch.Tensor) -> str:
    return _axis(got, -1, module.embed_dim, f"embed_dim is {module.embed_dim}", "last axis")


def _batch_norm(module: Any, got: torch.Tensor) -> str:
    if got.dim() < 2:
        return f"got {tuple(got.shape)}: it takes (batch, {module.num_features}, …)"
    text = _axis(
        got, 1, module.num_features, f"num_features is {module.num_features}", "channel axis"
    )
    if not text and module.training and got.numel() == got.shape[1]:
        return f"got {tuple(got.shape)}: in train mode it needs more than one value a channel"
    return text or _devices(module, got)


def _layer_norm(module: Any, got: torch.Tensor) -> str:
    wanted = tuple(module.normalized_shape)
    if tuple(got.shape[-len(wanted) :]) == wanted:
        return _devices(module, got)
    return f"got {tuple(got.shape)}: the last axes must be {wanted}"


def _axis(got: torch.Tensor, axis: int, wanted: int, expects: str, name: str) -> str:
    if got.dim() == 0 or got.dim() < -axis:
        return f"got {tuple(got.shape)}, {expects}: it has no {name}"
    if got.shape[axis] != wanted:
        return (
            f"got {tuple(got.shape)}, {expects}: "
            f"the {name} must be {wanted}, it is {got.shape[axis]}"
        )
    return ""


def _or_devices(explain: Callable[[Any, torch.Tensor], str]) -> Callable[[Any, torch.Tensor], str]:
    return lambda module, got: explain(module, got) or _devices(module, got)


EXPLANATIONS: tuple[tuple[Any, Callable[[Any, torch.Tensor], str]], ...] = (
    (nn.Linear, _or_devices(_linear)),
    (nn.modules.conv._ConvNd, _convolution),
    (nn.Embedding, _embedding),
    ((nn.RNNBase, nn.RNNCellBase), _or_devices(_recurrent)),
    (nn.MultiheadAttention, _or_devices(_attention)),
    (nn.modules.batchnorm._BatchNorm, _batch_norm),
    (nn.LayerNorm, _layer_norm),
)


def calling_line() -> tuple[str, int]:
    """Return the path and line of the code that called the layer at hand, torch's own left out.

    A call that nnmagic made itself has no place, which is ``("", 0)``.
    """
    frame: Any = sys._getframe(1)
    while frame is not None and _is_engine(frame.f_code.co_filename):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename.startswith((TORCH_FOLDER, WRAPPER)):
        frame = frame.f_back
    if frame is None:
        return "", 0
    path = frame.f_code.co_filename
    return ("", 0) if _is_engine(path) else (path, frame.f_lineno)


def _is_engine(path: str) -> bool:
    return path.startswith(OWN_FOLDER) and path != networks.__file__


def place_text(path: str, line: int) -> str:
    """Return how a place in the code is shown: `model.py:12`, a notebook's by its source line."""
    if not path:
        return ""
    if os.path.exists(path) and "ipykernel" not in path:
        return f"{os.path.basename(path)}:{line}"
    source = linecache.getline(path, line).strip()
    return f"“{source}”" if source else ""
