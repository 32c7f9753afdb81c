"""A layer's weights as they are now, to be drawn: kernels by channels, matrices as maps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from nnmagic.network.weight_axes import KERNEL_AXES, weight_axes
from nnmagic.records.kept_slices import with_nonfinite
from nnmagic.records.tensor import Picture
from nnmagic.tensors.metadata import hidden_from_user_code, is_lazy
from nnmagic.tensors.samples import sample
from nnmagic.tensors.shards import part_here
from nnmagic.tensors.values import as_array, why_unreadable
from nnmagic.torch_private import parameters_of
from nnmagic.widget.pictures import COLOURS

MOST_SIDE = 128
"""How many rows and columns of a weight matrix are drawn at most."""

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
        try:
            with torch.no_grad(), hidden_from_user_code(parameter):
                drawn = _drawn(name, parameter, module)
        except Exception:  # noqa: BLE001 - a subclass may refuse to be read
            drawn = None
        if drawn is not None:
            found.append(drawn)
    return tuple(found)


def _drawn(name: str, weight: torch.Tensor, module: nn.Module) -> WeightPicture | None:
    weight = part_here(weight)
    rank = weight.dim()
    if why_unreadable(weight) or weight.layout is not torch.strided or weight.is_nested:
        return None
    if not 2 <= rank <= len(KERNEL_AXES) + 2 or weight.numel() < 2:
        return None
    axes, weight = weight_axes(module, name, rank), weight.detach()
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


def _picture(weight: torch.Tensor) -> Picture:
    """Return the values to draw a weight by."""
    cut, steps = _cut(weight.shape)
    values = sample(weight[cut])
    if max(steps) > 1 and not weight.sum().isfinite():
        whole = as_array(weight.cpu())
        values = sample(with_nonfinite(values.array(), whole, steps))
    return Picture(values, steps)


def _cut(shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Return which values are drawn: of a matrix every n-th row, of kernels the first."""
    if len(shape) == 2:
        steps = tuple(max(1, -(-size // MOST_SIDE)) for size in shape)
        return tuple(slice(None, None, step) for step in steps), steps
    most = (MOST_KERNELS, MOST_CHANNELS) if len(shape) > 3 else (MOST_KERNELS,)
    return tuple(slice(n) for n in most), (1,) * len(shape)
