"""The shape-only run: a network's structure, found on the meta device."""

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from nnmagic.contexts import block, without_garbage_collection
from nnmagic.display.units import Shape, layer_name
from nnmagic.network.calls import CallObserver, RunningCall, observed
from nnmagic.network.failures import annotate, first_line, mismatch
from nnmagic.network.layers import Layers, device_of, opaque_kind, opaque_note
from nnmagic.network.naming import Naming
from nnmagic.network.nested_values import tensors_in, tensors_of_call
from nnmagic.network.places import calling_line, place_text
from nnmagic.records.summary import Summary
from nnmagic.records.summary_rows import LayerShapes
from nnmagic.records.weights import named
from nnmagic.structure.default_device import put_back, set_aside
from nnmagic.structure.flops import FlopCounter
from nnmagic.structure.meta import Fakes, ValuesNeededError, networks_on_meta, on_meta, takes_fakes
from nnmagic.structure.meta_cache import meta_kernels
from nnmagic.structure.meta_values import known_values
from nnmagic.structure.parameter_counts import Counts
from nnmagic.structure.training_memory import training_step
from nnmagic.tensors.metadata import bytes_of


class Seen:
    """What is noted of a call while it runs.

    Attributes:
        network: the label of its network.
        layer: the layer's dotted name.
        module: the layer.
        depth: how many other calls were in progress.
        index: its number among the calls.
        total: the operations that were counted when it began.
        misses: how many were not.
    """

    input_shape: Shape = None
    output_shape: Shape = None
    output_bytes: int | None = None
    flops: int | None = None
    children = failed = False
    device: Any = None
    """The default device, where it is set aside for the call."""

    def __init__(
        self,
        network: str,
        layer: str,
        module: nn.Module,
        depth: int,
        index: int = -1,
        total: int = 0,
        misses: int = 0,
    ) -> None:
        self.network = network
        self.layer = layer
        self.module = module
        self.depth = depth
        self.index = index
        self.total = total
        self.misses = misses


class ShapeObserver(CallObserver[Seen]):
    """Notes for every call its shapes and its operations.

    Args:
        naming: names networks and layers.
        counter: counts the operations.
        sets_aside: whether layers that have no use for a default device run without it.
    """

    def __init__(self, naming: Naming, counter: FlopCounter, *, sets_aside: bool = False) -> None:
        super().__init__(naming)
        self.counter = counter
        self.sets_aside = sets_aside
        self.seen: list[Seen] = []
        self.failure = ""
        self.error: BaseException | None = None

    def began(self, call: RunningCall[Seen]) -> Seen:
        """Begin the row of the call."""
        counter, module, args, kwargs = self.counter, call.module, call.args, call.kwargs
        seen = Seen(
            call.network.label,
            call.layer,
            module,
            call.depth,
            len(self.seen),
            counter.total,
            counter.misses,
        )
        if call.stack is not self.running:  # a mode sees the operations of its own thread only
            counter.uncount(f"{type(module).__name__} in a thread")
        with torch._C.DisableTorchFunction():  # modes make every look at a tensor ten times slower
            if len(args) == 1 and not kwargs and type(args[0]) is Tensor and not args[0].is_nested:
                seen.input_shape = tuple(args[0].shape)
            else:
                seen.input_shape, _ = tensors_of_call(args, kwargs)
        if self.sets_aside and call.stack is self.running:
            seen.device = set_aside(module)
        self.seen.append(seen)
        return seen

    def ended(self, call: RunningCall[Seen], output: Any) -> None:
        """Complete the row of the call."""
        seen = call.record
        if seen.device is not None:
            put_back(seen.device)
        with torch._C.DisableTorchFunction():
            if type(output) is Tensor and not output.is_nested:
                seen.output_shape = tuple(output.shape)
                seen.output_bytes = output.numel() * output.element_size()
            else:
                seen.output_shape, tensors = tensors_in(output)
                seen.output_bytes = sum(map(bytes_of, tensors))
            if self.counter.misses == seen.misses:
                seen.flops = self.counter.total - seen.total
        seen.children = len(self.seen) > seen.index + 1

    def raised(self, call: RunningCall[Seen], error: BaseException) -> None:
        """Mark the row of the call as failed, innermost first."""
        seen = call.record
        if seen.device is not None:
            put_back(seen.device)
        if error is not self.error:
            self.error = error
            why = mismatch(call.module, call.args, call.kwargs, error) or first_line(error)
            place = place_text(*calling_line())
            where = f"{layer_name(seen.network, call.layer)} ({type(call.module).__name__})"
            self.failure = f"{where} {why}" + (f", called at {place}" if place else "")
        seen.failed = True
        seen.children = len(self.seen) > seen.index + 1

    def rows(
        self, networks: Mapping[str, Counts], counts_of: Callable[[str], Counts]
    ) -> LayerShapes:
        """Return the rows of the calls so far, then those of the layers that never ran.

        Args:
            networks: the parameters of the networks whose layers may not all have run.
            counts_of: gives those of the network of a call, by its label.
        """
        rows = [row_of(seen, call, counts_of(seen.network)) for call, seen in enumerate(self.seen)]
        for label, each in networks.items():
            rows += never_ran(label, {s.layer for s in self.seen if s.network == label}, each)
        return LayerShapes(rows)


