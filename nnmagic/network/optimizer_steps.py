"""Seeing the steps of optimizers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from nnmagic.contexts import block


class OptimizerStep(NamedTuple):
    """A step that an optimizer is about to do, or has done.

    Attributes:
        optimizer: the optimizer.
        parameters: those of its parameters that have a gradient: those that it writes.
        closure: whether it was given a function that runs the network again within the step.
    """

    optimizer: Optimizer
    parameters: Sequence[Tensor]
    closure: bool


Note = Callable[[OptimizerStep], None]


@block
def optimizer_steps(*, before: Note | None = None, after: Note) -> Iterator[None]:
    """See every step of every optimizer for the length of the block.

    Args:
        before: told right before each step, if given.
        after: told right after each.
    """

    def hook(note: Note) -> Callable[[Optimizer, Any, Any], None]:
        def told(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            try:
                groups = [group["params"] for group in optimizer.param_groups]
                parameters = [each for group in groups for each in group if each.grad is not None]
                closure = args[1] if len(args) > 1 else kwargs.get("closure")
                note(OptimizerStep(optimizer, parameters, closure is not None))
            except Exception:  # noqa: BLE001 - an observer observes: no error of ours gets out
                return

        return told

    hooks = [] if before is None else [register_optimizer_step_pre_hook(hook(before))]
    try:
        hooks.append(register_optimizer_step_post_hook(hook(after)))
        yield
    finally:
        for each in hooks:
            each.remove()
