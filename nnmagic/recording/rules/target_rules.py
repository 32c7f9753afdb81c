"""What is wrong with the targets that a loss gets: batches that hold one class each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from nnmagic.tensors import devices
from nnmagic.tensors.writer import TensorWriter

ITEMS, BATCHES = 8, 3
"""So many items of one class in each of so many batches are no accident."""


@dataclass(slots=True)
class Batches:
    """What is known of the targets of one loss in the code.

    Attributes:
        add: adds a finding on it.
        classes: the one class of each batch.
        mixed: how many batches held several.
    """

    add: Callable[..., None]
    classes: list[int] = field(default_factory=list)
    mixed: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether more batches held several classes than one, so that no other is looked at."""
        return self.mixed > len(self.classes)

    def note(self, flags: list[torch.Tensor], reason: str = "") -> None:
        """Note whether a batch held one class, and which."""
        is_one, first = flags
        if reason or not is_one:
            self.mixed += 1
        else:
            self.classes.append(int(first))


class TargetRules:
    """Looks at the targets of each loss, of most until a batch has been looked at.

    Args:
        tensors: reads flags that are on an accelerator.
    """

    def __init__(self, tensors: TensorWriter) -> None:
        self.tensors = tensors
        self._batches: dict[Any, Batches] = {}

    def look_at(self, place: Any, target: Any, finding: Callable[[], Callable[..., None]]) -> None:
        """Look at the targets of a batch.

        Args:
            place: the place in the code that called the loss.
            target: int64, (items,): the class of each; others are passed over.
            finding: returns what adds a finding on this loss.
        """
        known = self._batches.get(place)
        if known is not None and known.is_settled:
            return
        is_classes = target.dim() == 1 and not target.is_floating_point()
        if not is_classes or len(target) < ITEMS or not torch.is_grad_enabled():
            return
        if known is None:
            known = self._batches[place] = Batches(finding())
        flags = [(target == target[0]).all(), target[0]]
        if devices.on_accelerator(target):
            self.tensors.read_later([each.clone() for each in flags], known.note)
        else:
            known.note(flags)

    def conclude(self) -> None:
        """Add what was found."""
        for batches in self._batches.values():
            classes = batches.classes
            if not batches.is_settled and len(classes) >= BATCHES:
                several = len(set(classes)) > 1
                batches.add(
                    f"got {len(classes)} batches of one class alone: type shuffle=True for the "
                    "DataLoader"
                    if several
                    else f"got {len(classes)} batches of which every target is {classes[0]}",
                    level="finding" if several else "note",
                    number=len(classes),
                )
        self._batches.clear()
