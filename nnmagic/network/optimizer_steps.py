"""Seeing the steps of optimizers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nnmagic.contexts import block


@block
def optimizer_steps(note: Callable[[Sequence[Tensor]], None]) -> Iterator[None]:
    """See every step of every optimizer for the length of the block.

    Args:
        note: gets, right before a step, the parameters that have a gradient: those it writes.
    """

    def step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        try:
            groups = [group["params"] for group in optimizer.param_groups]
            note([each for group in groups for each in group if each.grad is not None])
        except Exception:  # noqa: BLE001 - an observer observes: no error of ours gets out
            return

    handle = register_optimizer_step_pre_hook(step)
    try:
        yield
    finally:
        handle.remove()
