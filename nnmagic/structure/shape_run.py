"""The run for shapes: a network's structure, found on the meta device."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import nn

from nnmagic.contexts import block
from nnmagic.network.calls import observed
from nnmagic.network.layers import Layers, device_of, opaque_note, set_training
from nnmagic.network.naming import Naming
from nnmagic.network.nested_values import tensors_of_call
from nnmagic.records.summary import Summary
from nnmagic.records.weights import named
from nnmagic.structure.flops import FlopCounter
from nnmagic.structure.meta import FakeTensors, networks_on_meta, on_meta, takes_fake_tensors
from nnmagic.structure.meta_cache import META_CACHE, MetaMode
from nnmagic.structure.meta_values import known_values
from nnmagic.structure.parameter_counts import Counts
from nnmagic.structure.plan_request import PlanRequest
from nnmagic.structure.shape_observer import ShapeObserver, hidden_note
from nnmagic.structure.unregistered_layers import unregistered_lines
from nnmagic.tensors.metadata import bytes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaRequest:
    """A call whose structure is asked for, not yet made.

    Attributes:
        network: the network.
        args: the positional arguments, real or meta.
        kwargs: the keyword arguments.
        naming: names the network.
        title: what the summary is of.
        method: what to call, a method of the network; None is the network itself.
        own_input: whether nnmagic made the arguments, so that the run is in eval mode.
        optimizer: the name of an optimizer, to work out the memory of a training step with it: in
            train mode on an input of nnmagic's own, else in the network's own modes.
        plan: how the network is to be cut over ranks, to work out that memory of each rank instead.
        notes: lines to show below the table.
    """

    network: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    naming: Naming
    title: str
    method: Callable[..., Any] | None = None
    own_input: bool = False
    optimizer: str = ""
    plan: PlanRequest | None = None
    notes: tuple[str, ...] = ()

    @property
    def function(self) -> Callable[..., Any]:
        """What is called."""
        return self.method or self.network

    @property
    def place(self) -> tuple[str, str]:
        """The label of the network of the rows, and the name that what is called has in it."""
        home = self.naming.network_of(self.network)
        if home is None:
            return type(self.network).__name__, ""
        return home.label, home.name_of(self.network, None, "")


def casts(device: torch.device) -> bool:
    """Tell whether operations on a device are cast by autocast now."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


class ShapeRun:
    """One run of a request, on meta tensors or on fake ones.

    Args:
        request: the call.
        layers: the layers of its network.
        counts: its parameters.
        fakes: makes the tensors; None leaves them on the meta device.
        by_rule: whether results on meta are given by rule and from memory where they can be.
    """

    def __init__(
        self,
        request: MetaRequest,
        layers: Layers,
        counts: Counts,
        fakes: FakeTensors | None,
        *,
        by_rule: bool,
    ) -> None:
        self.request = request
        self.layers = layers
        self.counts = counts
        self.fakes = fakes
        self.counter = FlopCounter()
        self.mode = MetaMode(META_CACHE, self.counter.count) if by_rule else self.counter
        self.observer = ShapeObserver(request.naming, self.counter, sets_aside=by_rule)
        self.remarks: list[str] = []
        self.late_remarks: list[str] = []

    def make(self) -> None:
        """Make the call."""
        __tracebackhide__ = True
        request, network, fakes = self.request, self.request.network, self.fakes
        if fakes is None and casts(device_of(network)) and not takes_fake_tensors(network):
            self.remarks.append("autocast is ignored for recurrent, quantised and lazy layers")
        with (
            _unfused(without_graph=request.own_input),
            networks_on_meta(network, fakes, self.layers) as self.late_remarks,
        ):
            if request.own_input:  # put back with everything else when the network leaves meta
                set_training(network, training=False)
            try:
                self._call()
            finally:  # what the forward made has no parameters when it has left meta
                self.observer.let_go(lambda _: self.counts)
            if self.counts.lazy:
                self.remarks.append("lazy parameters are counted as this input would make them")
                self.counts = Counts(Layers(network))

    def _call(self) -> None:
        """Call the network on meta; its tensors end with this frame."""
        __tracebackhide__ = True
        arguments = self.request.args, dict(self.request.kwargs)
        empty = on_meta(arguments, self.fakes)
        # what is known of values comes first: the rules know no values
        known = known_values(
            self.layers.modules, arguments, empty, all_small=self.fakes is not None
        )
        with self.mode, known, observed(self.observer):
            self.request.function(*empty[0], **empty[1])

    def summary(self, failure: str = "") -> Summary:
        """Return the structure of what has run."""
        request, counts, counter = self.request, self.counts, self.counter
        label, within = request.place
        total, trainable, param_bytes = counts.below(request.network)
        return Summary(
            title=request.title,
            rows=self.observer.rows({label: counts}, lambda _: counts, within),
            total_params=total,
            trainable_params=trainable,
            param_bytes=param_bytes,
            buffer_bytes=counts.buffer_bytes,
            input_bytes=sum(map(bytes_of, tensors_of_call(request.args, dict(request.kwargs))[1])),
            total_flops=None if counter.uncounted else counter.total,
            least_flops=counter.total,
            uncounted=tuple(counter.uncounted.items()),
            forms=named(counts.forms, type(request.network).__name__),
            failure=failure,
            notes=(
                *request.notes,
                *self.remarks,
                *map(opaque_note, counts.opaque),
                *hidden_note(counts.layers.values(), self.observer.runs),
                *unregistered_lines(self.observer),
                *dict.fromkeys(self.late_remarks),
            ),
        )


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
def _unfused(*, without_graph: bool) -> Iterator[None]:
    """Let a run see every operation: none fused, none whole as in inference mode."""
    has_graph = torch.is_grad_enabled() and not without_graph
    # to leave inference mode enables gradients
    with FASTPATH_OFF, torch.inference_mode(False), torch.set_grad_enabled(has_graph):
        yield
