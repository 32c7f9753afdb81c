"""The memory of each rank of a training on many, worked out before there are any."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import nn
from torch.jit import ScriptModule

from nnmagic.display import units
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.layers import modules_of, named_buffers, named_parameters
from nnmagic.records.plan import Plan
from nnmagic.records.summary_rows import LayerShape
from nnmagic.structure.optimizers import Form, optimizer_bytes
from nnmagic.structure.packed import holds_packed
from nnmagic.structure.plan_request import PlanError, PlanRequest
from nnmagic.structure.planning.fully_sharded import gathered_layers, shard
from nnmagic.structure.planning.layer_pairs import Order, Pair, cuts_of, pairs_of, wider_pairs
from nnmagic.structure.planning.rank_forward import RankForward, forward_as_told, forward_in_pairs
from nnmagic.structure.planning.rank_tensors import dtype_on_rank
from nnmagic.structure.planning.tensor_parallel import NUMBERS, Cuts, declared_cuts
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.tensors.metadata import is_lazy, storage_bytes
from nnmagic.tensors.shards import PLAIN, is_spread

LISTED = 3
"""How many parameters are named that stay whole, those of repeated layers as one."""


def plan_of(request: MetaRequest, rows: Sequence[LayerShape] = (), lacking: str = "") -> Plan:
    """Return what the fullest rank holds, and saves for the backward of a call.

    The call is made as a rank makes it, on tensors without values that are cut as its own would be.
    No process group is needed, nor made.

    Args:
        request: the call, and the plan that is asked for.
        rows: the calls of its layers in the whole network, in order.
        lacking: why there is no call to make, e.g. for want of an input; `""` where there is one.

    Raises:
        PlanError: if the network cannot be cut so.
    """
    network, sizes = request.network, request.plan
    assert sizes is not None
    _check(network, sizes)
    forward = _forward(request, sizes, rows, lacking)
    cuts, parameters = forward.cuts, list(named_parameters(network).values())

    def whole_bytes(parameter: nn.Parameter) -> int:
        return prod(cuts.shape(parameter)) * dtype_on_rank(parameter, sizes.dtype).itemsize

    shards = [
        (shard(cuts.shape(each), sizes.fsdp), dtype_on_rank(each, sizes.dtype))
        for each in parameters
    ]
    trainable = [form for form, each in zip(shards, parameters, strict=True) if each.requires_grad]
    gathered = gathered_layers(network)
    state, unknown = _state_bytes(trainable, request.optimizer)
    return Plan(
        fsdp=sizes.fsdp,
        tp=sizes.tp,
        dtype="" if sizes.dtype is None else str(sizes.dtype).removeprefix("torch."),
        optimizer=request.optimizer,
        param_bytes=_bytes(shards),
        grad_bytes=_bytes(trainable),
        optimizer_bytes=state,
        buffer_bytes=_buffer_bytes(network, sizes.dtype),
        saved_bytes=forward.saved_bytes,
        gathered_bytes=gathered.most_bytes(whole_bytes) if sizes.fsdp > 1 else 0,
        notes=(
            *_lines_of_cuts(network, cuts, whole_bytes),
            *((gathered.line(sizes.fsdp),) if sizes.fsdp > 1 else ()),
            *forward.notes,
            *unknown,
        ),
    )


def _check(network: nn.Module, sizes: PlanRequest) -> None:
    """Look whether a network can be cut over ranks at all.

    Raises:
        PlanError: if it cannot.
    """
    for name, parameter in named_parameters(network).items():
        name, kind = units.printable(name), type(parameter).__name__
        if is_lazy(parameter):
            raise PlanError(f"{name} has no shape before the first run; call the network once")
        if is_spread(parameter):
            raise PlanError(f"{name} is cut over ranks already; type the network before it is")
        if type(parameter) not in PLAIN:
            raise PlanError(f"{name} is {units.with_article(kind)}, of which no part can be told")
        if sizes.fsdp > 1 and not parameter.dim():
            raise PlanError(
                f"fsdp={sizes.fsdp} cannot cut {name}, which has no axis, nor can FSDP2; "
                f"make it a tensor of one value"
            )
    if any(isinstance(module, ScriptModule) for module in modules_of(network)):
        raise PlanError("a ScriptModule cannot be cut over ranks; type the network it was made of")
    if any(map(holds_packed, modules_of(network))):
        raise PlanError("quantised layers hold packed weights, which cannot be cut over ranks")


def _forward(
    request: MetaRequest, sizes: PlanRequest, rows: Sequence[LayerShape], lacking: str
) -> RankForward:
    """Return how the network is cut and what a rank's forward saves."""
    network = request.network
    cuts = Cuts(1) if sizes.tp == 1 else declared_cuts(network, sizes.tp)
    if cuts is not None:
        if sizes.tp > 1 and not cuts.axes:
            styles = f" that it knows a style of, but {', '.join(cuts.unknown)}"
            raise PlanError(
                f"tp={sizes.tp} cuts nothing: the network's _tp_plan names no layer"
                f"{styles if cuts.unknown else ''}"
            )
        if lacking:
            return RankForward(cuts, None, (_lack(lacking),))
        return forward_as_told(request, cuts)
    order = _order(rows)
    pairs = _pairs(network, sizes.tp, order)
    if lacking:
        return RankForward(cuts_of(pairs, sizes.tp), None, (_lack(lacking),))

    def wider(paired: Sequence[Pair]) -> list[Pair]:
        found = wider_pairs(network, order, paired)
        return [pair for pair in found if not pair.obstacle(sizes.tp)]

    return forward_in_pairs(request, pairs, wider, sizes.tp)


