"""What an optimizer gets at its steps, and whether they can move anything."""

import weakref
from collections.abc import Iterable

import torch
from torch import optim
from torch.optim import Optimizer

from nnmagic.tensors import devices
from nnmagic.tensors.metadata import HiddenFromUserCode
from nnmagic.tensors.shards import part_here

MOVED_BY_RATE = (
    *(optim.SGD, optim.Adam, optim.AdamW, optim.Adamax, optim.NAdam, optim.RAdam),
    *(optim.RMSprop, optim.Adagrad),
)
"""The optimizers whose steps, weight decay included, are proportional to the learning rate."""


class SteppedOptimizer:
    """An optimizer that has made a step.

    Args:
        optimizer: the optimizer.

    Attributes:
        alive: a weak reference to it.
        name: the name of its class.
        steps: how many it has made.
        parameters: the identities of the parameters that it holds.
        has_gradients: whether any of them had a gradient that is not 0 at a step.
        is_given: whether a backward gave them one after steps that had none.
        resting: the identities of those whose learning rate was 0 at all steps, which moves none.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.alive = weakref.ref(optimizer)
        self.name = type(optimizer).__name__
        self.steps = 0
        groups = (group["params"] for group in optimizer.param_groups)
        self.parameters = {id(each) for group in groups for each in group}
        self.has_gradients = False
        self.is_given = False
        self.resting = self.parameters if type(optimizer) in MOVED_BY_RATE else set[int]()

    def look_for_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Note whether a step has gradients."""
        self.has_gradients = self.has_gradients or _have_gradients(parameters)

    def look_at_backward(self) -> None:
        """Note whether a backward has made gradients, after steps that had none."""
        optimizer = self.alive()
        if optimizer is not None and self.steps and not (self.has_gradients or self.is_given):
            groups = (group["params"] for group in optimizer.param_groups)
            self.is_given = _have_gradients(each for group in groups for each in group)

    def look_at_rates(self, optimizer: Optimizer) -> None:
        """Note whose learning rate is not 0 at a step."""
        if self.resting:
            for group in optimizer.param_groups:
                rate = group["lr"]
                if not isinstance(rate, float | int) or rate != 0:
                    self.resting = self.resting.difference(map(id, group["params"]))


def _have_gradients(parameters: Iterable[torch.Tensor]) -> bool:
    """Tell whether any parameter has a gradient that is not 0, as far as that can be read."""
    return any(each.grad is not None and not _is_zero(each.grad) for each in parameters)


def _is_zero(gradient: torch.Tensor) -> bool:
    try:
        with torch.no_grad(), HiddenFromUserCode():
            held = part_here(gradient)
            return not devices.is_capturing(held) and not held.is_meta and not bool(held.any())
    except Exception:  # noqa: BLE001 - an observer observes: a sparse tensor, or a subclass, refuses
        return False
