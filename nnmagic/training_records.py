"""The memory of a training step, as a record."""

from dataclasses import dataclass

from nnmagic import units


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """The memory that a training step takes beside the parameters and the buffers.

    Attributes:
        optimizer: the name of the optimizer.
        gradient_bytes: the bytes of the gradients of the trainable parameters.
        optimizer_bytes: the bytes of the optimizer's state; None where unknown.
        saved_bytes: the bytes that the forward saves for the backward, a shared storage once,
            parameters and buffers left out, the input included; None where unknown.
        estimated: whether layers run that save a workspace of their own as well.
        unknown: why a number is not known, one reason each.
    """

    optimizer: str
    gradient_bytes: int
    optimizer_bytes: int | None
    saved_bytes: int | None
    estimated: bool = False
    unknown: tuple[str, ...] = ()

    def together(self, held_bytes: int) -> int | None:
        """Return the bytes of a step of a network that holds so many; None where unknown."""
        if self.optimizer_bytes is None or self.saved_bytes is None:
            return None
        return held_bytes + self.gradient_bytes + self.optimizer_bytes + self.saved_bytes

    def lines(self, param_bytes: int, buffer_bytes: int) -> tuple[str, ...]:
        """Return the lines that state each part for a network with such parameters and buffers."""
        saved = units.size(self.saved_bytes)
        if self.estimated and self.saved_bytes is not None:
            saved += " (an estimate: recurrent layers save a workspace of their own)"
        return (
            f"training step: parameters {units.size(param_bytes)}, "
            f"buffers {units.size(buffer_bytes)}, gradients {units.size(self.gradient_bytes)}, "
            f"state of {self.optimizer} {units.size(self.optimizer_bytes)}, "
            f"saved for backward {saved}, "
            f"together {units.size(self.together(param_bytes + buffer_bytes))}",
            *self.unknown,
        )
