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
from torch import Tensor, nn

from nnmagic import torch_private as private
from nnmagic.structure.meta_cache import LightMode
from nnmagic.structure.packed import matrices_of, unpacked

WITHOUT_PRODUCTS = frozenset(("aten", "prim", "prims", "c10d", "_c10d_functional", "profiler"))
"""Namespaces of torch operations, none of which multiplies and adds, but for those named here."""

PRODUCTS_WITHOUT_FORMULA = """
    _cdist _cslt_sparse _fft _linalg_det _linalg_eig _linalg_slogdet _linalg_solve _linalg_svd
    _lstm_mps _sparse _weight_int4pack bilinear cholesky conv einsum geqrf gru inner
    linalg_cholesky linalg_eig linalg_householder linalg_inv linalg_ldl linalg_lstsq linalg_lu
    linalg_matrix_exp linalg_matrix_sqrth linalg_pinv linalg_polar linalg_qr linalg_solve linalg_svd
    lstm lu_solve matmul ormqr rnn_ scaled_dot_product sparse_sampled tensordot triangular_solve
"""
"""Prefixes of the names of torch operations that multiply and add but have no formula."""

OTHERS_WITHOUT_PRODUCTS = """
    quantized::add quantized::batch_norm quantized::cat quantized::embedding
    quantized::linear_unpack quantized::mul quantized::relu
    torchvision::nms torchvision::ps_roi torchvision::roi
"""
"""Prefixes of the names of operations in other namespaces that multiply and add nothing either."""


Formula = Callable[..., int]
"""Gives the FLOPs of a call, from its arguments and its result, the keyword `out_val`."""


