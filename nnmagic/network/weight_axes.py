"""What the axes of a layer's own parameters are called."""

from collections.abc import Sequence
from typing import Any

from torch import nn

KERNEL_AXES = ("kd", "kh", "kw")

ANY = "..."
"""Stands for the axes of a kernel: one, two or three."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
OF_CHANNELS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)

GATES = ("gate × feature", "in")

OF_LAYERS: tuple[tuple[Any, dict[str, tuple[str, ...]]], ...] = (
    (nn.Linear, {"weight": ("out", "in"), "bias": ("out",)}),
    (nn.Bilinear, {"weight": ("out", "in 1", "in 2"), "bias": ("out",)}),
    (TRANSPOSED, {"weight": ("in", "out", ANY), "bias": ("out",)}),
    (CONVOLUTIONS, {"weight": ("out", "in", ANY), "bias": ("out",)}),
    ((nn.Embedding, nn.EmbeddingBag), {"weight": ("id", "feature")}),
    (OF_CHANNELS, {"weight": ("channel",), "bias": ("channel",)}),
    ((nn.LayerNorm, nn.RMSNorm), {"weight": ("feature",), "bias": ("feature",)}),
    (nn.PReLU, {"weight": ("channel",)}),
    ((nn.RNN, nn.RNNCell), {"weight": ("feature", "in"), "bias": ("feature",)}),
    (RECURRENT, {"weight": GATES, "bias": GATES[:1]}),
    (
        nn.MultiheadAttention,
        {"in_proj_weight": ("out", "in"), "in_proj_bias": ("out",)}
        | {f"{each}_proj_weight": ("out", "in") for each in "qkv"},
    ),
)
"""The axes of the parameters of torch's layers; a recurrent layer's have names that begin so."""


def weight_axes(module: nn.Module, name: str, rank: int) -> tuple[str, ...]:
    """Return what the axes of a parameter are called: ``("out", "in", "kh", "kw")`` for a kernel.

    Args:
        module: the layer whose own it is.
        name: its name there.
        rank: how many axes it has.
    """
    axes = _of_layer(module, name)
    if axes[2:] == (ANY,):
        axes = (*axes[:2], *(("k",) if rank == 3 else KERNEL_AXES[5 - rank :]))
    return axes if len(axes) == rank else unnamed(rank)


def _of_layer(module: nn.Module, name: str) -> tuple[str, ...]:
    if type(module).__name__ == "Conv1D" and name == "weight":  # a GPT-2's, which is a Linear
        return ("in", "out")
    for kinds, axes in OF_LAYERS:
        if isinstance(module, kinds):
            if isinstance(module, RECURRENT) and "_hr_" not in name:
                name = name.partition("_")[0]
            return axes.get(name, ())
    return ()


def unnamed(rank: int) -> tuple[str, ...]:
    """Return what axes are called of which nothing is known: ``("axis 0", "axis 1")``."""
    return tuple(f"axis {i}" for i in range(rank))


def is_unnamed(axes: Sequence[str]) -> list[bool]:
    """Tell of each axis whether nothing is known of it."""
    return [name == f"axis {i}" for i, name in enumerate(axes)]
