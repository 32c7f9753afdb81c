"""The rows of a summary: one call of one layer each."""

from dataclasses import dataclass
from typing import NamedTuple

from nnmagic.display import units
from nnmagic.display.units import Shape
from nnmagic.records.weights import WeightForm


class LayerShape(NamedTuple):
    """One call of one layer in a summary, or a layer that never ran.

    A frozen dataclass of so many fields takes five times as long to make.

    Attributes:
        network: the name of the network.
        call: its number in the order in which the calls began; None for a layer that never ran.
        layer: the dotted name in `named_modules()`, `""` for the network itself.
        type: the class name.
        depth: how many other calls were in progress; 1 for a layer that never ran.
        config: `extra_repr()`, the arguments that it was made with.
        input_shape: nested as the arguments were, None without a tensor.
        output_shape: nested as the output was, None without a tensor.
        params: the distinct parameters of the layer and of everything below it.
        own_params: those that it holds itself, in the first row that shows them, else 0.
        trainable_params: of `params` those that require a gradient.
        param_bytes: the bytes of `params`, a shared storage once.
        output_bytes: the bytes of the tensors that it returned; None if it never ran.
        flops: floating-point operations, two for each multiply-add; None where unknown.
        children: whether it calls other layers.
        names: the names of its own parameters that this row is the first to show.
        forms: its weights that are not plain parameters, such as tied or packed ones.
        failed: whether it ended by an exception.
    """

    network: str
    call: int | None
    layer: str
    type: str
    depth: int
    config: str
    input_shape: Shape
    output_shape: Shape
    params: int
    own_params: int
    trainable_params: int
    param_bytes: int
    output_bytes: int | None
    flops: int | None
    children: bool = False
    names: tuple[str, ...] = ()
    forms: tuple[WeightForm, ...] = ()
    failed: bool = False

    def __hash__(self) -> int:
        return hash((self.network, self.call, self.layer))  # shapes may be dictionaries

    @property
    def weights(self) -> str:
        """A few words about the weights that are not plain parameters."""
        return ", ".join(form.text for form in self.forms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """The memory that a training step takes on top of the parameters and the buffers.

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
        """Return the bytes of a whole step.

        Args:
            held_bytes: the bytes of the network's parameters and buffers.

        Returns:
            None where a part is unknown.
        """
        if self.optimizer_bytes is None or self.saved_bytes is None:
            return None
        return held_bytes + self.gradient_bytes + self.optimizer_bytes + self.saved_bytes

    def lines(self, param_bytes: int, buffer_bytes: int) -> tuple[str, ...]:
        """Return the lines that state each part, then why a part is unknown."""
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
