"""Two runs in lockstep: every pair of calls is compared whole, and nothing of it is kept."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from nnmagic.comparing.stepped_run import BEGAN, ENDED, RandomState, SteppedRun, Tensors
from nnmagic.comparing.watched_run import CallKey, NetworkCall
from nnmagic.comparing.whole_values import Differences, difference, pairs
from nnmagic.network.nested_values import tensors_in
from nnmagic.records.comparison.differences import Difference, worst
from nnmagic.torch_private import tree_flatten, tree_unflatten

NOTHING = nullcontext()


class Lockstep:
    """Runs the other side, and this side a call ahead of it, and compares them.

    Args:
        mine: this side's call, of a copy of its network.
        other: the other side's.
        twins: this side's call for each of the other side's.
        isolated: whether each layer of the other side gets this side's input, and its caller this
            side's output: what is measured then is the layer's own error.
        around: entered for the other side's run; this side's thread has begun before.

    Attributes:
        entered: what entering it gave.
        inputs: by this side's call how far what the two got lies apart.
        outputs: how far what they returned lies apart.
        own: how far it does where the other side is isolated; of a container with what its own code
            gave to the layers that it called.
        error: the exception by which a side ended.
    """

    def __init__(
        self,
        mine: NetworkCall,
        other: NetworkCall,
        twins: Mapping[CallKey, CallKey],
        *,
        isolated: bool = False,
        around: AbstractContextManager[Any] = NOTHING,
    ) -> None:
        self.twins, self.isolated = twins, isolated
        self.inputs: dict[CallKey, Difference | None] = {}
        self.outputs: dict[CallKey, Difference | None] = {}
        self.own: dict[CallKey, Difference | None] = {}
        self.error: BaseException | None = None
        self.entered: Any = None
        self._differences = Differences()
        self._running: list[CallKey] = []
        before = RandomState()
        self._mine = SteppedRun(mine, set(twins.values()))
        try:
            with around as self.entered:
                other.watched(self._began, self._ended)
        except Exception as error:  # noqa: BLE001 - it is the user's code that fails; a line says so
            self.error = error
        finally:
            self._mine.close()
            before.set()
        self.error = self.error or self._mine.error

    def _began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        twin = self.twins.get(key)
        if twin is None:
            return args, kwargs
        theirs = self._mine.at(twin, BEGAN)
        if theirs is not None:
            got = self._differences.worst(theirs, tensors_in((args, kwargs))[1])
            if self.isolated and self._running:
                caller = self._running[-1]
                self.own[caller] = worst([self.own.get(caller), got])
            elif not self.isolated:
                self.inputs[twin] = got
            if self.isolated:
                args, kwargs = self._replaced((args, kwargs), theirs)
        self._running.append(twin)
        return args, kwargs

    def _ended(self, key: CallKey, output: Any) -> Any:
        twin = self.twins.get(key)
        if twin is None:
            return output
        while self._running and self._running.pop() != twin:
            pass
        theirs = self._mine.at(twin, ENDED)
        if theirs is None:
            return output
        made = self._differences.worst(theirs, tensors_in(output)[1])
        if not self.isolated:
            self.outputs[twin] = made
            return output
        self.own[twin] = worst([self.own.get(twin), made])
        return self._replaced(output, theirs)

    def _replaced(self, value: Any, tensors: Sequence[torch.Tensor]) -> Any:
        """Return a value with copies of these in place of its tensors."""
        leaves, form = tree_flatten(value)
        own = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        new = {id(old): self._differences.copy(a, old) for a, old in pairs(tensors, own)}
        return tree_unflatten([new.get(id(leaf), leaf) for leaf in leaves], form)


class Apart:
    """Runs each item of a batch alone, and the batch a call ahead of them, and compares them.

    Args:
        batch: the call on the whole batch.
        items: the call on each item.
        wanted: the calls to compare, which have the same names on both sides.

    Attributes:
        inputs, outputs, error: as of `Lockstep`.
    """

    def __init__(
        self, batch: NetworkCall, items: Sequence[NetworkCall], wanted: set[CallKey]
    ) -> None:
        self.inputs: dict[CallKey, Difference | None] = {}
        self.outputs: dict[CallKey, Difference | None] = {}
        self.error: BaseException | None = None
        before = RandomState()
        self._wanted = wanted
        self._items = [SteppedRun(item, wanted) for item in items]
        try:
            batch.watched(self._began, self._ended)
        except Exception as error:  # noqa: BLE001 - it is the user's code that fails; a line says so
            self.error = error
        finally:
            for item in self._items:
                item.close()
            before.set()
        errors = (item.error for item in self._items)
        self.error = self.error or next(filter(None, errors), None)

    def _began(
        self, key: CallKey, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if key in self._wanted:
            self.inputs[key] = self._against_items(key, BEGAN, tensors_in((args, kwargs))[1])
        return args, kwargs

    def _ended(self, key: CallKey, output: Any) -> Any:
        if key in self._wanted:
            self.outputs[key] = self._against_items(key, ENDED, tensors_in(output)[1])
        return output

    def _against_items(self, key: CallKey, kind: str, whole: Tensors) -> Difference | None:
        found = []
        for number, run in enumerate(self._items):
            alone = run.at(key, kind)
            if alone is not None and len(alone) == len(whole):
                found += [
                    difference(rows, b)
                    for a, b in zip(whole, alone, strict=True)
                    for rows in _rows(a, b, number)
                ]
        return worst(found)


def _rows(whole: torch.Tensor, alone: torch.Tensor, number: int) -> list[torch.Tensor]:
    """Return the rows of a batch's tensor that are those of one item; none if it has none."""
    if not alone.ndim or whole.shape[1:] != alone.shape[1:] or len(alone) >= len(whole):
        return []
    return [whole[number * len(alone) : (number + 1) * len(alone)]]
