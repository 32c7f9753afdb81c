"""The numbers of a run that are of no tensor in the log: the loss, and what a step does."""

from array import array
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from nnmagic.records.live_fields import LIVE

LOSS = "loss"
"""The quantity of the scalar that a backward was called on; of several in an iteration the mean."""


class Quantity(NamedTuple):
    """What a number is of.

    Attributes:
        network: the index of the network.
        layer: the layer's dotted name, `""` for the network itself.
        name: `"loss"`, or the name of a parameter of the layer and what is measured of it:
            `"weight.norm"`, `"weight.grad_norm"`, `"weight.update_ratio"`.
    """

    network: int
    layer: str
    name: str


@dataclass(slots=True)
class Measures:
    """Append-only columns, one entry a number.

    Where an iteration has several numbers of one quantity, the last counts; of losses the mean.

    Attributes:
        quantities: what numbers are of, each once; the column `quantity` holds their indices.
        root, quantity, value: one entry a number: the root call whose iteration it belongs to, what
            it is of, and the number itself.
    """

    quantities: list[Quantity] = field(default_factory=list)
    root: "array[int]" = field(default_factory=partial(array, "l"))
    quantity: "array[int]" = field(default_factory=partial(array, "l"))
    value: "array[float]" = field(default_factory=lambda: array("d"))
    _seen: dict[Quantity, int] = field(
        default_factory=dict, compare=False, repr=False, metadata=LIVE
    )

    def __len__(self) -> int:
        return len(self.value)

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        return None, {name: getattr(self, name) for name in self.__slots__} | {"_seen": {}}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Measures):
            return NotImplemented
        mine, theirs = (
            # values as bytes, in which an unknown number is equal to itself
            (each.quantities, each.root, each.quantity, each.value.tobytes())
            for each in (self, other)
        )
        return mine == theirs

    def add(self, root: int, quantity: Quantity, value: float) -> None:
        """Append a number.

        Args:
            root: the root call whose iteration it belongs to.
            quantity: what it is of.
            value: the number.
        """
        index = self._seen.setdefault(quantity, len(self.quantities))
        if index == len(self.quantities):
            self.quantities.append(quantity)
        self.root.append(root)
        self.quantity.append(index)
        self.value.append(value)