def row_of(seen: Seen, call: int | None, counts: Counts) -> tuple[Any, ...]:
    """Return the values of the row of a call, or of a layer without one.

    Rows are made in their order.
    """
    module, layer = seen.module, seen.layer
    params, trainable_params, param_bytes = counts.below(module)
    own_params, names, forms = counts.own(module, layer)
    return (
        seen.network,
        call,
        layer,
        type(module).__name__,
        seen.depth,
        config_of(module),
        seen.input_shape,
        seen.output_shape,
        params,
        own_params,
        trainable_params,
        param_bytes,
        seen.output_bytes,
        seen.flops,
        seen.children,
        names,
        forms,
        seen.failed,
    )


def config_of(module: nn.Module) -> str:
    """Return what a layer was made with, as it tells it itself."""
    try:
        return " ".join(module.extra_repr().split())
    except Exception:  # noqa: BLE001 - the user's code may raise, and then has nothing to say
        return ""


@without_garbage_collection
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
    by_rule: bool = True,
    optimizer: str = "",
    by_name: bool = False,
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
        by_rule: whether results on meta are given by rule where they can be; torch's kernels give
            the same, slower.
        optimizer: the name of an optimizer, to tell the memory of a training step with it: in train
            mode on an input of nnmagic's own, else in the network's own modes.
        by_name: whether tensors are on the network's own device by name, which is slower, and lets
            the network read what it makes of plain numbers; a run on meta that would read values
            is tried again so.

    Raises:
        ValuesNeededError: if the network reads values while it runs.
        Exception: whatever the forward raises, with a note that names the layer.
    """
    __tracebackhide__ = True
    again = partial(
        describe,
        module,
        args,
        kwargs,
        naming=naming,
        title=title,
        call=call,
        own_input=own_input,
        notes=notes,
        optimizer=optimizer,
    )
    layers = Layers(module)
    counts = Counts(layers)
    counter = FlopCounter(meta_kernels(len(flop_registry)).kernel_of if by_rule else None)
    observer = ShapeObserver(naming, counter, sets_aside=by_rule)

    def summary(failure: str = "") -> Summary:
        network = naming.network_of(module)
        label = network.label if network is not None else type(module).__name__
        total, trainable, param_bytes = counts.below(module)
        return Summary(
            title=title,
            rows=observer.rows({label: counts}, lambda _: counts),
            total_params=total,
            trainable_params=trainable,
            param_bytes=param_bytes,
            buffer_bytes=counts.buffer_bytes,
            input_bytes=sum(map(bytes_of, tensors_of_call(args, kwargs)[1])),
            total_flops=None if counter.uncounted else counter.total,
            least_flops=counter.total,
            uncounted=tuple(counter.uncounted.items()),
            forms=named(counts.forms, type(module).__name__),
            failure=failure,
            notes=(
                *notes,
                *remarks,
                *map(opaque_note, counts.opaque),
                *dict.fromkeys(failed_hooks),
            ),
        )

    fakes, remarks = _fakes_for(module, counts.scripted, by_name=by_name)
    failed_hooks: list[str] = []
    try:
        with _mode(own_input=own_input), networks_on_meta(module, fakes, layers) as failed_hooks:
            if own_input:
                module.eval()  # put back with everything else when the network leaves meta
            given = on_meta((args, kwargs), fakes)
            meta_args, meta_kwargs = given
            # what is known of values comes first: the counter's kernels know forms only
            known = known_values(layers.modules, (args, kwargs), given, all_small=fakes is not None)
            with counter, known, observed(observer):
                (call or module)(*meta_args, **meta_kwargs)
            if counts.lazy:
                remarks += ("lazy parameters are counted as this input would make them",)
                counts = Counts(Layers(module))
    except ValuesNeededError as error:
        if fakes is None and takes_fakes(module):
            with suppress(Exception):  # whatever it is, the first error tells more
                return again(by_rule=by_rule, by_name=True)
        where = observer.failure or "the network"
        why = "it reads values while it runs, and a run for shapes has none"
        if "device" in str(error):
            why = f"a run for shapes cannot follow it ({error})"
        raise ValuesNeededError(f"{where}: {why}") from error.__cause__
    except BaseException as error:
        if observer.failure:
            annotate(error, f"raised on the meta device in {observer.failure}")
            failed(summary(observer.failure))
        raise
    if not optimizer:
        return summary()
    step = training_step(
        module, args, kwargs, call=call or module, optimizer=optimizer, train=own_input
    )
    return replace(summary(), training=step)


def _fakes_for(
    module: nn.Module, scripted: bool, *, by_name: bool
) -> tuple[Fakes | None, tuple[str, ...]]:
    """Return what makes the tensors of a run that meta tensors would not do for.

    Autocast passes over them, and a script holds its own weights where they are not replaced.
    """
    device = device_of(module)
    if by_name:
        return Fakes(device), ()
    if device.type == "meta":
        return None, ()
    cast = torch.is_autocast_enabled(device.type)
    if cast and not takes_fakes(module):
        return None, ("autocast is not followed with recurrent, quantised or lazy layers",)
    return Fakes(device) if cast or scripted else None, ()


class _FastpathOff:
    """Keeps torch off its fused attention, which packs sequences by a mask's values.

    That is a setting of the whole process: the first of several runs in threads sets it, and the
    last one puts it back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs = 0
        self._enabled = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._runs:
                self._enabled = torch.backends.mha.get_fastpath_enabled()
                torch.backends.mha.set_fastpath_enabled(False)
            self._runs += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._runs -= 1
            if not self._runs:
                torch.backends.mha.set_fastpath_enabled(self._enabled)


FASTPATH_OFF = _FastpathOff()


@block
def _mode(*, own_input: bool) -> Iterator[None]:
    """Let a run see every operation: none fused, none whole as in inference mode."""
    without_graph = own_input or torch.is_inference_mode_enabled()
    graph = torch.no_grad() if without_graph else nullcontext()
    with FASTPATH_OFF, torch.inference_mode(False), graph:
        yield


def never_ran(label: str, ran: Set[str], counts: Counts) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the layers of a network that did not run, by their names."""
    layers = counts.layers.items()
    for name, layer in _outside_opaque(counts.layers) if counts.opaque else layers:
        if name in ran:
            continue
        never_called = not name or isinstance(layer, nn.ModuleList | nn.ModuleDict)
        if not never_called or layer._parameters:
            yield row_of(Seen(label, name, layer, 1), None, counts)


def _outside_opaque(layers: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a network by name, without those inside an opaque one."""
    inside: set[int] = set()
    for name, module in layers.items():
        if id(module) not in inside:
            yield name, module
            if opaque_kind(module):
                inside.update(map(id, module.modules()))