def _lack(lacking: str) -> str:
    return f"saved for backward unknown: {lacking}"


def _order(rows: Sequence[LayerShape]) -> Order:
    """Return when each layer of a network was called first, by its name."""
    order: dict[str, int] = {}
    if rows:
        before = f"{rows[0].layer}." if rows[0].layer else ""
        for row in rows:
            if row.call is not None and row.network == rows[0].network:
                order.setdefault(row.layer.removeprefix(before), row.call)
    return order


def _pairs(network: nn.Module, degree: int, order: Order) -> list[Pair]:
    """Return the pairs of layers that tensor parallelism can cut.

    Raises:
        PlanError: if there are none.
    """
    found = pairs_of(network, order) or wider_pairs(network, order, ())
    if not found:
        raise PlanError(
            f"tp={degree} cuts nothing: no module has two Linear layers of which one takes what "
            f"the other makes; name the layers in a _tp_plan of the network"
        )
    divisible = [pair for pair in found if not pair.obstacle(degree)]
    if not divisible:
        name = units.layer_name(type(network).__name__, units.printable(found[0].name))
        obstacle = found[0].obstacle(degree)
        raise PlanError(f"tp={degree} cuts nothing: {name} has {obstacle}, no multiple of {degree}")
    return divisible


def _bytes(forms: Sequence[Form]) -> int:
    return sum(prod(shape) * dtype.itemsize for shape, dtype in forms)


def _buffer_bytes(network: nn.Module, dtype: torch.dtype | None) -> int:
    """Return the bytes of the buffers once they are cast, a shared storage once."""
    by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
    for buffer in named_buffers(network).values():
        by_dtype.setdefault(buffer.dtype, []).append(buffer)
    return sum(
        storage_bytes(buffers) * dtype_on_rank(buffers[0], dtype).itemsize // of.itemsize
        for of, buffers in by_dtype.items()
    )


def _state_bytes(trainable: Sequence[Form], optimizer: str) -> tuple[int | None, tuple[str, ...]]:
    """Return the bytes of the optimizer's state on a rank, or why they are unknown."""
    if not optimizer:
        return 0, ("no optimizer is named: --optimizer adam adds its state",)
    try:
        return optimizer_bytes(Counter(trainable), optimizer), ()
    except Exception as error:  # noqa: BLE001 - an optimizer may refuse such parameters
        return None, (f"state of {optimizer} unknown: {first_line(error)}",)


def _lines_of_cuts(network: nn.Module, cuts: Cuts, whole_bytes: Callable[..., int]) -> list[str]:
    """Return a line about what tensor parallelism cuts, and what stays whole."""
    if cuts.degree == 1:
        return []
    whole = Counter[str]()
    for name, each in named_parameters(network).items():
        if id(each) not in cuts.axes:
            whole[NUMBERS.sub("*", units.printable(name))] += whole_bytes(each)
    named = ", ".join(f"{name} {units.size(size)}" for name, size in whole.most_common(LISTED))
    rest = f"; whole on every rank: {units.size(sum(whole.values()))}, such as {named}"
    unknown = f"; styles that are not known leave it whole: {', '.join(cuts.unknown)}"
    layers = units.plural(cuts.layers, "layer")
    return [
        f"tp={cuts.degree} cuts {layers} {cuts.source}{rest if whole else ''}"
        f"{unknown if cuts.unknown else ''}"
    ]
