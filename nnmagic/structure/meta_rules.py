"""Results on the meta device by rule, where torch would run Python kernels.

There torch takes 400 microseconds for a product with a bias, 800 for a batch norm, 1,600 for a
hardswish. The rules stand below autograd and autocast, whose part of the work is done as always: a
result requires a gradient as it would, and what is saved for backward is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

META = torch.device("meta")

FLOATS = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})

UNARY = """
    abs celu cos elu erf exp gelu hardsigmoid hardswish hardtanh leaky_relu log mish
    neg relu rsqrt selu sigmoid silu sin softplus sqrt tanh
"""

BINARY = "add div mul sub"


STRIDED = torch.strided


def _new(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a new contiguous tensor with the dtype of another one."""
    return torch.empty(shape, dtype=like.dtype, device=META)


def is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor's values are laid out by strides."""
    return tensor.layout is STRIDED and not tensor.is_nested


def _is_supported(tensor: Tensor, *others: Tensor) -> bool:
    """Tell whether a tensor is dense, on meta and of one of `FLOATS`, and others are like it."""
    dtype = tensor.dtype
    if not (tensor.is_meta and dtype in FLOATS and is_dense(tensor)):
        return False
    for each in others:  # noqa: SIM110 - a generator takes as long as all the rest
        if each.dtype is not dtype or not _is_supported(each):
            return False
    return True


@lru_cache(maxsize=4096)
def _default_strides(shape: torch.Size) -> tuple[int, ...]:
    """Return the strides of a new tensor of this shape."""
    step, strides = 1, []
    for size in reversed(shape):
        strides.append(step)
        step *= size or 1
    return tuple(reversed(strides))


def _has_default_strides(tensor: Tensor) -> bool:
    """Tell whether a tensor has the strides of a new one, axes of one value included."""
    return tensor.stride() == _default_strides(tensor.shape)


def _is_channels_last(tensor: Tensor) -> bool:
    """Tell whether a tensor is laid out so, and could not be taken for another layout."""
    shape = tensor.shape
    return (
        len(shape) == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and shape[1] > 1
        and shape[2] * shape[3] > 1
        and shape[0] > 0
        and tensor.stride() == (shape[1] * shape[2] * shape[3], 1, shape[1] * shape[3], shape[1])
    )


def _new_like(tensor: Tensor) -> Tensor:
    """Return a new tensor laid out as another one, if that is contiguous or channels last."""
    if not (_has_default_strides(tensor) or _is_channels_last(tensor)):
        return NotImplemented
    shape, strides = tensor.shape, tensor.stride()
    return torch.empty_strided(shape, strides, dtype=tensor.dtype, device=META)


def _unary(x: Tensor, *more: Any, **options: Any) -> Any:
    return NotImplemented if more or options or not _is_supported(x) else _new_like(x)


def _in_place(x: Tensor, *more: Any, **options: Any) -> Any:
    return NotImplemented if more or options or not _is_supported(x) else x


def _binary(x: Any, y: Any, **options: Any) -> Any:
    if options or not (isinstance(x, Tensor) and _is_supported(x)):
        return NotImplemented
    if not isinstance(y, Tensor):
        return _new_like(x) if type(y) in (int, float) else NotImplemented
    if not _is_supported(x, y):
        return NotImplemented
    if x.shape == y.shape:
        return _new_like(x) if x.stride() == y.stride() else NotImplemented
    large, small = (x, y) if x.dim() >= y.dim() and _broadcasts_to(y, x) else (y, x)
    if not _broadcasts_to(small, large):
        return NotImplemented
    new = _new_like(large)
    if new is NotImplemented:
        return new
    ordered = new.is_contiguous() or small.numel() == max(small.shape, default=1)
    return new if ordered and _has_default_strides(small) else NotImplemented


def _broadcasts_to(small: Tensor, large: Tensor) -> bool:
    """Tell whether a tensor is broadcast to the shape of another one."""
    added = large.dim() - small.dim()
    sizes = zip(small.shape, large.shape[added:], strict=True) if added >= 0 else ()
    return added >= 0 and all(one in (1, other) for one, other in sizes)


def _added_matrix_product(bias: Tensor, a: Tensor, b: Tensor, **options: Any) -> Any:
    fits = a.dim() == b.dim() == 2 and a.shape[1] == b.shape[0] and bias.shape == b.shape[1:]
    if options or not (fits and _is_supported(a, b) and bias.is_meta and bias.dtype is a.dtype):
        return NotImplemented
    return _new(a, (a.shape[0], b.shape[1]))


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:
    axes, got, kernel = x.dim() - 2, x.shape, weight.shape
    known = (
        not transposed
        and _is_supported(x, weight)
        and axes in (1, 2, 3)
        and len(kernel) - 2 == len(stride) == len(padding) == len(dilation) == axes
        and min(*stride, *dilation, groups, *kernel, *got) > 0
        and min(padding) >= 0
        and got[1] == kernel[1] * groups
        and kernel[0] % groups == 0
        and _has_default_strides(x)
        and _has_default_strides(weight)
    )
    if not known or (bias is not None and not _fit(x, (bias,), kernel[:1])):
        return NotImplemented
    sizes = [
        (got[i + 2] + 2 * padding[i] - dilation[i] * (kernel[i + 2] - 1) - 1) // stride[i] + 1
        for i in range(axes)
    ]
    if min(sizes) <= 0:
        return NotImplemented
    return _new(x, (got[0], kernel[0], *sizes))


