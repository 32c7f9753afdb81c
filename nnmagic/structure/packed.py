"""Packed weights: what a quantised layer holds in place of parameters."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.structure.meta_cache import LightMode
from nnmagic.torch_private import methods_of, schema_of, tree_leaves, tree_map_only


class Stored(NamedTuple):
    """The shape and the stored dtype of one tensor in a packed weight.

    Attributes:
        shape: its shape, before it was packed.
        dtype: the dtype in which its values are stored.
    """

    shape: torch.Size
    dtype: torch.dtype


def holds_packed(module: nn.Module) -> bool:
    """Tell whether a module itself holds packed weights."""
    return are_packed(module.__dict__.values()) and not isinstance(module, torch.jit.ScriptModule)


def are_packed(values: Iterable[Any]) -> bool:
    """Tell whether a packed weight is among the values of a module's attributes."""
    return torch.ScriptObject in map(type, values)


def packed_in(module: nn.Module) -> Iterator[Stored]:
    """Yield the tensors in the packed weights that a module itself holds."""
    for value in module.__dict__.values():
        if isinstance(value, torch.ScriptObject):
            yield from unpacked(value)


def unpacked(value: Any) -> Iterator[Stored]:
    """Yield the tensors in a packed weight, or in the packed weights that a cell is made of."""
    if isinstance(value, torch.Tensor):
        # weights in half precision are unpacked to float32; a bias is float32
        half = value.dim() > 1 and value.dtype is torch.float32
        yield Stored(value.shape, torch.float16 if half else value.dtype)
    elif isinstance(value, torch.ScriptObject):
        held: Any = value
        methods = methods_of(held)
        if "unpack" in methods:
            yield from unpacked(held.unpack())
        elif "__getstate__" in methods:
            state = tree_leaves(held.__getstate__())
            # a cell's biases are in its weights too
            weights = [each for each in state if isinstance(each, torch.ScriptObject)]
            yield from unpacked(weights or state)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from unpacked(each)


def matrices_of(value: Any) -> int:
    """Return the number of values in the matrices of packed weights, biases left out."""
    return sum(stored.shape.numel() for stored in unpacked(value) if len(stored.shape) > 1)


def _linear(x: torch.Tensor, weight: Any, *_: Any) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], next(unpacked(weight)).shape[0]))


def _convolution(x: torch.Tensor, weight: Any, *_: Any) -> torch.Tensor:
    shape = next(unpacked(weight)).shape
    settings = (weight.stride(), weight.padding(), weight.dilation(), bool(weight.transpose()))
    return torch.convolution(
        x, x.new_empty(shape), None, *settings, weight.output_padding(), weight.groups()
    )


def _lstm(x: torch.Tensor, *rest: Any, **_: Any) -> tuple[torch.Tensor, ...]:
    hidden, cell = next(each for each in rest if isinstance(each, list | tuple))
    return _recurrent(x, hidden, rest), torch.empty_like(hidden), torch.empty_like(cell)


def _gru(x: torch.Tensor, *rest: Any, **_: Any) -> tuple[torch.Tensor, ...]:
    hidden = [each for each in rest if isinstance(each, torch.Tensor)][-1]
    return _recurrent(x, hidden, rest), torch.empty_like(hidden)


def _recurrent(x: torch.Tensor, hidden: torch.Tensor, rest: tuple[Any, ...]) -> torch.Tensor:
    flags = [each for each in rest if isinstance(each, bool)]
    bidirectional = flags[2]  # after has_biases and train
    return x.new_empty((*x.shape[:-1], hidden.shape[-1] * (1 + bidirectional)))


def _cell(x: torch.Tensor, state: Any, *_: Any) -> Any:
    return tree_map_only(torch.Tensor, torch.empty_like, state)


def _embedding(weight: Any, indices: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    width = next(unpacked(weight)).shape[1]
    return torch.empty((*indices.shape, width), device=indices.device)


RESULTS: Mapping[Callable[..., Any], str] = {
    _linear: """
        quantized::linear_dynamic quantized::linear_relu_dynamic
        quantized::linear_dynamic_fp16 quantized::linear_relu_dynamic_fp16
    """,
    _convolution: """
        quantized::conv1d_dynamic quantized::conv2d_dynamic quantized::conv3d_dynamic
        quantized::conv_transpose2d_dynamic quantized::conv_transpose3d_dynamic
    """,
    _cell: """
        quantized::quantized_lstm_cell_dynamic
        quantized::quantized_gru_cell_dynamic quantized::quantized_rnn_tanh_cell_dynamic
        quantized::quantized_rnn_relu_cell_dynamic
    """,
    _embedding: "quantized::embedding_byte quantized::embedding_4bit",
    _lstm: "aten::quantized_lstm",
    _gru: "aten::quantized_gru",
}
"""Functions that make an empty result, and the operations that have no meta kernel in torch."""

ON_META = {name: result for result, names in RESULTS.items() for name in names.split()}


class _PackedOnMeta(LightMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        return ON_META.get(schema_of(func).name, func)(*args, **(kwargs or {}))


def packed_on_meta(needed: bool) -> AbstractContextManager[Any]:
    """Return a mode in which dynamically quantised layers run on the meta device.

    Args:
        needed: whether the network has such layers; the mode does nothing without them.
    """
    return _PackedOnMeta() if needed else nullcontext()
