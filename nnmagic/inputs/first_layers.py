"""The inputs that a network may take, read off its first layers that hold weights."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import isqrt
from typing import Any

from torch import nn

from nnmagic.inputs.specs import TensorSpec
from nnmagic.network.layers import layers_of, modules_of
from nnmagic.torch_private import BatchNorm, ConvNd, parameters_of

LAYERS_TRIED = 4
SEQUENCE = 16
SHORT = 4
SIZES = (224, 32, 64, 28, 96, 128, 256, 299, 384, 512)
SMALL_SIZES = (28, 32, 64, 224, 96, 128, 256)
GROWING_SIZES = (1, 4, 7, 8, 16, 28, 32)
LENGTHS = (128, 1024, 16_000)
CLIPS = ((16, 112, 112), (16, 224, 224), (16, 16, 16), (32, 32, 32), (64, 64, 64), (112, 112, 112))
BLOCKS = ((16, 16, 16), (32, 32, 32), (64, 64, 64), (112, 112, 112), (16, 112, 112))
EVERY_SIDE = (*range(32, 1025, 32), *range(2, 161))
LARGEST = {1: 1 << 20, 2: 4096, 3: 256}
SIDES = ("image_size", "img_size", "input_size", "input_resolution")


def weighted_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers that hold parameters of their own, with their names."""
    for name, module in layers_of(network).items():
        if any(each is not None for each in parameters_of(module).values()):
            yield name, module


def first_layer_sizes(network: nn.Module) -> list[list[TensorSpec]]:
    """Return the specs of what each of the first layers with weights takes, the likeliest first."""
    sides = _sides(network)
    layers = (
        list(_sizes_for(layer, f"{name or 'it'} ({type(layer).__name__})", sides))
        for name, layer in weighted_layers(network)
    )
    sizes = list(islice(filter(None, layers), LAYERS_TRIED))
    if sizes:
        return sizes
    reason = "no layer says what input it takes"
    shapes = [(1, 28, 28), (1, 3, 32, 32), (1, 16), (1, 3, 224, 224)]
    return [list(_specs(shapes, reason))]


def least_vocabulary(network: nn.Module) -> int | None:
    """Return how many ids every embedding of the network has; None if it has no embedding."""
    tables = (m for m in modules_of(network) if isinstance(m, nn.Embedding | nn.EmbeddingBag))
    return min((table.num_embeddings for table in tables), default=None)


def pictures_of(network: nn.Module) -> list[TensorSpec]:
    """Return the pictures that the first two-dimensional convolution may take."""
    sides = _sides(network)
    for name, layer in weighted_layers(network):
        if isinstance(layer, nn.Conv2d):
            return list(_sizes_for(layer, f"{name} ({type(layer).__name__})", sides))
    return [TensorSpec((1, 3, 224, 224), reason="a picture")]


def smallest_picture(network: nn.Module) -> TensorSpec | None:
    """Return an input of side 1 for the first convolution; None if the network has none."""
    for name, layer in weighted_layers(network):
        if isinstance(layer, ConvNd) and not _is_lazy(layer):
            channels = layer.in_channels
            reason = (
                f"{name or 'it'} ({type(layer).__name__}) takes {channels} channels, "
                f"and this size fits the layers after it"
            )
            return TensorSpec((1, channels, *[1] * len(layer.kernel_size)), reason=reason)
    return None


SHAPE_REFUSED = re.compile(r"shape '\[.*?(\d+)\]' is invalid for input of size (\d+)")
BROADCAST_REFUSED = re.compile(r"dimension of length (\d+) at (-\d+)!.* to \[([\d, ]+)\]")
SIZE_REFUSED = re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)")


def size_error(layer: nn.Module | None, got: Sequence[int], message: str) -> int:
    """Return how many features or values too large an input was for the layer that refused it.

    A Linear after convolutions, a `view` of a fixed size and an embedding of positions fit pictures
    of one size only: the sign says whether to try a smaller one.

    Args:
        layer: the layer that refused.
        got: the shape that it got.
        message: the first line of the error.

    Returns:
        Negative where it was too small, -1 also where neither shape nor message tells.
    """
    if isinstance(layer, nn.Linear) and got and got[-1] != layer.in_features:
        return got[-1] - layer.in_features
    if match := SHAPE_REFUSED.search(message):
        wanted, numel = map(int, match.groups())
        return numel - wanted
    if match := SIZE_REFUSED.search(message):
        size, fixed = map(int, match.groups())
        return size - fixed
    if match := BROADCAST_REFUSED.search(message):
        smaller, axis, shape = match.groups()
        return int(shape.split(",")[int(axis)]) - int(smaller)
    return -1


