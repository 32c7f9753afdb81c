"""The calls that ended before one that failed: what they got, and what they returned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch

from nnmagic.display.units import Shape

LOOKED_AT = 200
"""How many earlier calls an explanation looks at."""

LAYERS_BACK = 4
"""How many calls before a Linear its flattened maps are looked for."""


class EarlierCall(NamedTuple):
    """A call that returned before another one failed.

    Attributes:
        network: its network's label.
        layer: the layer's dotted name.
        type: the layer's class.
        depth: how many calls were in progress when it began.
        input_shape: the nested shapes of what it got.
        output_shape: the nested shapes of what it returned.
    """

    network: str
    layer: str
    type: str
    depth: int
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True, slots=True)
class Given:
    """What a call got.

    Attributes:
        arguments: the arguments, by the names of the forward's parameters.
        earlier: the calls that returned before it, the latest first.
    """

    arguments: Mapping[str, Any]
    earlier: Sequence[EarlierCall] = ()

    def tensor(self, name: str) -> torch.Tensor | None:
        """Return the argument of this name if it is a tensor."""
        value = self.arguments.get(name)
        return value if isinstance(value, torch.Tensor) else None


def sizes_of(shape: Shape) -> tuple[int, ...]:
    """Return the shape of one tensor, `()` where there are several, or none."""
    is_one = isinstance(shape, tuple) and all(type(size) is int for size in shape)
    return tuple(shape) if is_one and shape is not None else ()


def producer_of(shape: Shape, earlier: Sequence[EarlierCall]) -> EarlierCall | None:
    """Return the call that returned something of these nested shapes last."""
    return next((call for call in earlier if call.output_shape == shape), None)


def flattened_from(earlier: Sequence[EarlierCall], shape: tuple[int, ...]) -> Shape:
    """Return the shape of the maps that features were flattened from, None if they were not.

    Args:
        earlier: the calls before the one that got the features.
        shape: the shape of the features, `(items, features)`.
    """
    for call in earlier[:LAYERS_BACK]:
        for maps in (call.output_shape, call.input_shape):
            sizes = sizes_of(maps)
            if len(sizes) > 2 and shape == (sizes[0], prod(sizes[1:])):
                return maps
    return None


def mixed_items(
    earlier: Sequence[EarlierCall], made: tuple[int, ...], items: int
) -> tuple[EarlierCall, EarlierCall | None] | None:
    """Return the network that returned another number of items than it got.

    Args:
        earlier: the calls, the latest first.
        made: the shape of what the network returned.
        items: how many items it should have kept.

    Returns:
        The network's call, and the first call inside it that got the wrong number of items; None
        for a network that kept them.
    """
    for at, network in enumerate(earlier):
        if network.output_shape == made and first_axis(network.input_shape) == items:
            inside = (each for each in reversed(earlier[:at]) if each.depth > network.depth)
            wrong = (each for each in inside if first_axis(each.input_shape) == made[0])
            return network, next(wrong, None)
    return None


def first_axis(shape: Shape) -> int | None:
    """Return the size of the first axis of the first tensor in nested shapes."""
    while shape:
        if sizes := sizes_of(shape):
            return sizes[0]
        shape = next(iter(shape.values() if isinstance(shape, dict) else shape))
    return None
