"""Layers and parameters that a network uses and does not know."""

import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.network.calls import RunningCall
from nnmagic.network.layers import named_parameters
from nnmagic.network.unregistered import (
    HeldPlace,
    is_registered_elsewhere,
    lost_parameters,
    made_anew_text,
    trainable,
)
from nnmagic.records.call_log import TraceLog
from nnmagic.records.finding import Finding


class Suspect(NamedTuple):
    """A layer that is called and not registered.

    Attributes:
        layer: a weak reference to it.
        place: where in a plain container it is, None if in none.
        parameters: the identities of those of its parameters that require a gradient.
        size: how many values these have.
        network: the name of the network.
        name: the layer's name.
        iteration: the iteration in which it was called first.
    """

    layer: weakref.ref[nn.Module]
    place: HeldPlace | None
    parameters: set[int]
    size: int
    network: str
    name: str
    iteration: int


class RegistrationRules:
    """Finds the layers and the parameters that no optimizer will see.

    Silent where an optimizer got them by hand, where another module knows the layer, and where it
    runs without gradients in a call that has them, as a teacher that is hidden on purpose does.

    Args:
        log: the columns of the run, which get the findings.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self._suspects: list[Suspect] = []
        self._stepped: set[int] = set()

    def look_at(self, call: RunningCall[Any], *, is_users: bool) -> None:
        """Look at a layer that is called for the first time, before its forward runs.

        Args:
            call: its call.
            is_users: whether its class is not torch's own.
        """
        if call.layer in call.network.unregistered:
            self._suspect(call)
        network = call.network.module()
        if is_users and network is not None:
            for name, text, parameter in lost_parameters(call.module):
                if all(each is not parameter for each in named_parameters(network).values()):
                    name = f"{call.layer}.{name}" if call.layer else name
                    where = call.network.label, call.layer, call.iteration.number
                    self._add(*where, f"{name} {text}", parameter.numel())

    def stepped(self, parameters: Iterable[torch.Tensor]) -> None:
        """Note the parameters that an optimizer has got."""
        self._stepped.update(map(id, parameters))

    def conclude(self) -> None:
        """Add what is found of the layers, now that the run has left those that it made."""
        for suspect in self._suspects:
            layer = suspect.layer()
            if suspect.place is not None:
                text = f"{suspect.name} {suspect.place.text(suspect.size)}"
            elif layer is None:
                text = made_anew_text(suspect.name, suspect.size)
            else:
                continue  # another network, or a layer that somebody else holds
            is_seen = suspect.parameters <= self._stepped
            if not is_seen and not (layer is not None and is_registered_elsewhere(layer)):
                network, name, iteration = suspect.network, suspect.name, suspect.iteration
                self._add(network, name, iteration, text, suspect.size)
        self._suspects.clear()

    def _suspect(self, call: RunningCall[Any]) -> None:
        log, parameters = self.log, trainable(call.module)
        is_hidden = log.series[call.iteration.series].grad and not torch.is_grad_enabled()
        if parameters and not is_hidden:
            self._suspects.append(
                Suspect(
                    layer=weakref.ref(call.module),
                    place=call.network.unregistered[call.layer],
                    parameters=set(map(id, parameters)),
                    size=sum(each.numel() for each in parameters),
                    network=call.network.label,
                    name=call.layer,
                    iteration=call.iteration.number,
                )
            )

    def _add(self, network: str, layer: str, iteration: int, text: str, size: int) -> None:
        finding = Finding(
            rule="not registered",
            network=network,
            layer=layer,
            iteration=iteration,
            text=text,
            number=size,
        )
        self.log.findings.append(finding)
