"""The forward of one of many ranks, made on tensors without values, and what it saves."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nnmagic.contexts import block, quiet, without_garbage_collection
from nnmagic.display import units
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.layers import (
    layers_of,
    modules_of,
    named_parameters,
    set_training,
)
from nnmagic.network.places import raising_line
from nnmagic.structure.meta import is_for_want_of_values, networks_on_meta
from nnmagic.structure.plan_request import PlanError
from nnmagic.structure.planning.fully_sharded import blocks_of
from nnmagic.structure.planning.layer_pairs import Pair, cuts_of
from nnmagic.structure.planning.rank_tensors import RankTensors
from nnmagic.structure.planning.repeated_blocks import RepeatedBlocks
from nnmagic.structure.planning.tensor_parallel import Cuts
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.structure.training_memory import SavedTensors, saved_by_call
from nnmagic.torch_private import FakeTensor


@dataclass(frozen=True, slots=True)
class RankForward:
    """How a network is cut, and what came of the forward of a rank.

    Attributes:
        cuts: what is cut.
        saved_bytes: what the forward saves for the backward; None where it was not made or failed.
        notes: why, or why layers stay whole.
    """

    cuts: Cuts
    saved_bytes: int | None
    notes: tuple[str, ...] = ()


def forward_as_told(request: MetaRequest, cuts: Cuts) -> RankForward:
    """Return the forward of a rank of a network that says itself how it is cut, or is not cut.

    Raises:
        PlanError: if it goes through whole, but not cut.
    """
    try:
        return RankForward(cuts, saved_bytes(request, cuts))
    except Exception as error:  # noqa: BLE001 - whatever a forward raises
        failure = _failure(request.network, error)
        if cuts.axes and _failure_of_whole(request) is None:
            raise PlanError(f"tp={cuts.degree} does not go through {failure}") from None
        return RankForward(cuts, None, (_unknown(request, failure),))


def forward_in_pairs(
    request: MetaRequest,
    pairs: Sequence[Pair],
    wider: Callable[[Sequence[Pair]], Sequence[Pair]],
    degree: int,
) -> RankForward:
    """Return the forward of a rank where those pairs are cut that it goes through with.

    Args:
        request: the call.
        pairs: what may be cut.
        wider: gives further pairs, of layers that are in none of some pairs.
        degree: over how many ranks.

    Raises:
        PlanError: if it goes through with none of them.
    """
    trials = _Trials(request, degree)
    left, saved = trials.narrowed(pairs)
    if trials.failure:
        return RankForward(cuts_of(pairs, degree), None, (_unknown(request, trials.failure),))
    more = wider(left)
    if more:
        left, saved = trials.narrowed([*left, *more])
    if not left:
        raise PlanError(f"tp={degree} goes through no layer: {trials.refused[0][1]}")
    return RankForward(cuts_of(left, degree), saved, trials.notes(left))


class _Trials:
    """Tries a forward with fewer and fewer pairs, until it goes through.

    Attributes:
        refused: the pairs that it did not go through with, and why.
        failure: why it does not go through at all; `""` where it does.
    """

    def __init__(self, request: MetaRequest, degree: int) -> None:
        self._request = request
        self._degree = degree
        self.refused: list[tuple[Pair, str]] = []
        self.failure = ""

    def narrowed(self, pairs: Sequence[Pair]) -> tuple[list[Pair], int | None]:
        """Return the pairs that it goes through with, and what it saves then."""
        left = list(pairs)
        while left:
            try:
                return left, saved_bytes(self._request, cuts_of(left, self._degree))
            except Exception as error:  # noqa: BLE001 - whatever a forward raises
                why = _failure(self._request.network, error)
                culprits = _kinds_at(error, left, self._request.network)
            if not self.refused and (failure := _failure_of_whole(self._request)) is not None:
                self.failure = failure
                return [], None
            self.refused += [(pair, why) for pair in left if type(pair.module) in culprits]
            left = [pair for pair in left if type(pair.module) not in culprits]
        return [], None

    def notes(self, left: Sequence[Pair]) -> tuple[str, ...]:
        """Return a line for each class of modules of which layers stay whole, with the reason."""
        cut = {id(layer) for pair in left for layer in pair.layers}
        whole = {
            why: type(pair.module).__name__
            for pair, why in reversed(self.refused)
            if not cut.issuperset(map(id, pair.layers))
        }
        return tuple(
            f"{kind} stays whole: with a part of its layers, {why}"
            for why, kind in reversed(whole.items())
        )


def _unknown(request: MetaRequest, failure: str) -> str:
    mode = " in train mode" if request.own_input else ""
    return f"saved for backward unknown: the forward fails{mode} in {failure}"


def _failure_of_whole(request: MetaRequest) -> str | None:
    """Return what a network raises that is not cut, None where nothing."""
    try:
        saved_bytes(request, Cuts(1))
    except Exception as error:  # noqa: BLE001 - whatever a forward raises
        return _failure(request.network, error)
    return None


@without_garbage_collection
def saved_bytes(request: MetaRequest, cuts: Cuts, *, every_block: bool = False) -> int:
    """Return what the forward of a rank saves for its backward.

    It is made in train mode on an input of nnmagic's own, else in the network's own modes.

    Args:
        request: the call.
        cuts: how the network is cut.
        every_block: whether blocks run that do what two before them did.

    Raises:
        Exception: whatever the forward raises.
    """
    network = request.network
    dtype = None if request.plan is None else request.plan.dtype
    shapes = {
        id(each): cuts.shape(each)
        for each in named_parameters(network).values()
        if id(each) in cuts.axes
    }
    tensors = RankTensors(network, shapes, dtype)
    arguments = tensors.arguments((request.args, dict(request.kwargs)))
    with (
        _quiet_with_fakes(),
        torch.inference_mode(False),
        torch.enable_grad(),
        networks_on_meta(network, tensors),
    ):
        cuts.change_forward()
        if request.own_input:  # put back with everything else when the network leaves meta
            set_training(network, training=True)
        blocks = () if every_block else blocks_of(network)
        try:
            return _saved_in(request, blocks, arguments)
        except Exception:
            if every_block:
                raise
        finally:
            tensors.clear()
    return saved_bytes(request, cuts, every_block=True)


def _saved_in(request: MetaRequest, blocks: Iterable[nn.Module], arguments: Any) -> int:
    """Return what the call saves, of a network that is on meta; its tensors end with this frame.

    Args:
        request: the call.
        blocks: the blocks that need not run where two before them did the same.
        arguments: its arguments, on meta too.
    """
    saved = SavedTensors(request.network)
    repeated = RepeatedBlocks(blocks, saved)
    with repeated.in_forward():
        ran = saved_by_call(request, arguments, saved)
    return ran + repeated.skipped_bytes


@block
def _quiet_with_fakes() -> Iterator[None]:
    """Let the forward print nothing and warn of nothing: it has run before, to be described."""
    of_fakes = logging.getLogger(FakeTensor.__module__)  # tells of what a forward may catch
    of_fakes.addFilter(_nothing)
    try:
        with quiet():
            yield
    finally:
        of_fakes.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _failure(network: nn.Module, error: Exception) -> str:
    """Return which layer raised, and what: `attn (Attention): shape '[1, 5]' is invalid …`."""
    names = {id(layer): name for name, layer in layers_of(network).items()}
    inside = _layers_at(error, network)
    layer = inside[-1] if inside else network
    kind = type(layer).__name__
    name = units.layer_name(type(network).__name__, units.printable(names.get(id(layer), "")))
    where = units.layer_with_type(name, kind)
    if is_for_want_of_values(error) and (code := raising_line(error)):
        return f"{where}: {code} reads values, of which a plan has none"
    return f"{where}: {units.printable(first_line(error))}"


def _layers_at(error: BaseException, network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network whose calls an exception ended, the outermost first."""
    held = {id(layer): layer for layer in modules_of(network)}
    found, step = dict[int, nn.Module](), error.__traceback__
    while step is not None:
        one = id(step.tb_frame.f_locals.get("self"))
        if one in held:
            found[one] = held[one]
        step = step.tb_next
    return list(found.values())


def _kinds_at(error: BaseException, pairs: Sequence[Pair], network: nn.Module) -> set[type]:
    """Return the classes whose pairs an exception may be due to, all of them at the worst."""
    for layer in reversed(_layers_at(error, network)):
        inside = set(map(id, modules_of(layer)))
        found = {type(pair.module) for pair in pairs if not inside.isdisjoint(map(id, pair.layers))}
        if found:
            return found
    return {type(pair.module) for pair in pairs}