def _is_lazy(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.lazy.LazyModuleMixin)


def _sides(network: nn.Module) -> list[int]:
    values = (network.__dict__.get(name) for name in SIDES)
    numbers = (value[-1] if isinstance(value, tuple | list) else value for value in values if value)
    return [number for number in numbers if type(number) is int and number > 0]


def _sizes_for(layer: nn.Module, name: str, sides: Sequence[int]) -> Iterator[TensorSpec]:
    """Yield the tensors that a layer may take, the likeliest first; none for an unknown class."""
    if _is_lazy(layer):
        axes = len(getattr(layer, "kernel_size", ()))
        shapes = [(1, 3, *[32] * axes)] if axes else [(1, SEQUENCE), (1, 3, 32, 32)]
        yield from _specs(shapes, f"{name} is lazy")
    elif isinstance(layer, ConvNd):
        axes, channels = len(layer.kernel_size), layer.in_channels
        reason = f"{name} takes {channels} channels"
        for side in sides:
            why = f"{reason}, and the network names {side} as its size"
            yield TensorSpec((1, channels, *[side] * axes), reason=why)
        yield from _specs([(1, channels, *size) for size in _picture_sizes(layer)], reason)
    elif isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        below = layer.num_embeddings
        shapes = [(1, SEQUENCE), (1,), (1, SHORT), (SEQUENCE, 1)]
        yield from _specs(shapes, f"{name} takes ids below {below}", below)
    elif isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        shape = tuple(layer.normalized_shape)
        yield from _specs([(1, SEQUENCE, *shape), (1, *shape)], f"{name} takes {shape} at the end")
    elif isinstance(layer, BatchNorm | nn.GroupNorm):
        channels = layer.num_features if isinstance(layer, BatchNorm) else layer.num_channels
        shapes = [(1, channels), (1, channels, SEQUENCE), (1, channels, 32, 32)]
        yield from _specs(shapes, f"{name} takes {channels} channels")
    else:
        for features, shapes in _feature_sizes(layer):
            yield from _specs(shapes, f"{name} takes {features} features")


def _specs(
    shapes: Iterable[tuple[int, ...]], reason: str, below: int | None = None
) -> Iterator[TensorSpec]:
    return (TensorSpec(shape, below=below, reason=reason) for shape in shapes)


def _feature_sizes(layer: nn.Module) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """Yield how many features a layer takes, and the shapes of tensors that have so many."""
    match layer:
        case nn.Linear(in_features=features):
            yield features, [(1, features), (1, SEQUENCE, features), *_squares(features)]
        case nn.RNNBase(input_size=features) | nn.MultiheadAttention(embed_dim=features):
            first = (1, SEQUENCE) if layer.batch_first else (SEQUENCE, 1)
            yield features, [(*first, features)]
        case nn.RNNCellBase(input_size=features):
            yield features, [(1, features)]
        case nn.Bilinear():
            for features in (layer.in1_features, layer.in2_features):
                yield features, [(1, features)]


def _squares(features: int) -> Iterator[tuple[int, ...]]:
    """Yield the square pictures of so many values, with one channel or three."""
    for channels in (1, 3):
        side = isqrt(features // channels)
        if features > 16 and channels * side * side == features:
            yield (1, channels, side, side)
            if channels == 1:
                yield (1, side, side)


def _picture_sizes(layer: Any) -> Sequence[tuple[int, ...]]:
    axes = len(layer.kernel_size)
    if axes == 3 and not layer.transposed:
        return CLIPS if layer.in_channels == 3 else BLOCKS
    sizes = LENGTHS if axes == 1 else SIZES if layer.in_channels == 3 else SMALL_SIZES
    return [(size,) * axes for size in (GROWING_SIZES if layer.transposed else sizes)]
