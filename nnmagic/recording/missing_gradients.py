"""Looking why parameters get no gradient: where their layers run, and where the graph is cut."""

from typing import Any

import torch

from nnmagic.network.calls import RunningCall
from nnmagic.network.layers import named_parameters
from nnmagic.network.nested_values import tensors_in, tensors_of_call
from nnmagic.tensors.shards import part_here

BACKWARDS = 2
"""For so many backwards the calls are watched; without one a call costs nothing."""


class MissingGradients:
    """Follows the graph from layer to layer, from the backward on that left parameters out.

    Args:
        observer: sees the calls of the run.

    Attributes:
        ran: the layers that were called meanwhile, as pairs of a network and a name.
        without_graph: those that were called without gradients, in a network called with them.
        cuts: for each network the first layer whose output goes on without its graph, and the
            layer that gets it so.
        feeding: the networks in which what ran without gradients goes into a layer with parameters.
    """

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.ran: set[tuple[str, str]] = set()
        self.without_graph: set[tuple[str, str]] = set()
        self.cuts: dict[str, tuple[str, str]] = {}
        self.feeding: set[str] = set()
        self._left = BACKWARDS
        self._straight: tuple[Any, Any] | None = None
        self._made: dict[int, tuple[str, torch.Size, bool]] = {}

    def backward_ended(self, *, is_missing: bool) -> None:
        """Begin to look, or go on, where parameters got no gradient so far; else stop."""
        self._made.clear()
        if not is_missing or not self._left:
            self.stop()
            return
        self._left -= 1
        if self._straight is None:
            self._straight = self.observer.began, self.observer.ended
            self.observer.began, self.observer.ended = self._began, self._ended

    def stop(self) -> None:
        """Look no more."""
        self._made.clear()
        if self._straight is not None:
            self.observer.began, self.observer.ended = self._straight
            self._straight = None

    def conclude(self) -> None:
        """Stop, and let go of the observer, which refers to what refers to this."""
        self.stop()
        self.observer = None

    def _began(self, call: RunningCall[Any]) -> Any:
        network = call.network.label
        if torch.is_grad_enabled() and network not in self.cuts:
            for each in tensors_of_call(call.args, call.kwargs)[1]:
                if not each.requires_grad and each.is_floating_point():
                    made = self._made.get(_address(each))
                    if made is None or made[1] != each.shape:
                        continue
                    if made[2]:
                        self.cuts[network] = made[0], call.layer
                    elif named_parameters(call.module):
                        self.feeding.add(network)
        assert self._straight is not None
        return self._straight[0](call)

    def _ended(self, call: RunningCall[Any], output: Any) -> None:
        assert self._straight is not None
        self._straight[1](call, output)
        key = call.network.label, call.layer
        self.ran.add(key)
        series = self.observer.recorder.log.series[call.iteration.series]
        is_hidden = series.grad and not torch.is_grad_enabled()
        if is_hidden:
            self.without_graph.add(key)
        for each in tensors_in(output)[1]:
            if each.requires_grad or is_hidden:
                self._made[_address(each)] = call.layer, each.shape, each.requires_grad


def _address(tensor: torch.Tensor) -> int:
    try:
        return part_here(tensor).untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return id(tensor)  # one without a storage, such as a sparse one
