"""Runs in lockstep with a leading one: each pair of calls is compared whole, and none is kept."""

from collections.abc import Sequence
from typing import Any

import torch

from nnmagic.comparing.follower import Follower, Found, Names, Tensors
from nnmagic.comparing.watched_run import CallKey, NetworkCall
from nnmagic.comparing.whole_values import difference, pairs
from nnmagic.network.nested_values import tensors_in
from nnmagic.records.comparison.differences import Difference, worst
from nnmagic.torch_private import tree_flatten, tree_unflatten


class Beside(Follower):
    """The other side on inputs of its own."""

    def began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any], theirs: Tensors
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Compare the inputs."""
        self.inputs[key] = self.worst(theirs, tensors_in((args, kwargs))[1])
        return args, kwargs

    def ended(self, key: CallKey, output: Any, theirs: Tensors) -> Any:
        """Compare the outputs."""
        self.outputs[key] = self.worst(theirs, tensors_in(output)[1])
        return output

    def worst(self, theirs: Tensors, mine: Tensors) -> Difference | None:
        """Return the largest difference of the leading run's tensors and those here."""
        return self.differences.worst(theirs, mine)


class Isolated(Follower):
    """The other side, each of its layers on the leading run's input.

    Its caller gets the leading run's output: the outputs differ by the layer's own error, those of
    a container also by what its own code gave to the layers that it called.
    """

    def began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any], theirs: Tensors
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Compare what the caller's own code made of its inputs, and take the leading run's."""
        if self.running:
            self._note(self.running[-1], theirs, tensors_in((args, kwargs))[1])
        args, kwargs = self._replaced((args, kwargs), theirs)
        return args, kwargs

    def ended(self, key: CallKey, output: Any, theirs: Tensors) -> Any:
        """Compare the outputs, and give the caller the leading run's."""
        self._note(key, theirs, tensors_in(output)[1])
        return self._replaced(output, theirs)

    def _note(self, key: CallKey, theirs: Tensors, made: Tensors) -> None:
        found = self.differences.worst(theirs, made)
        self.outputs[key] = worst([self.outputs.get(key), found])

    def _replaced(self, value: Any, tensors: Sequence[torch.Tensor]) -> Any:
        """Return a value with copies of these in place of its tensors."""
        leaves, form = tree_flatten(value)
        own = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        new = {id(old): self.differences.copy(a, old) for a, old in pairs(tensors, own)}
        return tree_unflatten([new.get(id(leaf), leaf) for leaf in leaves], form)


class Item(Beside):
    """One item of a batch alone, held against its rows in what the batch's call got and returned.

    Args:
        call: the call on the item.
        number: which item it is.
        twins: as of `Follower`.
    """

    def __init__(self, call: NetworkCall, number: int, twins: Names) -> None:
        self._number = number
        super().__init__(call, twins)

    def worst(self, theirs: Tensors, mine: Tensors) -> Difference | None:
        """Return the largest difference of the item's rows and its tensors here."""
        if len(theirs) != len(mine):
            return None
        return worst(
            difference(rows, item)
            for whole, item in zip(theirs, mine, strict=True)
            for rows in _rows(whole, item, self._number)
        )


def _rows(whole: torch.Tensor, alone: torch.Tensor, number: int) -> list[torch.Tensor]:
    """Return the rows of a batch's tensor that are those of one item; none if it has none."""
    if not alone.ndim or whole.shape[1:] != alone.shape[1:] or len(alone) >= len(whole):
        return []
    return [whole[number * len(alone) : (number + 1) * len(alone)]]


def worst_of(runs: Sequence[Beside]) -> tuple[Found, Found]:
    """Return the worst differences of inputs and of outputs of several runs, by the calls."""
    return _worst([each.inputs for each in runs]), _worst([each.outputs for each in runs])


def _worst(found: Sequence[Found]) -> Found:
    keys = dict.fromkeys(key for each in found for key in each)
    return {key: worst(each.get(key) for each in found) for key in keys}
