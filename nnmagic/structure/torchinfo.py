"""The figures of torchinfo in nnmagic's own record, to cross-check."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from torch import nn

from nnmagic.contexts import block
from nnmagic.display.units import Shape
from nnmagic.network.failures.mismatch import first_line
from nnmagic.network.layers import set_training
from nnmagic.network.nested_values import tensors_of_call
from nnmagic.network.preserve import preserved, values_kept
from nnmagic.network.random_state import random_state_kept
from nnmagic.records.summary import Summary
from nnmagic.records.summary_rows import LayerShape
from nnmagic.structure.describe import describe
from nnmagic.structure.shape_observer import config_of
from nnmagic.structure.shape_run import MetaRequest
from nnmagic.tensors.metadata import is_lazy
from nnmagic.torch_private import parameters_of

NAMED = 3
"""How many types of layers a reason names."""


class PeerError(ValueError):
    """Another tool cannot summarise a network; the text says why."""


def cross_checked(request: MetaRequest) -> Summary:
    """Return torchinfo's figures of a call, with the lines in which nnmagic's differ.

    Raises:
        PeerError: if torchinfo cannot summarise it.
    """
    if request.method is not None:
        raise PeerError(
            "torchinfo can call a network, not one of its methods; type a call such as net(x)"
        )
    label, within = request.place
    theirs = torchinfo_summary(
        request.network,
        request.args,
        request.kwargs,
        title=request.title,
        label=label,
        within=within,
        own_input=request.own_input,
        notes=request.notes,
    )
    return compared(theirs, describe(request, willing=True))


def torchinfo_summary(
    network: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    title: str,
    label: str = "",
    within: str = "",
    own_input: bool = False,
    notes: tuple[str, ...] = (),
) -> Summary:
    """Return what `torchinfo.summary` tells of a call, which it really makes.

    A layer that holds others has the multiply-adds of the leaves below it. The network, the
    arguments, the random state and torchinfo's own cache are left as they were.

    Args:
        network: the network.
        args: the positional arguments.
        kwargs: the keyword arguments.
        title: what the summary is of.
        label: what the network is called; default: its class name.
        within: the name that it has in the network of this label, where it is a layer of it.
        own_input: whether nnmagic made the arguments; the run is in eval mode then.
        notes: lines to show below the table.

    Raises:
        PeerError: if torchinfo fails.
    """
    import torchinfo

    engine = f"torchinfo {torchinfo.__version__}"
    given = tensors_of_call(args, dict(kwargs))[1]
    with preserved(network), random_state_kept(), values_kept(given), _own_cache():
        if own_input:
            set_training(network, training=False)
        found = _model_statistics(engine, network, args, dict(kwargs))
        return Summary(
            title=title,
            rows=tuple(_rows(found.summary_list, label or type(network).__name__, within)),
            total_params=found.total_params,
            trainable_params=found.trainable_params,
            buffer_bytes=0,
            param_bytes=found.total_param_bytes,
            input_bytes=int(found.total_input),  # a number among the arguments is added too
            total_flops=2 * found.total_mult_adds,
            notes=notes,
            engine=engine,
            biases=True,
        )


def _model_statistics(
    engine: str, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return torchinfo's `ModelStatistics` of a call, made in the network's own mode."""
    import torchinfo

    data: Any = [*args]
    taken = sorted(set(kwargs) & _own_keywords())
    if taken and args:
        raise PeerError(f"{engine} takes the keyword {', '.join(taken)} for itself")
    if taken:
        data, kwargs = kwargs, {}
    try:
        return torchinfo.summary(
            network,
            input_data=data,
            cache_forward_pass=False,
            depth=1_000_000,
            mode="train" if network.training else "eval",
            verbose=0,
            **kwargs,
        )
    except Exception as error:  # noqa: BLE001 - it fails on networks that run well
        cause = error.__cause__ or error
        raise PeerError(f"{engine}: {type(cause).__name__}: {first_line(cause)}") from None


def _own_keywords() -> set[str]:
    """Return the names that torchinfo cannot hand on to a network."""
    from torchinfo import torchinfo

    functions = (torchinfo.summary, torchinfo.forward_pass)
    return {name for function in functions for name in inspect.signature(function).parameters}


@block
def _own_cache() -> Iterator[None]:
    """Keep torchinfo from holding on to the network: it remembers the last of each class."""
    from torchinfo import torchinfo

    cache = getattr(torchinfo, "_cached_forward_pass", {})
    before = dict(cache)
    try:
        yield
    finally:
        cache.clear()
        cache.update(before)


def _rows(layers: list[Any], label: str, within: str) -> Iterator[LayerShape]:
    calls = 0
    for layer in layers:
        ran = layer.executed
        leaf = layer.is_leaf_layer
        counted = leaf and layer.num_params > 0  # of others it does not count the output
        own = layer.num_params if leaf else layer.leftover_params()
        macs = layer.macs if leaf else sum(c.macs for c in layer.children if c.is_leaf_layer)
        yield LayerShape(
            network=label,
            call=calls if ran else None,
            layer=_name(layer, within),
            type=layer.class_name,
            depth=layer.depth,
            config=config_of(layer.module),
            input_shape=_shape(layer.input_size),
            output_shape=_shape(layer.output_size),
            params=layer.num_params,
            own_params=0 if layer.is_recursive else max(own, 0),
            trainable_params=layer.trainable_params,
            param_bytes=layer.param_bytes,
            output_bytes=layer.output_bytes if counted or not leaf else 0 if ran else None,
            flops=2 * macs,
            children=not leaf,
            names=_own_names(layer.module, own),
        )
        calls += ran