def _fit(x: Tensor, parameters: Sequence[Tensor | None], shape: tuple[int, ...]) -> bool:
    """Tell whether parameters have a shape, default strides and the dtype of `x`, or are None."""
    dtype = x.dtype
    for each in parameters:
        if each is not None and not (
            each.is_meta
            and each.dtype is dtype
            and each.shape == shape
            and _has_default_strides(each)
        ):
            return False
    return True


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    if x.dim() < 2 or not _is_supported(x) or not x.numel():
        return NotImplemented
    channels = x.shape[1]
    if not _fit(x, (weight, bias, mean, variance), (channels,)):
        return NotImplemented
    if x.numel() == channels if training else mean is None or variance is None:
        return NotImplemented
    new = _new_like(x)
    return NotImplemented if new is NotImplemented else (new, *_statistics(x, (channels,)))


def _statistics(x: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    dtype = x.dtype if x.dtype is torch.float64 else torch.float32
    return [torch.empty(shape, dtype=dtype, device=META) for _ in "mv"]


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Any:
    axes = len(shape)
    if not (_is_supported(x) and x.numel() and axes and list(x.shape[-axes:]) == shape):
        return NotImplemented
    if x.is_contiguous() and not _has_default_strides(x):
        return NotImplemented
    if not _fit(x, (weight, bias), tuple(shape)):
        return NotImplemented
    return _new(x, x.shape), *_statistics(x, (*x.shape[:-axes], *(1 for _ in shape)))


def _mean(x: Tensor, axes: list[int] | None, keepdim: bool = False, **options: Any) -> Any:
    if options or not axes or not _is_supported(x):
        return NotImplemented
    rank = x.dim()
    gone = {axis % rank for axis in axes if -rank <= axis < rank}
    if len(gone) != len(axes):
        return NotImplemented
    if keepdim:
        return _new(x, [1 if i in gone else size for i, size in enumerate(x.shape)])
    return _new(x, [size for i, size in enumerate(x.shape) if i not in gone])


def _cat(tensors: list[Tensor], axis: int = 0) -> Any:
    first = tensors[0]
    rank = first.dim()
    if not -rank <= axis < rank:
        return NotImplemented
    axis %= rank
    rest = [*first.shape[:axis], *first.shape[axis + 1 :]]
    for each in tensors:
        fits = each.dim() == rank and _is_supported(first, each)
        if not fits or [*each.shape[:axis], *each.shape[axis + 1 :]] != rest:
            return NotImplemented
        if not _has_default_strides(each):
            return NotImplemented
    rest.insert(axis, sum(each.shape[axis] for each in tensors))
    return _new(first, rest)


def _named(names: str, form: str = "default") -> list[Any]:
    packets = (getattr(aten, name, None) for name in names.split())
    return [getattr(packet, form) for packet in packets if packet is not None]


def _grouped_product(left: Tensor, right: Tensor, groups: Any = None, *more: Any, **_: Any) -> Any:
    """Claim products in single or double precision, which torch makes on the CPU only."""
    wide = {left.dtype, right.dtype} in ({torch.float32}, {torch.float64})
    if not wide or any(each is not None for each in more) or left.shape[-1] != right.shape[-2]:
        return NotImplemented
    if not _is_supported(left, right):
        return NotImplemented
    shape = [left.shape[-2], right.shape[-1]]
    if left.dim() == right.dim():
        shape.insert(0, left.shape[0] if left.dim() == 3 else groups.shape[0])
    return _new(left, shape)


RULES: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys(_named(UNARY), _unary),
    **dict.fromkeys(_named(" ".join(f"{name}_" for name in UNARY.split())), _in_place),
    **dict.fromkeys(_named(BINARY, "Tensor"), _binary),
    **dict.fromkeys(_named(BINARY, "Scalar"), _binary),
    aten.addmm.default: _added_matrix_product,
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.mean.dim: _mean,
    aten.cat.default: _cat,
}
"""What a rule gives is a new result, or `NotImplemented` where it claims nothing."""

BEYOND_META: Mapping[Any, Callable[..., Any]] = (
    {aten._grouped_mm.default: _grouped_product} if hasattr(aten, "_grouped_mm") else {}
)
"""Rules for what torch makes on a real device and refuses on meta."""

ONE_DTYPE = frozenset(
    {
        *(aten.mm.default, aten.addmm.default, aten.bmm.default, aten.mv.default),
        *(aten.addmv.default, aten.dot.default, aten.convolution.default),
        *(aten.native_batch_norm.default, aten.native_layer_norm.default),
        aten.native_group_norm.default,
    }
)
"""What refuses tensors of several dtypes on a real device, but not on meta."""


def refuse_several_dtypes(func: Any, args: Sequence[Any]) -> None:
    """Raise a RuntimeError where an operation on a real device would refuse its dtypes.

    A normalisation in half precision takes weights in single precision.
    """
    if func not in ONE_DTYPE:
        return
    dtypes = {each.dtype for each in args if isinstance(each, Tensor)}
    if len(dtypes) > 1 and not ("norm" in func.name() and dtypes in MIXED):
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise RuntimeError(f"{func.name()} takes tensors of one dtype, it got {names}")


MIXED = ({torch.bfloat16, torch.float32}, {torch.float16, torch.float32})
