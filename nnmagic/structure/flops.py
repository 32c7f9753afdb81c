"""Floating-point operations, by the definition and the formulas of `torch.utils.flop_counter`.

Two for each multiply-add of matrix products, convolutions and attention; biases, activations and
normalisation are not counted.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import nn

from nnmagic.structure.meta_cache import LightMode
from nnmagic.structure.packed import matrices_of, unpacked
from nnmagic.torch_private import (
    DisableTorchFunction,
    HigherOrderOperator,
    decomposed,
    is_composite,
    packet_of,
    schema_of,
    tree_leaves,
)

WITHOUT_PRODUCTS = frozenset(("aten", "prim", "prims", "c10d", "_c10d_functional", "profiler"))
"""Namespaces of torch operations, none of which multiplies and adds, but for those named here."""

PRODUCTS_WITHOUT_FORMULA = (
    "_cdist",
    "_fft",
    "_lstm_mps",
    "_sparse",
    "_weight_int4pack",
    "bilinear",
    "cholesky",
    "conv",
    "einsum",
    "gru",
    "inner",
    "linalg_cholesky",
    "linalg_eig",
    "linalg_householder",
    "linalg_inv",
    "linalg_ldl",
    "linalg_lstsq",
    "linalg_lu",
    "linalg_matrix_exp",
    "linalg_qr",
    "linalg_solve",
    "linalg_svd",
    "lstm",
    "lu_solve",
    "matmul",
    "ormqr",
    "rnn_",
    "scaled_dot_product",
    "tensordot",
    "triangular_solve",
)
"""How the names of the torch operations begin that multiply and add but have no formula."""

OTHERS_WITHOUT_PRODUCTS = (
    "quantized::add",
    "quantized::batch_norm",
    "quantized::cat",
    "quantized::embedding",
    "quantized::linear_unpack",
    "quantized::mul",
    "quantized::relu",
    "torchvision::nms",
    "torchvision::ps_roi",
    "torchvision::roi",
)
"""How the names of operations in other namespaces begin that have no products either."""


Formula = Callable[..., int]
"""What gives the operations of a call, from its arguments and what it returned as `out_val`."""


def _matrix_vector(matrix: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _added_matrix_vector(_: Any, matrix: torch.Tensor, *__: Any, **___: Any) -> int:
    return 2 * matrix.numel()


def _outer(_: Any, left: torch.Tensor, right: torch.Tensor, **__: Any) -> int:
    return 2 * left.numel() * right.numel()


def _added_product(_: Any, left: torch.Tensor, right: torch.Tensor, **__: Any) -> int:
    return 2 * left.numel() * right.shape[-1]


def _matrix_matrix(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * left.numel() * right.shape[-1]


def _matrix_transposed(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * left.numel() * right.shape[0]


def _grouped(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    # where both have groups they are a batch; else a group has its share of rows, columns or terms
    groups = left.shape[0] if left.dim() == right.dim() == 3 else 1
    return 2 * groups * left.shape[-2] * left.shape[-1] * right.shape[-1]


def _trilinear(
    first: torch.Tensor,
    weight: torch.Tensor,
    last: torch.Tensor,
    *expanded: Sequence[int],
    **_: Any,
) -> int:
    """Return one multiply-add for each row and weight, as `bilinear` has them."""
    shapes = []
    for tensor, axes in zip((first, weight, last), expanded, strict=False):
        shape = list(tensor.shape)
        for axis in sorted(axes):
            shape.insert(axis, 1)
        shapes.append(shape)
    return 2 * prod(torch.broadcast_shapes(*shapes))


def _distances(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    # the squares of both norms are two more columns of the one product that it makes
    return 2 * prod(left.shape[:-1]) * right.shape[-2] * (left.shape[-1] + 2)


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> int:
    heads = query.shape[-3]
    scores = prod(query.shape[:-3]) * heads * query.shape[-2] * key.shape[-2]
    return 2 * scores * (query.shape[-1] + value.shape[-1])


def _lengths(sequences: torch.Tensor) -> list[int]:
    """Return the lengths of a batch of sequences, which may be nested."""
    if sequences.is_nested:
        return [each.shape[0] for each in sequences.unbind()]
    return [sequences.shape[1]] * sequences.shape[0]


def _native_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    width: int,
    heads: int,
    in_weight: torch.Tensor,
    in_bias: Any,
    out_weight: torch.Tensor,
    *_: Any,
    **__: Any,
) -> int:
    square = width * width
    assert in_weight.numel() == 3 * square
    assert out_weight.numel() == square
    return sum(
        2 * (2 * length * square + 2 * others * square + 2 * length * others * width)
        for length, others in zip(_lengths(query), _lengths(key), strict=True)
    )


def _encoder_layer(source: torch.Tensor, width: int, *rest: Any, **_: Any) -> int:
    matrices = sum(
        each.numel() for each in rest if isinstance(each, torch.Tensor) and each.dim() == 2
    )
    return sum(2 * (length * matrices + 2 * length * length * width) for length in _lengths(source))


def _steps(sequences: torch.Tensor) -> int:
    return prod(sequences.shape[:-1])


def _mkldnn_recurrent(x: torch.Tensor, *weights: Any, **_: Any) -> int:
    return 2 * _steps(x) * sum(weight.numel() for weight in weights[:2])


def _recurrent(x: torch.Tensor, weights: Sequence[torch.Tensor], *_: Any, **__: Any) -> int:
    return 2 * _steps(x) * sum(weight.numel() for weight in weights if weight.dim() == 2)


def _linear(x: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> int:
    values = x.values() if x.layout is torch.jagged else x
    return 2 * values.numel() * weight.shape[0]


def _convolution(x: torch.Tensor, weight: torch.Tensor, *_: Any, out_val: torch.Tensor) -> int:
    return 2 * out_val.numel() * prod(weight.shape[1:])


def _any_convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *_: Any,
    out_val: torch.Tensor,
) -> int:
    points = x if transposed else out_val
    return 2 * points.numel() * prod(weight.shape[1:])


def _packed_product(x: torch.Tensor, weight: Any, *_: Any, out_val: torch.Tensor) -> int:
    return 2 * out_val.numel() * prod(next(unpacked(weight)).shape[1:])


def _packed_transposed(x: torch.Tensor, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * prod(next(unpacked(weight)).shape[1:])


def _packed_recurrent(x: torch.Tensor, *rest: Any, **_: Any) -> int:
    packed = [each for each in tree_leaves(rest) if isinstance(each, torch.ScriptObject)]
    return 2 * _steps(x) * matrices_of(packed)


FORMULAS: dict[str, Formula] = {
    # torch's own formulas for these give the same, after 10 to 80 microseconds
    "aten::convolution": _any_convolution,
    "aten::mm": _matrix_matrix,
    "aten::bmm": _matrix_matrix,
    "aten::addmm": _added_product,
    "aten::baddbmm": _added_product,
    "aten::_euclidean_dist": _distances,
    "aten::_grouped_mm": _grouped,
    "aten::_int_mm": _matrix_matrix,
    "aten::_native_multi_head_attention": _native_attention,
    "aten::_scaled_grouped_mm": _grouped,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::_trilinear": _trilinear,
    "aten::_weight_int8pack_mm": _matrix_transposed,
    "aten::_addmm_activation": _added_product,
    "aten::addbmm": _added_product,
    "aten::addmv": _added_matrix_vector,
    "aten::addr": _outer,
    "aten::dot": _matrix_vector,
    "aten::linear": _linear,
    "aten::mv": _matrix_vector,
    "aten::vdot": _matrix_vector,
    "aten::_cudnn_rnn": _recurrent,
    "aten::miopen_rnn": _recurrent,
    "aten::mkldnn_rnn_layer": _mkldnn_recurrent,
    "aten::mkldnn_linear": _matrix_transposed,
    "aten::mkldnn_convolution": _convolution,
    "aten::miopen_convolution": _convolution,
    "aten::_mps_convolution": _convolution,
    "aten::quantized_gru": _packed_recurrent,
    "aten::quantized_lstm": _packed_recurrent,
    **{
        f"aten::_scaled_dot_product_{kernel}": _attention
        for kernel in (
            "attention_math_for_mps",
            "flash_attention_for_cpu",
            "fused_attention_overrideable",
        )
    },
    **{
        f"quantized::{name}{relu}{kind}": _packed_product
        for name in ("conv1d", "conv2d", "conv3d", "linear")
        for relu in ("", "_relu")
        for kind in ("", "_dynamic", "_dynamic_fp16")
    },
    **{
        f"quantized::conv_transpose{axes}d{kind}": _packed_transposed
        for axes in (1, 2, 3)
        for kind in ("", "_dynamic")
    },
    **{
        f"quantized::quantized_{cell}_cell_dynamic": _packed_recurrent
        for cell in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    },
    "torchvision::deform_conv2d": _convolution,
}
"""Products that torch's counter passes over or is slow to count, by the same definition."""


