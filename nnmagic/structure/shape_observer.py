"""Every call of a run as a row of a summary: its shapes, parameters and operations."""

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

from torch import Tensor, nn

from nnmagic.display.units import Shape, layer_name, layer_with_type
from nnmagic.display.units import shape as shape_text
from nnmagic.network.calls import CallObserver, RunningCall
from nnmagic.network.failures.earlier_calls import LOOKED_AT, EarlierCall
from nnmagic.network.failures.mismatch import first_line, mismatch
from nnmagic.network.layers import Layers, modules_of, opaque_kind
from nnmagic.network.naming import Naming
from nnmagic.network.nested_values import tensors_in, tensors_of_call
from nnmagic.network.places import calling_line, place_text
from nnmagic.network.unregistered import HeldPlace, trainable
from nnmagic.records.summary_rows import LayerShape
from nnmagic.records.weights import WeightForm
from nnmagic.structure.default_device import put_back, set_aside
from nnmagic.structure.flops import FlopCounter
from nnmagic.structure.parameter_counts import Counts
from nnmagic.tensors.metadata import bytes_of
from nnmagic.torch_private import MODULE_CALL, DeviceContext, DisableTorchFunction, parameters_of


class StrayLayer(NamedTuple):
    """What is known of a layer that its network does not hold, such as one made in a forward.

    Attributes:
        reference: the layer, weakly.
        config: what it was made with.
        below: as `Counts.below` says of it.
    """

    reference: weakref.ref[nn.Module]
    config: str
    below: tuple[int, int, int]


class LayerRun:
    """One call of a layer, filled in while it runs; a layer that never ran keeps the defaults.

    Attributes:
        network: the label of its network.
        layer: the layer's dotted name.
        type: the name of the layer's class.
        module: the layer; None of a stray one after the run.
        stray: what is then known of it.
        depth: how many other calls were in progress.
        default_device: the default device that is set aside for the call.
        first_flops: how many operations were counted before it.
        first_misses: how many operations were not counted before it.
    """

    input_shape: Shape = None
    output_shape: Shape = None
    output_bytes: int | None = None
    flops: int | None = None
    children = failed = False
    index = -1
    first_flops = first_misses = 0
    default_device: DeviceContext | None = None
    stray: StrayLayer | None = None

    def __init__(self, network: str, layer: str, module: nn.Module, depth: int) -> None:
        self.network = network
        self.layer = layer
        self.type = type(module).__name__
        self.module: nn.Module | None = module
        self.depth = depth

    def row(self, call: int | None, counts: Counts) -> LayerShape:
        """Return the row of the call.

        Args:
            call: its number, None for a layer that never ran.
            counts: the parameters of its network.
        """
        module, stray = self.module, self.stray
        own_params, names, forms = 0, tuple[str, ...](), tuple[WeightForm, ...]()
        if stray is not None:
            config, below = stray.config, stray.below
        else:
            assert module is not None
            config, below = config_of(module), counts.below(module)
            own_params, names, forms = counts.own(module, self.layer)
        params, trainable_params, param_bytes = below
        return LayerShape(
            network=self.network,
            call=call,
            layer=self.layer,
            type=self.type,
            depth=self.depth,
            config=config,
            input_shape=self.input_shape,
            output_shape=self.output_shape,
            params=params,
            own_params=own_params,
            trainable_params=trainable_params,
            param_bytes=param_bytes,
            output_bytes=self.output_bytes,
            flops=self.flops,
            children=self.children,
            names=names,
            forms=forms,
            failed=self.failed,
        )


