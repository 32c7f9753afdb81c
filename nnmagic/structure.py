"""The shape-only run: a network's structure, found on the meta device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from nnmagic.calls import CallObserver, RunningCall, observed
from nnmagic.failures import annotate, calling_line, first_line, mismatch, place_text
from nnmagic.flops import FlopCounter
from nnmagic.inputs import takes_no_input, work_out_input
from nnmagic.meta import ValuesNeededError, networks_on_meta, on_meta
from nnmagic.naming import Naming
from nnmagic.summary_records import LayerShape, Summary
from nnmagic.tensors import bytes_of, is_lazy, storage_bytes, tensors_in, tensors_of_call
from nnmagic.units import layer_name


class ShapeObserver(CallObserver):
    """Notes for every call its shapes, its operations and its parameters."""

    def __init__(self, naming: Naming, counter: FlopCounter, counts: "Counts") -> None:
        super().__init__(naming)
        self.counter = counter
        self.counts = counts
        self.rows: list[LayerShape] = []
        self.failure = ""
        self.error: BaseException | None = None

    def began(self, call: RunningCall, args: tuple, kwargs: dict[str, Any]) -> None:
        """Begin the row of the call."""
        shape, _ = tensors_of_call(args, kwargs)
        counter = self.counter
        call.notes = len(self.rows), counter.total, counter.uncounted.total(), args, kwargs
        assert call.network is not None
        row = _row(call.network.label, call.layer, call.module, call.depth, self.counts)
        self.rows.append(replace(row, call=len(self.rows), input_shape=shape))

    def ended(self, call: RunningCall, output: Any) -> None:
        """Complete the row of the call."""
        index, total, uncounted, _, _ = call.notes
        shape, tensors = tensors_in(output)
        known = self.counter.uncounted.total() == uncounted
        self.rows[index] = replace(
            self.rows[index],
            output_shape=shape,
            output_bytes=sum(map(bytes_of, tensors)),
            flops=self.counter.total - total if known else None,
            children=self._calls_others(index),
        )

    def raised(self, call: RunningCall, error: BaseException) -> None:
        """Mark the row of the call as failed, innermost first."""
        index, _, _, args, kwargs = call.notes
        if error is not self.error:
            self.error = error
            why = mismatch(call.module, args, kwargs, error) or first_line(error)
            place = place_text(*calling_line())
            where = (
                f"{layer_name(self.rows[index].network, call.layer)} ({type(call.module).__name__})"
            )
            self.failure = f"{where} {why}" + (f", called at {place}" if place else "")
        children = self._calls_others(index)
        self.rows[index] = replace(self.rows[index], failed=True, children=children)

    def _calls_others(self, index: int) -> bool:
        return index + 1 < len(self.rows)


class Counts:
    """A network's parameters: how many each layer has, each counted in one row as its own.

    They are taken before the network is on meta, where a shared storage is no longer to be seen.
    """

    def __init__(self, network: nn.Module) -> None:
        self._below: dict[int, tuple[int, int, int]] = {}
        self._own: dict[int, list[tuple[str, int, int]]] = {}
        self._shown: set[int] = set()
        for module in network.modules():
            self._take(module)

    def _take(self, module: nn.Module) -> None:
        parameters = [p for p in module.parameters() if not is_lazy(p)]
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        total = sum(p.numel() for p in parameters)
        self._below[id(module)] = total, trainable, storage_bytes(parameters)
        self._own[id(module)] = [
            (name, id(p), p.numel())
            for name, p in module._parameters.items()
            if p is not None and not is_lazy(p)
        ]

    def below(self, module: nn.Module) -> tuple[int, int, int]:
        """Return the parameters of a module and all below it: all, trainable, their bytes."""
        if id(module) not in self._below:  # a layer that the forward makes
            self._take(module)
        return self._below[id(module)]

    def own(self, module: nn.Module) -> dict[str, int]:
        """Return the sizes of the module's own parameters that no row has shown yet."""
        sizes = {}
        for name, identity, numel in self._own[id(module)]:
            if identity not in self._shown:
                self._shown.add(identity)
                sizes[name] = numel
        return sizes


def _row(network: str, layer: str, module: nn.Module, depth: int, counts: Counts) -> LayerShape:
    params, trainable, param_bytes = counts.below(module)
    own = counts.own(module)
    return LayerShape(
        network=network,
        call=None,
        layer=layer,
        type=type(module).__name__,
        depth=depth,
        config=_config(module),
        input_shape=None,
        output_shape=None,
        params=params,
        own_params=sum(own.values()),
        trainable_params=trainable,
        param_bytes=param_bytes,
        output_bytes=None,
        flops=None,
        names=tuple(own),
    )


