"""The gradients of a run: of what the layers returned, and of the parameters."""

import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from nnmagic.recording.loss_scale import LossScale
from nnmagic.records.call_log import TraceLog
from nnmagic.tensors.marks import marks_of
from nnmagic.tensors.metadata import metadata_of
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import (
    hook_first,
    is_in_transform,
    parameters_of,
    remove_hook,
)


class ParameterGradient:
    """The gradient of one parameter, as it was noted last.

    Attributes:
        parameter: a weak reference to the parameter.
        number: its number in the log, None as long as there is none.
        mark: what tells whether it was written to since.
        hook: what notes it when a backward makes it.
    """

    __slots__ = ("hook", "mark", "number", "parameter")

    def __init__(self, parameter: torch.Tensor) -> None:
        self.parameter = weakref.ref(parameter)
        self.number: int | None = None
        self.mark: tuple[Any, ...] = ()
        self.hook: RemovableHandle | None = None


class Gradients:
    """Follows a backward through hooks on tensors, which leave every gradient as it is.

    A tensor's hook gets the gradient of the values that it had when the hook was set, also where a
    later layer writes over them in place; full backward hooks of modules refuse such networks.
    That of a parameter is noted as a backward leaves it, before anything can clear it, and once
    more where it was changed before an optimizer's step, as by clipping.

    Args:
        log: the columns of the run.
        tensors: writes the gradients into it.

    Attributes:
        loss_scale: tells by how much the gradients of a scaled loss are too large.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter) -> None:
        self.log = log
        log.graded = True
        self.tensors = tensors
        self.loss_scale = LossScale()
        self._hooks: dict[int, RemovableHandle] = {}
        self._noted: dict[int, ParameterGradient] = {}

    def follow(self, tensor: torch.Tensor, index: int, series: int) -> None:
        """Note the gradient of a tensor of the log when a backward comes by.

        Args:
            tensor: the tensor.
            index: its number.
            series: what the iteration that it is of is counted of.
        """
        if index in self._hooks or not tensor.requires_grad:
            return
        if is_in_transform(tensor):
            return  # torch.func differentiates without hooks

        def note(gradient: torch.Tensor) -> None:
            self.log.gradients[index] = self._add(gradient, series=series)

        self._hooks[index] = tensor.register_hook(note)

    def follow_parameters(self, layer: nn.Module) -> None:
        """Note the gradients of a layer's own parameters when a backward makes them."""
        for parameter in parameters_of(layer).values():
            if parameter is None or not parameter.requires_grad or not parameter.is_leaf:
                continue
            noted = self._noted.get(id(parameter))
            if noted is not None and noted.parameter() is parameter:
                continue
            noted = self._noted[id(parameter)] = ParameterGradient(parameter)
            with suppress(RuntimeError):  # of a subclass that takes no hooks `.grad` is read
                noted.hook = hook_first(parameter, self._note)

    def stepped(self, parameters: Sequence[torch.Tensor]) -> None:
        """Note the gradients that an optimizer does not get as the backward left them."""
        for parameter in parameters:
            noted = self._noted.get(id(parameter))
            if noted is not None and _mark_of(parameter) != noted.mark:
                self._note(parameter)

    def let_go(self) -> None:
        """Take all hooks away."""
        while self._hooks:
            self._hooks.popitem()[1].remove()
        for noted in self._noted.values():
            parameter = noted.parameter()
            if noted.hook is not None and parameter is not None:
                remove_hook(parameter, noted.hook)

    def conclude(self, networks: list[nn.Module | None], error: BaseException | None) -> None:
        """Give each layer that was called the gradients of its own parameters.

        A parameter of which no backward of the run made one has what is in `.grad` now.

        Args:
            networks: the networks of the run.
            error: the exception by which it ended.
        """
        self.let_go()
        has_new = bool(self.log.gradients) or any(n.mark for n in self._noted.values())
        layers = {(layer.network, layer.name): i for i, layer in enumerate(self.log.layers)}
        for number, network in enumerate(networks):
            modules = () if network is None else network.named_modules(remove_duplicate=False)
            for name, module in modules:
                layer = layers.get((number, name))
                own = {
                    key: self._number_of(parameter)
                    for key, parameter in parameters_of(module).items()
                    if parameter is not None and parameter.requires_grad
                }
                if layer is not None and own:
                    self.log.parameter_gradients[layer] = own
        self.log.notes += self._notes(has_new=has_new, failed=error is not None)

    def _note(self, parameter: torch.Tensor) -> None:
        """Note the gradient that a parameter has now."""
        noted, gradient = self._noted.get(id(parameter)), parameter.grad
        if noted is not None and gradient is not None:
            noted.number = self._add(gradient, noted.number)
            noted.mark = _mark_of(parameter)

    def _add(
        self, gradient: torch.Tensor, number: int | None = None, series: int | None = None
    ) -> int:
        """Write a gradient into the log, in place of the one of this number if it is like it."""
        tensors = self.log.tensors
        with self.log.lock:
            if number is not None and tensors.metadata_of(number) != metadata_of(gradient):
                number = None
            unscaled = self.loss_scale.unscaled(gradient)
            return self.tensors.write_alone(unscaled, series=series, written=number)

    def _number_of(self, parameter: torch.Tensor) -> int | None:
        """Return the number of a parameter's gradient in the log, which is written once."""
        noted = self._noted.get(id(parameter))
        if noted is None or noted.parameter() is not parameter:
            noted = self._noted[id(parameter)] = ParameterGradient(parameter)
        if noted.number is None:
            self._note(parameter)
        return noted.number

    def _notes(self, *, has_new: bool, failed: bool) -> list[str]:
        if has_new:
            notes = [
                "gradients: from the last backward in this run; one in a later cell is not seen"
            ]
            if self.loss_scale.largest is not None:
                scale = f"{self.loss_scale.largest:,.0f}"
                notes.append(
                    f"gradients are shown unscaled: a GradScaler scaled the loss by {scale}"
                )
            return notes
        if failed:
            return ["the run ended before a backward had made gradients"]
        old = any(noted.number is not None for noted in self._noted.values())
        return [
            "no backward ran, so there are no gradients: call .backward() inside; "
            "one in a later cell is not seen",
            *(["those of the parameters were there before"] if old else []),
        ]


def _mark_of(parameter: torch.Tensor) -> tuple[Any, ...]:
    """Return what tells whether a parameter's gradient was written to."""
    assert parameter.grad is not None
    versions, addresses, values, _ = marks_of([parameter.grad])
    # a new object is unlike any other, so that nobody waits for values of an accelerator
    value = object() if isinstance(values[0], torch.Tensor) else values[0]
    return versions[0], addresses[0], value
