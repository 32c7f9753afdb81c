"""A layer's weights as they are now, to be drawn: kernels by channels, matrices as maps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from nnmagic.records.tensor import Picture
from nnmagic.tensors.metadata import hidden_from_user_code, is_lazy
from nnmagic.tensors.samples import sample
from nnmagic.tensors.values import why_unreadable
from nnmagic.torch_private import parameters_of

MOST_SIDE = 128
"""How many rows and columns of a weight matrix are drawn at most."""

MOST_KERNELS = 64
MOST_CHANNELS = 16

MOST_DRAWN = 4
"""How many weights of one layer are drawn."""

COLOURS = 3

KERNEL_AXES = ("kd", "kh", "kw")
MATRIX_AXES = {
    "Linear": ("out", "in"),
    "Conv1D": ("in", "out"),
    "Embedding": ("id", "feature"),
    "EmbeddingBag": ("id", "feature"),
    "LSTM": ("gate × feature", "in"),
    "GRU": ("gate × feature", "in"),
    "LSTMCell": ("gate × feature", "in"),
    "GRUCell": ("gate × feature", "in"),
    "MultiheadAttention": ("out", "in"),
}


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
                drawn = _drawn(name, parameter, type(module).__name__)
        except Exception:  # noqa: BLE001 - a subclass may refuse to be read
            drawn = None
        if drawn is not None:
            found.append(drawn)
    return tuple(found)


def weight_axes(rank: int, layer: str) -> tuple[str, ...]:
    """Return the names of the axes of a weight: ``("out", "in", "kh", "kw")`` for a kernel.

    Args:
        rank: how many axes it has.
        layer: the class of the layer, `""` where that is not known.
    """
    if rank < 2:
        return ("out",)[:rank]
    if rank == 2:
        return MATRIX_AXES.get(layer, ("row", "column"))
    ends = ("in", "out") if "Transpose" in layer else ("out", "in")
    return (*ends, *(("k",) if rank == 3 else KERNEL_AXES[5 - rank :]))[-rank:]


def _drawn(name: str, weight: torch.Tensor, layer: str) -> WeightPicture | None:
    rank = weight.dim()
    unreadable = why_unreadable(weight) or weight.layout is not torch.strided
    if (
        unreadable
        or weight.is_nested
        or not 2 <= rank <= len(KERNEL_AXES) + 2
        or not weight.numel()
    ):
        return None
    axes, weight = weight_axes(rank, layer), weight.detach()
    if rank >= 4 and weight.shape[1] == 1:  # a kernel a channel
        weight, axes = weight.squeeze(1), (axes[0], *axes[2:])
    kind = "channels" if rank > 2 else "matrix"
    if rank == 4 and weight.shape[1] == COLOURS and weight.dim() == 4:
        kind = "kernels"
    cut, steps = _cut(weight.shape)
    return WeightPicture(name, kind, axes, tuple(weight.shape), Picture(sample(weight[cut]), steps))


def _cut(shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Return which values are drawn: of a matrix every n-th row, of kernels the first."""
    if len(shape) == 2:
        steps = tuple(max(1, -(-size // MOST_SIDE)) for size in shape)
        return tuple(slice(None, None, step) for step in steps), steps
    most = (MOST_KERNELS, MOST_CHANNELS) if len(shape) > 3 else (MOST_KERNELS,)
    return tuple(slice(n) for n in most), (1,) * len(shape)
