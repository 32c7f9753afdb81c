"""The memory of a training step: gradients, the optimizer's state, what backward needs."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import nn

from nnmagic.contexts import block
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.layers import (
    device_of,
    modules_of,
    named_buffers,
    named_parameters,
    set_training,
)
from nnmagic.records.summary_rows import TrainingStep
from nnmagic.structure.meta import FakeTensors, networks_on_meta, on_meta, takes_fake_tensors
from nnmagic.structure.meta_values import known_values
from nnmagic.structure.optimizers import Form, forms_of, optimizer_bytes
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.tensors.metadata import bytes_of, is_lazy
from nnmagic.torch_private import storage_id


class SavedTensors:
    """The storages that a run keeps for its backward, each once.

    Those of the network's parameters and buffers are left out, since they are counted as such.
    """

    def __init__(self, network: nn.Module) -> None:
        self._kept: dict[int, torch.Tensor] = {}
        self._apart = {
            storage_id(tensor)
            for tensor in chain(named_parameters(network).values(), named_buffers(network).values())
            if not is_lazy(tensor) and tensor.layout is torch.strided
        }
        self._holders: list[list[torch.Tensor]] = []

    @property
    def bytes(self) -> int:
        """How many bytes the storages have."""
        return sum(kept.untyped_storage().nbytes() for kept in self._kept.values())

    def has(self, tensor: torch.Tensor) -> bool:
        """Tell whether a tensor's storage is kept already, or left out."""
        if tensor.layout is not torch.strided:
            return False
        storage = storage_id(tensor)
        return storage in self._kept or storage in self._apart

    def leave_out(self, tensor: torch.Tensor) -> None:
        """Leave out the storage of a tensor that lives as long as the run."""
        self._apart.add(storage_id(tensor))
        self._holders.append([tensor])

    def _pack(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        if tensor.layout is torch.strided:
            storage = storage_id(tensor)
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


def training_step(request: MetaRequest) -> TrainingStep:
    """Return the memory that a training step takes, without making it.

    The forward runs on tensors without values that are on the network's own device by name, so that
    torch takes the same kernels as there, which save the same: in train mode on an input of
    nnmagic's own, else in the network's own modes.

    Args:
        request: the call, and the name of the optimizer.
    """
    network, optimizer = request.network, request.optimizer
    fakes = FakeTensors(device_of(network)) if takes_fake_tensors(network) else None
    forms, gradient_bytes = _trainable(network)
    saved_bytes = state_bytes = None
    unknown = list[str]()
    try:
        with torch.inference_mode(False), torch.enable_grad(), networks_on_meta(network, fakes):
            if request.own_input:  # put back with everything else when the network leaves meta
                set_training(network, training=True)
            saved_bytes = saved_by_call(
                request, on_meta((request.args, dict(request.kwargs)), fakes), SavedTensors(network)
            )
            forms, gradient_bytes = _trainable(network)  # lazy ones are made now
    except Exception as error:  # noqa: BLE001 - whatever a forward raises in training
        mode = " in train mode" if request.own_input else ""
        unknown.append(f"saved for backward unknown: the forward fails{mode}: {first_line(error)}")
    try:
        state_bytes = optimizer_bytes(forms, optimizer)
    except Exception as error:  # noqa: BLE001 - an optimizer may refuse such parameters
        unknown.append(f"state of {optimizer} unknown: {first_line(error)}")
    return TrainingStep(
        optimizer=optimizer,
        gradient_bytes=gradient_bytes,
        optimizer_bytes=state_bytes,
        saved_bytes=saved_bytes,
        estimated=any(isinstance(module, nn.RNNBase) for module in modules_of(network)),
        unknown=tuple(unknown),
    )


def saved_by_call(request: MetaRequest, arguments: Any, saved: SavedTensors) -> int:
    """Return how many bytes a call of a network that is on meta saves for its backward.

    Args:
        request: the call.
        arguments: its arguments, on meta too.
        saved: takes note of what is saved.
    """
    given = request.args, dict(request.kwargs)
    known = known_values(modules_of(request.network), given, arguments, all_small=True)
    with known, saved.noted():
        request.function(*arguments[0], **arguments[1])
    return saved.bytes


def _trainable(network: nn.Module) -> tuple[Counter[Form], int]:
    """Return the shapes and dtypes of the parameters that get gradients, and their bytes."""
    parameters = [
        each
        for each in named_parameters(network).values()
        if each.requires_grad and not is_lazy(each)
    ]
    return forms_of(parameters), sum(map(bytes_of, parameters))
