"""What a failed layer got against what it expects, and the line of code that called it."""

import inspect
import linecache
import re
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from nnmagic.display.units import printable
from nnmagic.network.expected_inputs import LAYERS, home_of_layer, name_of
from nnmagic.network.expected_targets import LOSSES
from nnmagic.network.places import is_no_place

LONGEST_CODE = 120
"""How much of a line of code an explanation quotes."""

KINDS = (*LAYERS, *LOSSES)


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


def mismatch(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: BaseException | None = None,
) -> str:
    """Return what the layer got and what it expects, `""` where they do not visibly differ.

    Args:
        module: the layer.
        args: the positional arguments that it got.
        kwargs: the keyword arguments.
        error: what it raised, if it raised.
    """
    try:
        given, unfit = _bound(module, args, kwargs)
        if unfit:
            return unfit if isinstance(error, TypeError) else ""
        first = next(iter(given.values()), None)
        if _holds_tensors(first):
            text = _list(first, error)
            if text:
                return text
        got = next((each for each in given.values() if isinstance(each, torch.Tensor)), None)
        if got is None or isinstance(first, PackedSequence):
            return ""
        explain = next((how for kind, how in KINDS if isinstance(module, kind)), None)
        if explain is None and type(module).__module__.startswith("torch.nn."):
            explain = home_of_layer
        return (explain(module, got, given) if explain else "") or _code(error)
    except Exception:  # noqa: BLE001 - a layer in disorder gets no explanation
        return ""


def _bound(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return the arguments by their names, or why they do not fit the forward's signature."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return {**{str(place): each for place, each in enumerate(args)}, **kwargs}, ""
    try:
        return dict(signature.bind(*args, **kwargs).arguments), ""
    except TypeError as refusal:
        bare = (each.replace(annotation=each.empty) for each in signature.parameters.values())
        return {}, f"forward takes ({', '.join(map(str, bare))}): {refusal}"


def _holds_tensors(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and not isinstance(value, PackedSequence)
    return is_list and any(isinstance(each, torch.Tensor) for each in value)


def _list(got: Any, error: BaseException | None) -> str:
    """Say that a list stands where a tensor belongs, where that is what the layer refuses."""
    if not isinstance(error, TypeError | AttributeError | None):
        return ""
    kind = type(got).__name__
    if error is not None and kind not in first_line(error):
        return ""
    shapes = ", ".join(str(tuple(each.shape)) for each in got if isinstance(each, torch.Tensor))
    return f"got a {kind} of tensors, {shapes}: a DataLoader's batch? type net(batch[0])"


def _code(error: BaseException | None) -> str:
    """Return the code of the user's that raised, with the shapes of the tensors that it names."""
    step = error.__traceback__ if error is not None else None
    innermost = None
    while step is not None:
        path = step.tb_frame.f_code.co_filename
        if not is_no_place(path):
            innermost = step
        step = step.tb_next
    if innermost is None:
        return ""
    frame = innermost.tb_frame
    positions = list(frame.f_code.co_positions())[innermost.tb_lasti // 2]
    source = _source(frame.f_code.co_filename, positions)
    names = dict.fromkeys(re.findall(r"(?<![\w.])[A-Za-z_]\w*", source))
    shapes = [
        f"{name} {_shape_and_dtype(value)}"
        for name in names
        if isinstance(value := frame.f_locals.get(name), torch.Tensor)
    ]
    if not shapes or source.startswith(("raise", "assert")):
        return ""
    return f"in “{printable(source)}” with {', '.join(shapes)}"


def _shape_and_dtype(tensor: torch.Tensor) -> str:
    dtype = "" if tensor.dtype is torch.float32 else f" {name_of(tensor.dtype)}"
    return f"{tuple(tensor.shape)}{dtype}"


def _source(path: str, positions: tuple[int | None, int | None, int | None, int | None]) -> str:
    first, last, start, end = positions
    if first is None or last is None or start is None or end is None:
        return ""
    lines = [linecache.getline(path, number).encode() for number in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    text = " ".join(b"".join(lines).decode(errors="replace").split())
    return text if len(text) <= LONGEST_CODE else f"{text[:LONGEST_CODE]}…"