class ShapeObserver(CallObserver[LayerRun]):
    """Notes the shapes and the operations of every call.

    Args:
        naming: names networks and layers.
        counter: counts the operations.
        sets_aside: whether layers that have no use for a default device run without it.

    Attributes:
        runs: the calls in the order in which they began.
        unregistered: where the layers are that their networks do not know, and how many parameters
            they have, by the label of the network and their name there.
        error: the last exception that a layer raised.
        failure: which layer raised it, and why.
        blamed: the same as a recorded run notes it on the exception.
    """

    def __init__(self, naming: Naming, counter: FlopCounter, *, sets_aside: bool = False) -> None:
        super().__init__(naming)
        self.counter = counter
        self.sets_aside = sets_aside
        self.runs: list[LayerRun] = []
        self.unregistered: dict[tuple[str, str], tuple[HeldPlace | None, int]] = {}
        self.failure = self.blamed = ""
        self.error: BaseException | None = None

    def began(self, call: RunningCall[LayerRun]) -> LayerRun:
        """Begin the row of the call."""
        counter, module, args, kwargs = self.counter, call.module, call.args, call.kwargs
        run = LayerRun(call.network.label, call.layer, module, call.depth)
        run.index = len(self.runs)
        run.first_flops, run.first_misses = counter.total, counter.misses
        if call.stack is not self.running:  # a mode sees the operations of its own thread only
            counter.uncount(f"{type(module).__name__} in a thread")
        with DisableTorchFunction():  # modes make every look at a tensor ten times slower
            if len(args) == 1 and not kwargs and type(args[0]) is Tensor and not args[0].is_nested:
                run.input_shape = tuple(args[0].shape)
            else:
                run.input_shape, _ = tensors_of_call(args, kwargs)
        if self.sets_aside and call.stack is self.running:
            run.default_device = set_aside(module)
        self.runs.append(run)
        if call.layer in call.network.unregistered:
            place = call.network.unregistered[call.layer]
            size = sum(each.numel() for each in trainable(module))
            self.unregistered[call.network.label, call.layer] = place, size
        return run

    def ended(self, call: RunningCall[LayerRun], output: Any) -> None:
        """Complete the row of the call."""
        run = self._finished(call.record)
        with DisableTorchFunction():
            if type(output) is Tensor and not output.is_nested:
                run.output_shape = tuple(output.shape)
                run.output_bytes = output.numel() * output.element_size()
            else:
                run.output_shape, tensors = tensors_in(output)
                run.output_bytes = sum(map(bytes_of, tensors))
        if self.counter.misses == run.first_misses:
            run.flops = self.counter.total - run.first_flops

    def raised(self, call: RunningCall[LayerRun], error: BaseException) -> None:
        """Mark the row of the call as failed, innermost first."""
        run = self._finished(call.record)
        run.failed = True
        if error is not self.error:
            self.error = error
            unfit = mismatch(call, error, self.calls_so_far)
            place = place_text(*calling_line())
            called = f", called at {place}" if place else ""
            name = layer_name(run.network, call.layer)
            where = layer_with_type(name, type(call.module).__name__)
            self.failure = f"{where} {unfit or first_line(error)}{called}"
            got = shape_text(run.input_shape)
            why = unfit or (f"got {got}" if got else "")
            self.blamed = f"{where}{called}" + (f": {why}" if why else "")

    def calls_so_far(self) -> list[EarlierCall]:
        """Return the last calls that returned, the latest first."""
        return [
            EarlierCall(
                run.network,
                run.layer,
                run.type,
                run.depth,
                run.input_shape,
                run.output_shape,
            )
            for run in reversed(self.runs[-LOOKED_AT:])
            if run.output_bytes is not None
        ]

    def _finished(self, run: LayerRun) -> LayerRun:
        if run.default_device is not None:
            put_back(run.default_device)
        run.children = len(self.runs) > run.index + 1
        return run

    def let_go(self, counts_of: Callable[[str], Counts]) -> None:
        """Note what is to be told of stray layers, and hold them no longer.

        Args:
            counts_of: gives the parameters of a network, by its label.
        """
        strays: dict[int, StrayLayer] = {}
        for run in self.runs:
            module = run.module
            if module is None or counts_of(run.network).has(module):
                continue
            if id(module) not in strays:
                below = Counts(Layers(module)).below(module)
                strays[id(module)] = StrayLayer(weakref.ref(module), config_of(module), below)
            run.stray = strays[id(module)]
        for run in self.runs:  # no id is given anew before
            if run.stray is not None:
                run.module = None

    def rows(
        self,
        networks: Mapping[str, Counts],
        counts_of: Callable[[str], Counts],
        within: str = "",
    ) -> tuple[LayerShape, ...]:
        """Return the rows of the calls so far, then those of the layers that never ran.

        Args:
            networks: the parameters of the networks whose layers may not all have run, by label.
            counts_of: gives the parameters of a call's network, by its label.
            within: the name of the layer whose parameters they are, `""` where they are all.
        """
        rows = [run.row(call, counts_of(run.network)) for call, run in enumerate(self.runs)]
        for label, counts in networks.items():
            ran = {run.layer for run in self.runs if run.network == label}
            rows += _never_ran(label, ran, counts, within)
        return tuple(rows)


def hidden_note(modules: Collection[nn.Module], runs: Iterable[LayerRun]) -> tuple[str, ...]:
    """Return a line that names the layers whose calls are not seen, where there are any.

    They have a `__call__` of their own that does not come to `nn.Module`'s.
    """
    kinds = {kind for kind in set(map(type, modules)) if _has_own_call(kind)}
    if not kinds:
        return ()
    seen = {id(run.module) for run in runs}
    hidden = (each for each in modules if type(each) in kinds and id(each) not in seen)
    names = ", ".join(sorted({type(each).__name__ for each in hidden}))
    return (f"a __call__ of its own hides the calls of: {names}",) if names else ()


def _has_own_call(kind: Any) -> bool:
    """Tell whether a class has a `__call__` of the user's; torch's ParameterDict refuses calls."""
    return kind.__call__ is not MODULE_CALL and not kind.__call__.__module__.startswith("torch.")


def config_of(module: nn.Module) -> str:
    """Return what a layer was made with, e.g. `in_features=784, out_features=512, bias=True`."""
    try:
        return " ".join(module.extra_repr().split())
    except Exception:  # noqa: BLE001 - the user's code may raise, and then has nothing to say
        return ""


def _never_ran(label: str, ran: Set[str], counts: Counts, within: str) -> Iterator[LayerShape]:
    """Yield the rows of the layers of a network that did not run.

    Args:
        label: the network's label.
        ran: the names of the layers that did.
        counts: the parameters of the network, or of a layer of it.
        within: the name of that layer.
    """
    layers = counts.layers.items()
    for own_name, layer in _outside_opaque(counts.layers) if counts.opaque else layers:
        name = ".".join(filter(None, (within, own_name)))
        if name in ran:
            continue
        cannot_run = type(layer).forward is nn.Module.forward and "forward" not in vars(layer)
        if parameters_of(layer) or not (cannot_run or not name):
            yield LayerRun(label, name, layer, 1).row(None, counts)


def _outside_opaque(layers: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a network by name, without those inside an opaque one."""
    inside: set[int] = set()
    for name, module in layers.items():
        if id(module) not in inside:
            yield name, module
            if opaque_kind(module):
                inside.update(map(id, modules_of(module)))