ONLY_IN_TORCH = re.compile("attention|convolution|_slow_conv2d|_scaled_mm")
"""The operations with a formula in `torch.utils.flop_counter` alone.

It is loaded for those only: it imports triton, which takes as long as all else of a first summary.
"""


class FlopCounter(LightMode):
    """Counts the operations of all that runs while it is active, or that it is told of.

    Attributes:
        total: floating-point operations so far.
        uncounted: operations with products in them for which there is no formula, by name.
        misses: how many operations those are together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.uncounted = Counter[str]()
        self.misses = 0
        # by identity, which the operation in the value keeps: to hash one takes a Python call
        self._found: dict[int, tuple[Any, Formula | None, str, bool]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and hasattr(func, "decompose"):
            # operations arrive whole here; elsewhere as what they are made of
            composite = is_composite(func)
            if composite and self._formula(func)[1] is None and _are_plain(args, kwargs):
                with self:  # func.decompose may take one in Python, which rounds otherwise
                    return decomposed(func, args, kwargs)
        output = func(*args, **kwargs)
        self.count(func, args, kwargs, output)
        return output

    def _formula(self, func: Any) -> tuple[Any, Formula | None, str, bool]:
        found = self._found.get(id(func))
        if found is None:
            found = self._found[id(func)] = func, *_counting(func, len(_loaded_registry() or ()))
        return found

    def count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Count an operation that was made."""
        _, formula, name, has_products = self._found.get(id(func)) or self._formula(func)
        if not has_products:
            return
        flops = None if formula is None else _flops(formula, args, kwargs, output)
        if flops is None:
            self.uncount(name)
        else:
            self.total += flops

    def uncount(self, name: str) -> None:
        """Take note of an operation that is not counted."""
        self.uncounted[name] += 1
        self.misses += 1