def _config(module: nn.Module) -> str:
    try:
        return " ".join(module.extra_repr().split())
    except Exception:  # noqa: BLE001 - the user's code may raise, and then has nothing to say
        return ""


def describe(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    naming: Naming,
    title: str,
    call: Callable[..., Any] | None = None,
    own_input: bool = False,
    notes: tuple[str, ...] = (),
    failed: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Make a call on the meta device and return the structure of what ran.

    Args:
        module: the network.
        args: the positional arguments, real or meta.
        kwargs: the keyword arguments.
        naming: names the network.
        title: what the summary is of.
        call: what to call, a method of the module; default: the module.
        own_input: whether nnmagic made the arguments, so that the run is in eval mode.
        notes: lines to show below the table.
        failed: gets the summary of what ran before an exception goes on.

    Raises:
        ValuesNeededError: if the network reads values while it runs.
        Exception: whatever the forward raises, with a note that names the layer.
    """
    __tracebackhide__ = True
    counts = Counts(module)
    counter = FlopCounter()
    observer = ShapeObserver(naming, counter, counts)

    def summary() -> Summary:
        rows = (*observer.rows, *_never_ran(module, observer, naming, counts))
        total, trainable, param_bytes = counts.below(module)
        return Summary(
            title=title,
            rows=rows,
            total_params=total,
            trainable_params=trainable,
            param_bytes=param_bytes,
            buffer_bytes=storage_bytes(module.buffers()),
            input_bytes=sum(map(bytes_of, tensors_of_call(args, kwargs)[1])),
            total_flops=None if counter.uncounted else counter.total,
            uncounted=tuple(counter.uncounted.items()),
            failure=observer.failure,
            notes=(*notes, *dict.fromkeys(failed_hooks)),
        )

    failed_hooks: list[str] = []
    try:
        with networks_on_meta(module) as failed_hooks, _mode(module, own_input=own_input):
            meta_args, meta_kwargs = on_meta((args, kwargs))
            with counter, observed(observer):
                (call or module)(*meta_args, **meta_kwargs)
    except ValuesNeededError as error:
        where = observer.failure or "the network"
        why = "it reads values while it runs, and a run for shapes has none"
        if "device" in str(error):
            why = f"a run for shapes cannot follow it ({error})"
        raise ValuesNeededError(f"{where}: {why}") from error.__cause__
    except BaseException as error:
        if observer.failure:
            annotate(error, f"raised on the meta device in {observer.failure}")
            failed(summary())
        raise
    return summary()


@contextmanager
def _mode(module: nn.Module, *, own_input: bool) -> Iterator[None]:
    without_graph = own_input or torch.is_inference_mode_enabled()
    # in inference mode operations arrive whole, and what they are made of would not be counted
    with torch.inference_mode(False), torch.no_grad() if without_graph else nullcontext():
        if own_input:
            module.eval()  # put back with everything else when the network leaves meta
        yield


def _never_ran(
    module: nn.Module, observer: ShapeObserver, naming: Naming, counts: Counts
) -> list[LayerShape]:
    ran = {row.layer for row in observer.rows}
    network = naming.network_of(module)
    label = network.label if network is not None else type(module).__name__
    rows = []
    for name, layer in module.named_modules():
        never_called = layer is module or isinstance(layer, nn.ModuleList | nn.ModuleDict)
        if name in ran or (never_called and not layer._parameters):
            continue
        rows.append(_row(label, name, layer, 1, counts))
    return rows


def summary(module: nn.Module, /, *args: Any, **kwargs: Any) -> Summary:
    """Return the structure of a call of a module, without running it.

    All arguments go to the module; tensors may be on the meta device. Without any, the input is
    worked out, and the structure is that in eval mode.

    Raises:
        InputError: if no argument is given and no input can be worked out.
        ValuesNeededError: if the network reads values while it runs.
        Exception: whatever the forward raises, with a note that names the layer.
    """
    __tracebackhide__ = True
    name = type(module).__name__
    naming = Naming(lambda: [(name, module)])
    if args or kwargs or takes_no_input(module):
        return describe(module, args, kwargs, naming=naming, title=name)
    given = work_out_input(module, torch.device("meta"))
    return describe(
        module,
        given.args,
        dict(given.kwargs),
        naming=naming,
        title=f"{name} on {given.text}",
        own_input=True,
        notes=(f"input: {given.text}, since {given.reason}",),
    )
