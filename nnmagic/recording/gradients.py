"""The gradients of a run: of what the layers returned, and of the parameters."""

import torch
from torch import nn

from nnmagic.network.layers import layers_of
from nnmagic.records.call_log import TraceLog
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import is_in_transform, parameters_of


class Gradients:
    """Follows a backward through hooks on tensors, which leave every gradient as it is.

    A tensor's hook gets the gradient of the values that it had when the hook was set, also where a
    later layer writes over them in place; full backward hooks of modules refuse such networks.

    Args:
        log: the columns of the run.
        tensors: writes the gradients into it.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter) -> None:
        self.log = log
        log.graded = True
        self.tensors = tensors
        self._hooks: dict[int, torch.utils.hooks.RemovableHandle] = {}

    def follow(self, tensor: torch.Tensor, index: int) -> None:
        """Note the gradient of a tensor of the log when a backward comes by."""
        if index in self._hooks or not tensor.requires_grad:
            return
        if is_in_transform(tensor):
            return  # torch.func differentiates without hooks

        def note(gradient: torch.Tensor) -> None:
            self.log.gradients[index] = self._add(gradient)

        self._hooks[index] = tensor.register_hook(note)

    def conclude(self, networks: list[nn.Module | None]) -> None:
        """Take the hooks away, and note the gradients that the parameters have now."""
        for hook in self._hooks.values():
            hook.remove()
        layers = {(layer.network, layer.name): i for i, layer in enumerate(self.log.layers)}
        measured: dict[int, int | None] = {}
        for number, network in enumerate(networks):
            modules = {} if network is None else layers_of(network, once=False)
            for name, module in modules.items():
                layer = layers.get((number, name))
                own = {
                    key: self._of_parameter(parameter, measured)
                    for key, parameter in parameters_of(module).items()
                    if parameter is not None and parameter.requires_grad
                }
                if layer is not None and own:
                    self.log.parameter_gradients[layer] = own
        self.log.notes.append(self._note())

    def _add(self, gradient: torch.Tensor) -> int:
        with self.log.lock:
            return self.tensors.write_alone(gradient)

    def _of_parameter(self, parameter: torch.Tensor, written: dict[int, int | None]) -> int | None:
        """Return the number of a parameter's gradient, which is written once."""
        if id(parameter) not in written:
            gradient = parameter.grad
            written[id(parameter)] = None if gradient is None else self._add(gradient)
        return written[id(parameter)]

    def _note(self) -> str:
        of_parameters = (
            gradient for own in self.log.parameter_gradients.values() for gradient in own.values()
        )
        if not self.log.gradients and all(gradient is None for gradient in of_parameters):
            return (
                "no backward ran, so there are no gradients: call .backward() inside; "
                "one in a later cell is not seen"
            )
        return "gradients: from the last backward in this run; one in a later cell is not seen"
