"""The scale of a loss that a GradScaler enlarged, by which its gradients are too large."""

import weakref
from collections.abc import Iterator
from functools import partial, wraps
from typing import Any

import torch
from torch.amp import GradScaler
from torch.utils.hooks import RemovableHandle

from nnmagic.contexts import block
from nnmagic.network.nested_values import tensors_in
from nnmagic.tensors.metadata import hidden_from_user_code
from nnmagic.tensors.shards import part_here
from nnmagic.torch_private import graph_task

MOST_FOLLOWED = 64
"""How many scaled losses are followed at once: the hooks of older ones go with their graph."""


class LossScale:
    """Tells by how much the gradients of the backward at hand are too large.

    A backward of a scaled loss begins at the loss, which has a hook that says so.

    Attributes:
        largest: the largest scale of all backwards of scaled losses, None if there was none.
    """

    def __init__(self) -> None:
        self.largest: float | None = None
        self._backward: int | None = None
        self._scale = 1.0
        self._scaled: list[tuple[weakref.ref[torch.Tensor], float, RemovableHandle]] = []

    @block
    def following(self) -> Iterator[None]:
        """Follow every GradScaler for the length of the block."""
        scale_loss = GradScaler.scale

        @wraps(scale_loss)
        def followed(scaler: GradScaler, outputs: Any) -> Any:
            scaled = scale_loss(scaler, outputs)
            if scaler.is_enabled():
                for tensor in tensors_in(scaled)[1]:
                    if tensor.requires_grad:
                        self._follow(tensor, scaler.get_scale())
            return scaled

        kind: Any = GradScaler
        kind.scale = followed
        try:
            yield
        finally:
            kind.scale = scale_loss
            while self._scaled:
                self._scaled.pop()[2].remove()

    def _follow(self, tensor: torch.Tensor, scale: float) -> None:
        hook = tensor.register_hook(partial(self._begins, scale))
        self._scaled.append((weakref.ref(tensor), scale, hook))
        if len(self._scaled) > MOST_FOLLOWED:
            self._scaled = [each for each in self._scaled if each[0]() is not None]

    def scale_of(self, loss: torch.Tensor) -> float:
        """Return by how much a loss was scaled."""
        return next((scale for alive, scale, _ in self._scaled if alive() is loss), 1.0)

    def _begins(self, scale: float, gradient: torch.Tensor) -> None:
        """Note that the backward at hand is one of a loss with this scale."""
        self._backward, self._scale = graph_task(), scale
        self.largest = max(scale, self.largest or 0.0)

    def unscaled(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return a gradient of the backward at hand as it would be without a scale."""
        if graph_task() != self._backward or self._scale == 1:
            return gradient
        with torch.no_grad(), hidden_from_user_code(gradient):
            return part_here(gradient) / self._scale