def _flops(
    formula: Formula, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> int | None:
    try:
        with DisableTorchFunction():  # modes make every look at a tensor ten times slower
            return formula(*args, **kwargs, out_val=output)
    except Exception:  # noqa: BLE001 - a form that it does not know, such as nested
        return None


def _loaded_registry() -> dict[Any, Formula] | None:
    """Return torch's formulas, the user's own among them, where their module is loaded."""
    module = sys.modules.get("torch.utils.flop_counter")
    return None if module is None else module.flop_registry


@cache
def _counting(func: Any, _: int) -> tuple[Formula | None, str, bool]:
    """Return an operation's formula, its name, and whether it multiplies and adds.

    They are found anew where torch's registry has grown.
    """
    if isinstance(func, HigherOrderOperator):
        return _registered(func), func.name(), True
    name = schema_of(func).name
    formula = FORMULAS.get(name)
    if formula is None and (_loaded_registry() is not None or ONLY_IN_TORCH.search(name)):
        formula = _registered(packet_of(func))
    counted = formula is not None or _has_products(func.namespace, name)
    return formula, name.removeprefix("aten::"), counted


def _registered(func: Any) -> Formula | None:
    from torch.utils.flop_counter import flop_registry, shape_wrapper

    formula: Any = flop_registry.get(func)
    is_wrapped = getattr(formula, "__code__", None) is shape_wrapper(len).__code__
    return _of_shapes(formula.__wrapped__) if is_wrapped else formula


def _of_shapes(formula: Formula) -> Formula:
    """Return what `shape_wrapper` does, ten times faster."""

    def of_shapes(*args: Any, out_val: Any, **kwargs: Any) -> int:
        named = {name: _shape(value) for name, value in kwargs.items()}
        return formula(*map(_shape, args), out_shape=_shape(out_val), **named)

    return of_shapes


def _shape(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape
    if type(value) in (list, tuple):
        return type(value)(map(_shape, value))
    return value


def _are_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether no tensor is nested or of a class of its own, which has kernels of its own."""
    tensors = (each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor))
    return all(type(t) in (torch.Tensor, nn.Parameter) and not t.is_nested for t in tensors)


def _has_products(namespace: str, name: str) -> bool:
    """Tell whether an operation without a formula multiplies and adds, as far as is known."""
    if namespace in WITHOUT_PRODUCTS:
        return name.removeprefix("aten::").startswith(PRODUCTS_WITHOUT_FORMULA)
    return not name.startswith(OTHERS_WITHOUT_PRODUCTS)
