"""A layer's weights as they are now, to be drawn: kernels by channels, matrices as maps."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from nnmagic.network.weight_axes import KERNEL_AXES, weight_axes
from nnmagic.records.kept_slices import grid_of, with_nonfinite
from nnmagic.records.tensor import Picture
from nnmagic.tensors.metadata import hidden_from_user_code, is_lazy
from nnmagic.tensors.samples import sample
from nnmagic.tensors.shards import part_here
from nnmagic.tensors.values import Values, as_array, read, why_unreadable
from nnmagic.torch_private import parameters_of
from nnmagic.widget.pictures import COLOURS

T = TypeVar("T")

MOST_SIDE = 128
"""How many rows and columns of a weight matrix are drawn at most."""

MOST_VALUES = 1 << 18
"""How many values of the first kernels are drawn at most; of larger ones a grid is."""

MOST_KERNELS = 64
MOST_CHANNELS = 16

MOST_DRAWN = 4
"""How many weights of one layer are drawn."""


class WeightPicture(NamedTuple):
    """Values of a weight to draw it by.

    Attributes:
        name: the parameter's.
        kind: `"kernels"` in colours, `"channels"` or `"matrix"`.
        axes: the names of its axes.
        shape: of the whole weight, without an axis of one channel.
        picture: the values.
    """

    name: str
    kind: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    picture: Picture


def weight_pictures(module: nn.Module) -> tuple[WeightPicture, ...]:
    """Return the pictures of a layer's own weights of two axes and more."""
    found: list[WeightPicture] = []
    for name, parameter in parameters_of(module).items():
        if parameter is None or is_lazy(parameter) or len(found) == MOST_DRAWN:
            continue
        drawn = _of_readable(parameter, partial(_drawn, name, module))
        if drawn is not None:
            found.append(drawn)
    return tuple(found)


def parameter_picture(parameter: torch.Tensor, *, is_finite: bool) -> Picture | None:
    """Return values to draw any parameter by, None where it cannot be read.

    Args:
        parameter: the parameter, which is not a lazy one.
        is_finite: whether all of its values are finite.
    """
    return _of_readable(parameter, lambda weight: _picture(weight, is_finite=is_finite))


def _of_readable(parameter: torch.Tensor, make: Callable[[torch.Tensor], T]) -> T | None:
    """Return what is made of a parameter's values here, None where they cannot be read."""
    try:
        with torch.no_grad(), hidden_from_user_code(parameter):
            weight = part_here(parameter)
            if why_unreadable(weight) or weight.layout is not torch.strided or weight.is_nested:
                return None
            return make(weight.detach())
    except Exception:  # noqa: BLE001 - a subclass may refuse to be read
        return None


def _drawn(name: str, module: nn.Module, weight: torch.Tensor) -> WeightPicture | None:
    rank = weight.dim()
    if not 2 <= rank <= len(KERNEL_AXES) + 2 or weight.numel() < 2:
        return None
    axes = weight_axes(module, name, rank)
    is_kernel = axes[-1] in ("k", "kw")
    if is_kernel and all(size == 1 for size in weight.shape[2:]):
        weight, axes = weight.flatten(1), axes[:2]
    elif rank >= 4 and is_kernel and weight.shape[1] == 1:  # a kernel a channel
        weight, axes = weight.squeeze(1), (axes[0], *axes[2:])
    kind = "channels" if is_kernel and len(axes) > 2 else "matrix"
    if len(axes) == 4 and is_kernel and weight.shape[1] == COLOURS:
        kind = "kernels"
    picture = _picture(weight)
    if len(set(picture.sample.flat())) == 1:
        return None  # as of a layer that begins with zeros
    return WeightPicture(name, kind, axes, tuple(weight.shape), picture)


def _picture(weight: torch.Tensor, *, is_finite: bool | None = None) -> Picture:
    """Return the values to draw a weight by.

    Args:
        weight: a dense tensor.
        is_finite: whether all of its values are finite; None where that is not known.
    """
    cut, steps = _cut(tuple(weight.shape))
    values = sample(_on_host(weight[cut]))
    if max(steps) > 1 and is_finite is None:
        is_finite = bool(weight.sum().isfinite())
    if max(steps) > 1 and not is_finite:
        whole = as_array(_on_host(weight))
        values = sample(with_nonfinite(values.array(), whole, steps))
    return Picture(values, steps)


def _on_host(weight: torch.Tensor) -> Values:
    whole = read(weight).whole
    assert whole is not None  # it is dense
    return whole


def _cut(shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Return which values are drawn: of a matrix every n-th row, of kernels the first."""
    sizes, steps = [*shape], (1,) * len(shape)
    if len(shape) >= 2 and prod(shape[2:]) == 1:
        steps = (*(max(1, -(-size // MOST_SIDE)) for size in shape[:2]), *steps[2:])
        sizes = [-(-size // step) for size, step in zip(shape, steps, strict=True)]
    elif len(shape) > 2:
        most = (MOST_KERNELS, MOST_CHANNELS) if len(shape) > 3 else (MOST_KERNELS,)
        sizes[: len(most)] = map(min, shape, most)
    if len(shape) == 1 or prod(sizes) > MOST_VALUES:
        sizes[:], steps = grid_of(shape, MOST_SIDE**2)
    return tuple(slice(0, n * step, step) for n, step in zip(sizes, steps, strict=True)), steps
