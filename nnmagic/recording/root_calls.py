"""What is left of the outermost calls of a run: enough to make them again, nothing kept alive."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.network.autocast import casts_here
from nnmagic.network.calls import RunningCall
from nnmagic.records.call_log import TraceLog
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors.metadata import version_of
from nnmagic.tensors.samples import restored
from nnmagic.torch_private import tree_flatten, tree_unflatten

PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, type(None), slice, range)


class GoneError(ValueError):
    """A call cannot be made again; the text says why."""


class NoTensorError(GoneError):
    """A call takes no tensor in whose place another one could stand."""


class _Tensor(NamedTuple):
    """The place of a tensor among a call's arguments."""

    live: weakref.ref[torch.Tensor]
    version: int


class _Lost(NamedTuple):
    """The place of an argument that a record cannot keep: the name of its class."""

    type: str


class RootCall:
    """The last call of one root: weak references to what was called and to its tensors.

    Args:
        call: the call in progress.
        index: its number in the log.
        tensors: those among its arguments.

    Attributes:
        casts: what autocast cast to around it.
    """

    def __init__(self, call: RunningCall[Any], index: int, tensors: Iterable[torch.Tensor]) -> None:
        args, kwargs = call.args, call.kwargs
        self.network = call.network.module
        self.called = weakref.ref(call.module)
        self.index = index
        self.casts = casts_here()
        if len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor):
            leaves, self._form = [args[0]], None
        else:
            leaves, self._form = tree_flatten((args, kwargs))
        self._leaves = [_kept(leaf) for leaf in leaves]
        self._order = [*map(id, tensors)]
        self._places = [id(leaf) for leaf in leaves]

    def arguments(
        self, log: TraceLog, main: torch.Tensor | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the call once more.

        Args:
            log: the columns of the run, which hold the values of small tensors.
            main: what stands in place of the first tensor; None is that tensor's own value.

        Raises:
            GoneError: if an argument is gone.
        """
        seen = log.inputs[self.index]
        leaves = []
        first = main is not None
        for leaf, identity in zip(self._leaves, self._places, strict=True):
            if isinstance(leaf, _Lost):
                raise GoneError(f"an argument of the call, a {leaf.type}, was not recorded")
            if not isinstance(leaf, _Tensor):
                leaves.append(leaf)
            elif first:
                leaves.append(main)
                first = False
            else:
                index = seen[self._order.index(identity)] if identity in self._order else None
                leaves.append(_value(leaf, log, index))
        if first:
            raise NoTensorError("the call takes no tensor")
        if self._form is None:
            return (leaves[0],), {}
        return tree_unflatten(leaves, self._form)


def _kept(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return _Tensor(weakref.ref(leaf), version_of(leaf))
    return leaf if isinstance(leaf, PLAIN) else _Lost(type(leaf).__name__)


def _value(leaf: _Tensor, log: TraceLog, index: int | None) -> torch.Tensor:
    """Return a tensor with the values that an argument had: itself, unless it has changed."""
    tensor = leaf.live()
    if tensor is not None and version_of(tensor) == leaf.version:
        return tensor
    whole = None if index is None else log.tensors.record(index).whole
    metadata = None if index is None else log.tensors.metadata_of(index)
    if metadata is not None and whole is not None:
        return restored(whole, metadata)
    what = "is gone" if tensor is None else "has changed since"
    shape = "" if metadata is None else f" {metadata.shape}"
    raise GoneError(f"the input{shape} {what}, and only a sample of it was kept")


class RootCalls:
    """The last outermost call of each network of a run.

    Args:
        log: the columns of the run.

    Attributes:
        remake: makes the arguments of a run that nnmagic started, for the network.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self.remake: Callable[[nn.Module], tuple[tuple[Any, ...], dict[str, Any]]] | None = None
        self.last: dict[int, RootCall] = {}

    def note(self, call: RunningCall[Any], root: RootCall) -> None:
        """Note a call that has no other around it."""
        self.last[call.network.index] = root

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the calls; the last ones are never left out."""
        for each in self.last.values():
            each.index = numbers.calls[each.index]

    def __call__(self) -> nn.Module | None:
        """Return the network that the run is about, None where it is gone."""
        main = self.main()
        return None if main is None else main.network()

    def main(self) -> RootCall | None:
        """Return the last call of the network with the most calls, the first of those."""
        if len(self.last) < 2:
            return next(iter(self.last.values()), None)
        calls = Counter[int]()
        for layer, times in Counter(self.log.layer).items():
            calls[self.log.layers[layer].network] += times
        return self.last.get(max(sorted(calls), key=lambda network: calls[network]))

    def arguments(self, main: torch.Tensor | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the main call once more.

        Args:
            main: what stands in place of the first tensor; None is that tensor's own value.

        Raises:
            GoneError: if an argument is gone, and nnmagic did not make it.
        """
        call, network = self.main(), self()
        if call is None or network is None:
            raise GoneError("the network is gone")
        try:
            return call.arguments(self.log, main)
        except GoneError:
            if main is not None or self.remake is None:
                raise
            return self.remake(network)

    @property
    def loose(self) -> bool:
        """Whether several networks ran, none of which called a layer of its own."""
        return len(self.log.networks) > 1 and not any(self.log.depth)
