"""The optimizers of torch: their names, and the state that they keep."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import torch
from torch import nn

MOST_STEPPED = 1 << 24
"""How many values a parameter may have that is really stepped, since its optimizer reads values."""


OPTIMIZERS = {
    name.lower(): optimizer
    for name, optimizer in vars(torch.optim).items()
    if isinstance(optimizer, type)
    and issubclass(optimizer, torch.optim.Optimizer)
    and optimizer is not torch.optim.Optimizer
}
"""The classes of `torch.optim` by their names in lower case."""


def optimizer_names() -> tuple[str, ...]:
    """Return the names that an optimizer can be given by."""
    return (*sorted(OPTIMIZERS), "momentum")


Form = tuple[tuple[int, ...], torch.dtype]
"""The shape and the dtype of a parameter."""


def forms_of(parameters: Iterable[torch.Tensor]) -> Counter[Form]:
    """Return how many parameters have each shape and dtype."""
    return Counter((tuple(each.shape), each.dtype) for each in parameters)


def optimizer_bytes(forms: Mapping[Form, int], name: str) -> int:
    """Return the bytes of an optimizer's state after its first step.

    The step is really taken, by parameters of the same forms on the meta device.

    Args:
        forms: the shapes and dtypes of what it is to step, and how many parameters have each.
        name: a class of `torch.optim` in lower case, or `"momentum"`, which is SGD with momentum.

    Raises:
        Exception: whatever the optimizer raises on such parameters.
    """
    return sum(times * _state_bytes(name, *form) for form, times in forms.items())


def _state_bytes(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    def after_a_step(device: str) -> int:
        parameter = nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
        parameter.grad = torch.zeros_like(parameter)
        momentum = {"momentum": 0.9} if name == "momentum" else {}
        made: Any = OPTIMIZERS["sgd" if momentum else name]
        optimizer = made([parameter], lr=1e-3, **momentum)
        optimizer.step()
        state = optimizer.state[parameter].values()
        return sum(each.nbytes for each in state if isinstance(each, torch.Tensor))

    with torch.inference_mode(False):
        try:
            return after_a_step("meta")
        except RuntimeError:
            if prod(shape) > MOST_STEPPED:
                raise
            return after_a_step("cpu")