def _name(layer: Any, within: str) -> str:
    names: list[str] = []
    while layer.parent_info is not None:
        names.append(layer.var_name)
        layer = layer.parent_info
    return ".".join(filter(None, (within, *reversed(names))))


def _own_names(module: nn.Module, own: int) -> tuple[str, ...]:
    """Return the names of a module's own parameters, and a mark where it is told to have more."""
    named = {name: p for name, p in parameters_of(module).items() if p is not None}
    numel = sum(p.numel() for p in named.values() if not is_lazy(p))
    return (*named, "…") if own > numel else tuple(named)


def _shape(size: Any) -> Shape:
    if not isinstance(size, list | tuple):
        return size
    return tuple(map(_shape, size)) or None


def compared(theirs: Summary, ours: Summary) -> Summary:
    """Return another tool's summary with a line for each total in which it differs from ours.

    A line looks like this: `nnmagic counts 1,000 parameters, torchinfo 1,010: it counts a tied
    weight in every layer that has it`.
    """
    tool = theirs.engine.partition(" ")[0]
    lines = []
    for what, total, reasons in _totals(theirs, ours):
        own, other = total(ours), total(theirs)
        if own != other:
            least = "at least " if total is _macs and ours.total_flops is None else ""
            why = "; ".join(reason for reason, holds in reasons.items() if holds)
            text = f"nnmagic counts {least}{own:,} {what}, {tool} {other:,}"
            lines.append(f"{text}: {why}" if why else text)
    return replace(theirs, notes=(*theirs.notes, *(lines or ["nnmagic counts the same"])))


def _totals(
    theirs: Summary, ours: Summary
) -> Iterator[tuple[str, Callable[[Summary], int], dict[str, bool]]]:
    """Yield each total: its name, its value in a summary, and the reasons why it may differ."""
    kinds = {form.kind for row in ours.rows for form in row.forms}
    leaves = [row for row in ours.rows if row.output_bytes and not row.children]
    of_parameters = {
        "it counts a tied weight in every layer that has it": "tied" in kinds,
        "of a pruned weight it counts what the mask keeps": "pruned" in kinds,
    }
    of_bytes = {
        "it leaves out layers that did not run": any(
            row.call is None and row.own_params for row in ours.rows
        ),
        "it leaves out what a layer with others below it holds itself": any(
            row.children and row.own_params for row in theirs.rows
        ),
    }
    of_outputs = {
        "it leaves out what layers without parameters return": any(
            not row.params for row in leaves
        ),
        "of several tensors it counts one": any(
            row.params and _is_nested(row.output_shape) for row in leaves
        ),
    }
    fewer = theirs.input_bytes < ours.input_bytes
    of_input = {
        "it leaves out keyword arguments": fewer,
        "it takes whole storages, and Python's own bytes with them": not fewer,
    }
    yield "parameters", attrgetter("total_params"), of_parameters
    yield "trainable parameters", attrgetter("trainable_params"), of_parameters
    yield "bytes of parameters", attrgetter("param_bytes"), of_parameters | of_bytes
    yield "multiply-adds", _macs, _reasons_of_macs(theirs, ours)
    yield "bytes of the forward/backward pass", lambda one: 2 * one.output_bytes, of_outputs
    yield "bytes of input", attrgetter("input_bytes"), of_input


def _is_nested(shape: Shape) -> bool:
    return isinstance(shape, dict) or not all(isinstance(each, int) for each in shape or ())


def _macs(summary: Summary) -> int:
    flops = summary.least_flops if summary.total_flops is None else summary.total_flops
    return (flops or 0) // 2


def _reasons_of_macs(theirs: Summary, ours: Summary) -> dict[str, bool]:
    own, other = _macs_by_type(ours), _macs_by_type(theirs)
    types = sorted(own | other, key=lambda name: -abs(own[name] - other[name]))
    reasons = {
        "it leaves out the products of {}": [t for t in types if own[t] and not other[t]],
        "it counts a part of those of {}": [t for t in types if 0 < other[t] < own[t]],
        "it counts biases or padding in {}": [t for t in types if 0 < own[t] < other[t]],
        "it takes the weights of {} for products": [t for t in types if other[t] and not own[t]],
    }
    return {
        text.format(", ".join(found[:NAMED]) + (", …" if len(found) > NAMED else "")): bool(found)
        for text, found in reasons.items()
    }


def _macs_by_type(summary: Summary) -> Counter[str]:
    """Return the multiply-adds that the layers of each type make themselves."""
    sums = Counter[str]()
    above: list[str] = []
    for row in summary.rows:
        if row.call is None and not row.children:
            continue
        del above[row.depth :]
        macs = (row.flops or 0) // 2
        sums[row.type] += macs
        if above:
            sums[above[-1]] -= macs
        above += [row.type] * (row.depth + 1 - len(above))
    return sums
