"""Runs in lockstep with a leading one: each pair of calls is compared whole, and none is kept."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from nnmagic.comparing.follower import Follower, Names, Tensors
from nnmagic.comparing.watched_run import CallKey, NetworkCall
from nnmagic.comparing.whole_values import Differences, difference, pairs
from nnmagic.network.nested_values import tensors_in
from nnmagic.records.comparison.differences import Difference, worst
from nnmagic.torch_private import tree_flatten, tree_unflatten

Found = dict[CallKey, Difference | None]
"""By the leading run's call how far something of the two lies apart."""


class Beside(Follower):
    """The other side on inputs of its own.

    Attributes:
        inputs: how far what the two got lies apart.
        outputs: how far what they returned lies apart.
    """

    def __init__(
        self,
        call: NetworkCall,
        twins: Names = None,
        around: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.inputs: Found = {}
        self.outputs: Found = {}
        self._differences = Differences()
        super().__init__(call, twins, around)

    def began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any], theirs: Tensors
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Compare the inputs."""
        self.inputs[key] = self._differences.worst(theirs, tensors_in((args, kwargs))[1])
        return args, kwargs

    def ended(self, key: CallKey, output: Any, theirs: Tensors) -> Any:
        """Compare the outputs."""
        self.outputs[key] = self._differences.worst(theirs, tensors_in(output)[1])
        return output


class Isolated(Follower):
    """The other side, each of its layers on the leading run's input.

    Its caller gets the leading run's output: what is measured is the layer's own error.

    Attributes:
        own: how far what the two returned lies apart; of a container with what its own code gave to
            the layers that it called.
    """

    def __init__(self, call: NetworkCall, twins: Names = None) -> None:
        self.own: Found = {}
        self._differences = Differences()
        super().__init__(call, twins)

    def began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any], theirs: Tensors
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Compare what the caller's own code made of its inputs, and take the leading run's."""
        if self.running:
            caller = self.running[-1]
            got = self._differences.worst(theirs, tensors_in((args, kwargs))[1])
            self.own[caller] = worst([self.own.get(caller), got])
        args, kwargs = self._replaced((args, kwargs), theirs)
        return args, kwargs

    def ended(self, key: CallKey, output: Any, theirs: Tensors) -> Any:
        """Compare the outputs, and give the caller the leading run's."""
        made = self._differences.worst(theirs, tensors_in(output)[1])
        self.own[key] = worst([self.own.get(key), made])
        return self._replaced(output, theirs)

    def _replaced(self, value: Any, tensors: Sequence[torch.Tensor]) -> Any:
        """Return a value with copies of these in place of its tensors."""
        leaves, form = tree_flatten(value)
        own = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        new = {id(old): self._differences.copy(a, old) for a, old in pairs(tensors, own)}
        return tree_unflatten([new.get(id(leaf), leaf) for leaf in leaves], form)


class Item(Follower):
    """One item of a batch alone.

    Args:
        call: the call on the item.
        number: which item it is.
        twins: as of `Follower`.

    Attributes:
        inputs: how far what it got lies from the item's rows in what the batch's call got.
        outputs: how far what it returned does.
    """

    def __init__(self, call: NetworkCall, number: int, twins: Names) -> None:
        self.inputs: Found = {}
        self.outputs: Found = {}
        self._number = number
        super().__init__(call, twins)

    def began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any], theirs: Tensors
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Compare the inputs."""
        self.inputs[key] = self._difference(theirs, tensors_in((args, kwargs))[1])
        return args, kwargs

    def ended(self, key: CallKey, output: Any, theirs: Tensors) -> Any:
        """Compare the outputs."""
        self.outputs[key] = self._difference(theirs, tensors_in(output)[1])
        return output

    def _difference(self, batch: Tensors, alone: Tensors) -> Difference | None:
        if len(batch) != len(alone):
            return None
        return worst(
            difference(rows, item)
            for whole, item in zip(batch, alone, strict=True)
            for rows in _rows(whole, item, self._number)
        )


def _rows(whole: torch.Tensor, alone: torch.Tensor, number: int) -> list[torch.Tensor]:
    """Return the rows of a batch's tensor that are those of one item; none if it has none."""
    if not alone.ndim or whole.shape[1:] != alone.shape[1:] or len(alone) >= len(whole):
        return []
    return [whole[number * len(alone) : (number + 1) * len(alone)]]


def worst_of(runs: Sequence[Beside | Item]) -> tuple[Found, Found]:
    """Return the worst differences of inputs and of outputs of several runs, by the calls."""
    return _worst([each.inputs for each in runs]), _worst([each.outputs for each in runs])


def _worst(found: Sequence[Found]) -> Found:
    keys = dict.fromkeys(key for each in found for key in each)
    return {key: worst(each.get(key) for each in found) for key in keys}
