"""The gradients of a run: of what the layers returned, and of the parameters."""

from typing import Any

import torch
from torch import nn

from nnmagic.recording.backwards_and_steps import BackwardsAndSteps
from nnmagic.recording.updates import ParameterUpdates
from nnmagic.records.call_log import TraceLog
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import is_in_transform, parameters_of


class FollowedOutput:
    """What a layer returned, whose gradient is noted when a backward comes by.

    Attributes:
        number: its number in the log; None once it was left out.
        hook: what notes the gradient.
    """

    __slots__ = ("hook", "number")

    def __init__(self, number: int) -> None:
        self.number: int | None = number
        self.hook: Any = None


class Gradients:
    """Follows a backward through hooks on tensors, which leave every gradient as it is.

    A tensor's hook gets the gradient of the values that it had when the hook was set, also where a
    later layer writes over them in place; full backward hooks of modules refuse such networks.

    Args:
        log: the columns of the run.
        tensors: writes the gradients into it.
        steps: tells which root call a backward belongs to, and by how much a loss was scaled.

    Attributes:
        parameters: follows the parameters.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter, steps: BackwardsAndSteps) -> None:
        self.log = log
        log.graded = True
        self.tensors = tensors
        self.loss_scale = steps.loss_scale
        self.parameters = ParameterUpdates(log, tensors, steps)
        self._hooks: dict[int, FollowedOutput] = {}

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

        followed = self._hooks[index] = FollowedOutput(index)

        def note(gradient: torch.Tensor) -> None:
            with self.log.lock:
                if followed.number is not None:
                    unscaled = self.loss_scale.unscaled(gradient)
                    written = self.tensors.write_alone(unscaled, series=series)
                    self.log.gradients[followed.number] = written

        followed.hook = tensor.register_hook(note)

    def renumber(self, numbers: Renumbering) -> None:
        """Follow no more what was left out of the log, nor what went with its graph."""
        hooks, self._hooks = self._hooks, {}
        for old, followed in hooks.items():
            followed.number = numbers.tensors.get(old)
            is_gone = followed.hook.hooks_dict_ref() is None
            if followed.number is None or is_gone:
                followed.hook.remove()
            else:
                self._hooks[followed.number] = followed
        self.parameters.renumber(numbers)

    def let_go(self) -> None:
        """Take all hooks away."""
        while self._hooks:
            self._hooks.popitem()[1].hook.remove()
        self.parameters.let_go()

    def conclude(self, networks: list[nn.Module | None], error: BaseException | None) -> None:
        """Give each layer that was called the gradients of its own parameters.

        A parameter of which no backward of the run made one has what is in `.grad` now.

        Args:
            networks: the networks of the run.
            error: the exception by which it ended.
        """
        self.let_go()
        has_new = bool(self.log.gradients) or self.parameters.has_new
        layers = {(layer.network, layer.name): i for i, layer in enumerate(self.log.layers)}
        for number, network in enumerate(networks):
            modules = () if network is None else network.named_modules(remove_duplicate=False)
            for name, module in modules:
                layer = layers.get((number, name))
                own = {
                    key: self.parameters.number_of(parameter)
                    for key, parameter in parameters_of(module).items()
                    if parameter is not None and parameter.requires_grad
                }
                if layer is not None and own:
                    self.log.parameter_gradients[layer] = own
        self.log.notes += self._notes(has_new=has_new, failed=error is not None)

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
            return [*notes, *self.parameters.notes()]
        if failed:
            return ["the run ended before a backward had made gradients"]
        old = self.parameters.has_any
        return [
            "no backward ran, so there are no gradients: call .backward() inside; "
            "one in a later cell is not seen",
            *(["those of the parameters were there before"] if old else []),
        ]
