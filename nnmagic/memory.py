"""The memory of a training step: gradients, the optimizer's state, what backward needs."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import torch
from torch import nn

from nnmagic.blocks import block
from nnmagic.failures import first_line
from nnmagic.inputs import device_of
from nnmagic.known_values import known_values
from nnmagic.meta import Fakes, networks_on_meta, on_meta, takes_fakes
from nnmagic.tensors import bytes_of, is_lazy
from nnmagic.training_records import TrainingStep

MOST_STEPPED = 1 << 24
"""How many values a parameter may have that is really stepped, since its optimizer reads values."""


class SavedTensors:
    """The storages that a run keeps for its backward, each once.

    Those of the network's parameters and buffers are left out, since they are counted as such.
    """

    def __init__(self, network: nn.Module) -> None:
        self._kept: dict[int, torch.Tensor] = {}
        self._apart = {
            tensor.untyped_storage()._cdata
            for tensor in (*network.parameters(), *network.buffers())
            if not is_lazy(tensor) and tensor.layout is torch.strided
        }
        self._holders: list[list[torch.Tensor]] = []

    @property
    def bytes(self) -> int:
        """How many bytes the storages have."""
        return sum(kept.untyped_storage().nbytes() for kept in self._kept.values())

    def _pack(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()._cdata
            if storage not in self._apart:
                self._kept.setdefault(storage, tensor.detach())  # a storage in use gets no namesake
        holder = [tensor]
        self._holders.append(holder)
        return holder

    @block
    def noted(self) -> Iterator[None]:
        """Take note of what the block saves, and let the graph that it makes go at the end."""
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda holder: holder[0]):
                yield
        finally:
            # an operation that saves its own output would be in a cycle that nothing collects
            for holder in self._holders:
                holder.clear()


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


def optimizer_bytes(parameters: Iterable[torch.Tensor], name: str) -> int:
    """Return the bytes of an optimizer's state after its first step.

    The step is really taken, by parameters of the same forms on the meta device.

    Args:
        parameters: what it is to step.
        name: a class of `torch.optim` in lower case, or `"momentum"`, which is SGD with momentum.

    Raises:
        Exception: whatever the optimizer raises on such parameters.
    """
    forms = Counter((tuple(each.shape), each.dtype) for each in parameters)
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
        return sum(bytes_of(each) for each in state if isinstance(each, torch.Tensor))

    with torch.inference_mode(False):
        try:
            return after_a_step("meta")
        except RuntimeError:
            if prod(shape) > MOST_STEPPED:
                raise
            return after_a_step("cpu")


def training_step(
    network: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    call: Callable[..., Any],
    optimizer: str,
    train: bool,
) -> TrainingStep:
    """Return the memory that a training step takes, without making it.

    The forward runs on tensors without values that are on the network's own device by name, so that
    torch takes the same kernels as there, which save the same.

    Args:
        network: the network.
        args: the positional arguments, real or meta.
        kwargs: the keyword arguments.
        call: what to call.
        optimizer: one of `optimizer_names()`.
        train: whether to run in train mode; else as the network is.
    """
    fakes = Fakes(device_of(network)) if takes_fakes(network) else None
    parameters = _trainable(network)
    saved_bytes = state_bytes = None
    unknown = list[str]()
    try:
        with torch.inference_mode(False), torch.enable_grad(), networks_on_meta(network, fakes):
            if train:
                network.train()  # put back with everything else when the network leaves meta
            given = on_meta((args, kwargs), fakes)
            saved = SavedTensors(network)
            known = known_values(network, (args, kwargs), given, all_small=True)
            with known, saved.noted():
                call(*given[0], **given[1])
            saved_bytes = saved.bytes
            parameters = _trainable(network)  # lazy ones are made now
    except Exception as error:  # noqa: BLE001 - whatever a forward raises in training
        mode = " in train mode" if train else ""
        unknown.append(f"saved for backward unknown: the forward fails{mode}: {first_line(error)}")
    try:
        state_bytes = optimizer_bytes(parameters, optimizer)
    except Exception as error:  # noqa: BLE001 - an optimizer may refuse such parameters
        unknown.append(f"state of {optimizer} unknown: {first_line(error)}")
    return TrainingStep(
        optimizer=optimizer,
        gradient_bytes=sum(map(bytes_of, parameters)),
        optimizer_bytes=state_bytes,
        saved_bytes=saved_bytes,
        estimated=any(isinstance(module, nn.RNNBase) for module in network.modules()),
        unknown=tuple(unknown),
    )


def _trainable(network: nn.Module) -> list[torch.Tensor]:
    return [each for each in network.parameters() if each.requires_grad and not is_lazy(each)]
