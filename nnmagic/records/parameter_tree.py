"""Names of parameters below the layers that hold them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """A line of the tree.

    Attributes:
        item: the number of the parameter; None for a layer, before the first one that it holds.
        label: the last part of its name.
        level: how deep it stands.
        name: its full name.
    """

    item: int | None
    label: str
    level: int
    name: str


def tree_of(names: Sequence[str], *, flat: bool = False) -> Iterator[Place]:
    """Yield the lines of a tree, before each parameter those of the layers that it is the first in.

    Args:
        names: the dotted names of the parameters.
        flat: whether there are no layers.
    """
    path: list[str] = []
    for item, name in enumerate(names):
        *layers, last = [name] if flat else name.split(".")
        common = 0
        while common < min(len(path), len(layers)) and path[common] == layers[common]:
            common += 1
        path = layers
        for level in range(common, len(layers)):
            yield Place(None, layers[level], level, ".".join(layers[: level + 1]))
        yield Place(item, last, len(layers), name)