def _product(left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    return 2 * left.numel() * (right.shape[-1] if right.dim() > 1 else 1)


def _added_product(_: Any, left: Tensor, right: Tensor, **__: Any) -> int:
    return _product(left, right)


def _outer(_: Any, left: Tensor, right: Tensor, **__: Any) -> int:
    return 2 * left.numel() * right.numel()


def _linear(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    values = x.values() if x.layout is torch.jagged else x
    return 2 * values.numel() * weight.shape[0]


def _grouped(left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    # where both have groups they are a batch; else a group has its share of rows, columns or terms
    groups = left.shape[0] if left.dim() == right.dim() == 3 else 1
    return 2 * groups * left.shape[-2] * left.shape[-1] * right.shape[-1]


def _trilinear(first: Tensor, weight: Tensor, last: Tensor, *added: Sequence[int], **_: Any) -> int:
    """Return one multiply-add for each row and weight, as `bilinear` has them."""
    shapes = []
    for tensor, axes in zip((first, weight, last), added, strict=False):
        shape = list(tensor.shape)
        for axis in sorted(axes):
            shape.insert(axis, 1)
        shapes.append(shape)
    return 2 * prod(torch.broadcast_shapes(*shapes))


def _distances(left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    # the squares of both norms are two more columns of the one product that it makes
    return 2 * prod(left.shape[:-1]) * right.shape[-2] * (left.shape[-1] + 2)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    scores = prod(query.shape[:-1]) * key.shape[-2]
    return 2 * scores * (query.shape[-1] + value.shape[-1])


def _lengths(sequences: Tensor) -> list[int]:
    """Return the lengths of a batch of sequences, which may be nested."""
    if sequences.is_nested:
        return [sequence.shape[0] for sequence in sequences.unbind()]
    return [sequences.shape[1]] * sequences.shape[0]


def _native_attention(query: Tensor, key: Tensor, _: Any, width: int, *__: Any, **___: Any) -> int:
    lengths = zip(_lengths(query), _lengths(key), strict=True)
    return sum(4 * width * (width * (q + k) + q * k) for q, k in lengths)


def _encoder_layer(source: Tensor, width: int, *rest: Any, **_: Any) -> int:
    weights = sum(each.numel() for each in rest if isinstance(each, Tensor) and each.dim() == 2)
    return sum(2 * length * (weights + 2 * length * width) for length in _lengths(source))


def _recurrent(x: Tensor, weights: Sequence[Tensor], *_: Any, **__: Any) -> int:
    return 2 * prod(x.shape[:-1]) * sum(weight.numel() for weight in weights if weight.dim() == 2)


def _mkldnn_recurrent(x: Tensor, *weights: Any, **_: Any) -> int:
    return _recurrent(x, weights[:2])


def _packed_recurrent(x: Tensor, *rest: Any, **_: Any) -> int:
    packed = [each for each in private.tree_leaves(rest) if isinstance(each, torch.ScriptObject)]
    return 2 * prod(x.shape[:-1]) * matrices_of(packed)


def _convolution(_: Any, weight: Tensor, *__: Any, out_val: Tensor) -> int:
    return 2 * out_val.numel() * prod(weight.shape[1:])


def _any_convolution(x: Tensor, weight: Tensor, *more: Any, out_val: Tensor) -> int:
    is_transposed = more[4]  # after bias, stride, padding and dilation
    return _convolution(x, weight, out_val=x if is_transposed else out_val)


def _packed_product(_: Any, weight: Any, *__: Any, out_val: Tensor) -> int:
    return 2 * out_val.numel() * prod(next(unpacked(weight)).shape[1:])


def _packed_transposed(x: Tensor, weight: Any, *_: Any, **__: Any) -> int:
    return _packed_product(x, weight, out_val=x)


OPERATIONS: Sequence[tuple[str, Formula, str]] = (
    # torch's own formulas for the first of these give the same, after 10 to 80 microseconds
    ("aten", _any_convolution, "convolution"),
    ("aten", _product, "mm bmm _int_mm mv dot vdot"),
    ("aten", _added_product, "addmm baddbmm addbmm addmv _addmm_activation"),
    ("aten", _outer, "addr"),
    ("aten", _linear, "linear mkldnn_linear _weight_int8pack_mm"),
    ("aten", _grouped, "_grouped_mm _scaled_grouped_mm"),
    ("aten", _trilinear, "_trilinear"),
    ("aten", _distances, "_euclidean_dist"),
    ("aten", _native_attention, "_native_multi_head_attention"),
    ("aten", _encoder_layer, "_transformer_encoder_layer_fwd"),
    ("aten", _attention, "_scaled_dot_product_attention_math_for_mps"),
    ("aten", _attention, "_scaled_dot_product_flash_attention_for_cpu"),
    ("aten", _attention, "_scaled_dot_product_fused_attention_overrideable"),
    ("aten", _recurrent, "_cudnn_rnn miopen_rnn"),
    ("aten", _mkldnn_recurrent, "mkldnn_rnn_layer"),
    ("aten", _packed_recurrent, "quantized_gru quantized_lstm"),
    ("aten", _convolution, "mkldnn_convolution miopen_convolution _mps_convolution"),
    ("torchvision", _convolution, "deform_conv2d"),
    *(
        ("quantized", _packed_product, f"{kind} {kind}_dynamic {kind}_dynamic_fp16")
        for name in ("conv1d", "conv2d", "conv3d", "linear")
        for kind in (name, f"{name}_relu")
    ),
    *(
        ("quantized", _packed_transposed, f"{name} {name}_dynamic")
        for name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    ),
    *(
        ("quantized", _packed_recurrent, f"quantized_{cell}_cell_dynamic")
        for cell in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    ),
)
"""Namespaces of operations, the formula of several of them, and their names."""

FORMULAS: dict[str, Formula] = {
    f"{namespace}::{name}": formula
    for namespace, formula, names in OPERATIONS
    for name in names.split()
}
"""Formulas by the same definition, for what torch's counter passes over or is slow to count."""


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

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and hasattr(func, "decompose"):
            # operations arrive whole here; elsewhere as what they are made of
            composite = private.is_composite(func)
            if composite and self._formula(func)[1] is None and _are_plain(args, kwargs):
                with self:  # func.decompose may take one in Python, which rounds otherwise
                    return private.decomposed(func, args, kwargs)
        output = func(*args, **kwargs)
        self.count(func, args, kwargs, output)
        return output

    def _formula(self, func: Any) -> tuple[Any, Formula | None, str, bool]:
        found = self._found.get(id(func))
        if found is None:
            found = self._found[id(func)] = (
                func,
                *_counting(func, len(_registry()) if _is_registry_loaded() else 0),
            )
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
        with private.DisableTorchFunction():  # modes make every look at a tensor ten times slower
            return formula(*args, **kwargs, out_val=output)
    except Exception:  # noqa: BLE001 - an argument that it does not expect, such as a nested tensor
        return None


def _is_registry_loaded() -> bool:
    return "torch.utils.flop_counter" in sys.modules


def _registry() -> dict[Any, Formula]:
    """Return torch's formulas, the user's own among them."""
    from torch.utils.flop_counter import flop_registry

    return flop_registry


@cache
def _counting(func: Any, _: int) -> tuple[Formula | None, str, bool]:
    """Return an operation's formula, its name, and whether it multiplies and adds.

    They are found anew where torch's registry has grown.
    """
    if isinstance(func, private.HigherOrderOperator):
        return _registry().get(func), func.name(), True
    name = private.schema_of(func).name
    formula = FORMULAS.get(name)
    if formula is None and (_is_registry_loaded() or ONLY_IN_TORCH.search(name)):
        formula = _registry().get(private.packet_of(func))
    counted = formula is not None or _has_products(func.namespace, name)
    return formula, name.removeprefix("aten::"), counted


def _are_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether no tensor is nested or of a class of its own, which has kernels of its own."""
    tensors = (each for each in private.tree_leaves((args, kwargs)) if isinstance(each, Tensor))
    return all(type(t) in (Tensor, nn.Parameter) and not t.is_nested for t in tensors)


def _has_products(namespace: str, name: str) -> bool:
    """Tell whether an operation without a formula multiplies and adds, as far as is known."""
    if namespace in WITHOUT_PRODUCTS:
        return name.removeprefix("aten::").startswith(tuple(PRODUCTS_WITHOUT_FORMULA.split()))
    return not name.startswith(tuple(OTHERS_WITHOUT_PRODUCTS.split()))
