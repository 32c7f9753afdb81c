"""The real run: the structure of whatever layers run while it lasts, with the user's own values."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

from torch import nn

from nnmagic.network.calls import RunningCall, in_backward, observed
from nnmagic.network.failures.mismatch import annotate, first_line, mismatch_outside
from nnmagic.network.fingerprint import NetworkChanges
from nnmagic.network.layers import (
    Layers,
    modules_of,
    named_buffers,
    named_parameters,
    opaque_kind,
    opaque_note,
)
from nnmagic.network.naming import Naming, Network
from nnmagic.network.nested_values import tensors_of_call
from nnmagic.records.summary import Summary
from nnmagic.records.weights import named
from nnmagic.structure.flops import FlopCounter
from nnmagic.structure.parameter_counts import Counts
from nnmagic.structure.shape_observer import LayerRun, ShapeObserver, hidden_note
from nnmagic.structure.unregistered_layers import unregistered_lines
from nnmagic.tensors.metadata import bytes_of, is_lazy, storage_bytes
from nnmagic.torch_private import is_compiled


class RealRunObserver(ShapeObserver):
    """Notes the calls of a real run, whose networks are known only once they are called.

    What a checkpoint computes again during a backward is no call of its own.

    Attributes:
        roots: the networks by their labels.
        changes: what the run changes on them.
        input_bytes: the bytes of the tensors that the outermost calls got.
    """

    def __init__(self, naming: Naming, counter: FlopCounter) -> None:
        super().__init__(naming, counter)
        self.roots: dict[str, nn.Module] = {}
        self.changes = NetworkChanges()
        self.input_bytes = 0

    def enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RunningCall[LayerRun] | None:
        """Note that a call begins, unless a backward makes it."""
        return None if in_backward() else super().enter(module, args, kwargs)

    def expect(self, network: Network | None) -> None:
        """Take note of a network before its first call."""
        root = None if network is None else network.module()
        if network is not None and root is not None and network.label not in self.roots:
            self.roots[network.label] = root
            self.changes.note(network)

    def began(self, call: RunningCall[LayerRun]) -> LayerRun:
        """Begin the row of the call."""
        seen = super().began(call)
        self.expect(call.network)
        if call.depth == 0 and call.stack is self.running:
            self.input_bytes += sum(map(bytes_of, tensors_of_call(call.args, call.kwargs)[1]))
        return seen

    def counted(self) -> dict[str, Any]:
        """Return the rows and the totals of the parameters as they are now."""
        shown: dict[int, str] = {}
        roots = self.roots
        counts = {label: Counts(Layers(root), shown) for label, root in roots.items()}
        self.let_go(counts.__getitem__)
        rows = self.rows(counts, counts.__getitem__)
        parameters = {
            id(parameter): parameter
            for root in roots.values()
            for parameter in named_parameters(root).values()
            if not is_lazy(parameter)
        }.values()
        forms = (named(counts[label].forms, type(root).__name__) for label, root in roots.items())
        return {
            "rows": rows,
            "total_params": sum(p.numel() for p in parameters),
            "trainable_params": sum(p.numel() for p in parameters if p.requires_grad),
            "param_bytes": storage_bytes(parameters),
            "buffer_bytes": storage_bytes(
                (b for root in roots.values() for b in named_buffers(root).values()),
                besides=parameters,
            ),
            "forms": tuple(chain.from_iterable(forms)),
        }

    def summary(
        self,
        title: str,
        counted: dict[str, Any],
        notes: tuple[str, ...],
        failure: str = "",
        *,
        put_back: bool,
    ) -> Summary:
        """Return the summary of what ran, whether everything is put back or not."""
        counter = self.counter
        unregistered = unregistered_lines(self)
        changes = self._lazy() or ([] if put_back else self.changes.lines())
        return Summary(
            title=title,
            input_bytes=self.input_bytes,
            total_flops=None if counter.uncounted else counter.total,
            least_flops=counter.total,
            uncounted=tuple(counter.uncounted.items()),
            failure=failure,
            notes=(*notes, *self._outside(), *self._unseen(), *unregistered, *changes),
            engine="real run",
            **counted,
        )

    def _outside(self) -> list[str]:
        inside = [run.flops for run in self.runs if run.depth == 0]
        if None in inside:
            return []
        flops = self.counter.total - sum(each or 0 for each in inside)
        return [f"outside the layers: {flops:,} FLOPs (a backward, or functions)"] if flops else []

    def _unseen(self) -> list[str]:
        called = [run.module for run in self.runs if run.module is not None]
        lines = []
        names = {type(module).__name__ for module in called}
        if "OptimizedModule" in names or any(map(is_compiled, called)):
            lines.append("compiled networks run eagerly in a real run, to show their layers")
        kinds = dict.fromkeys(map(opaque_kind, called))
        lines += [opaque_note(kind) for kind in kinds if kind]
        layers = [layer for root in self.roots.values() for layer in modules_of(root)]
        return [*lines, *hidden_note(layers, self.runs)]

    def _lazy(self) -> list[str]:
        lazy = any(
            is_lazy(p) for root in self.roots.values() for p in named_parameters(root).values()
        )
        return ["lazy parameters are counted as this input would make them"] if lazy else []


def describe_run(
    run: Callable[[], Any],
    *,
    naming: Naming,
    title: str,
    within: AbstractContextManager[None] | None = None,
    notes: tuple[str, ...] = (),
    failed: Callable[[Summary], None] = lambda summary: None,
    network: nn.Module | None = None,
) -> tuple[Summary, Any]:
    """Run something for real, once, and return the structure of the layers that ran in it.

    Nothing of how it runs is changed, the fused paths of attention and recurrent layers included:
    their operations are counted by formulas of their own.

    Args:
        run: what to run.
        naming: names networks and layers.
        title: what the summary is of.
        within: what to run in, which puts everything back; the summary has it as the run made it.
        notes: lines to show below the table.
        failed: gets the summary of what ran before an exception goes on.
        network: the network that the run is of, where it is of one: its layers are rows even if
            none runs.

    Returns:
        The summary, which has no rows where no layer ran, and what the run returned.

    Raises:
        BaseException: whatever the run raises, with a note that names the layer.
    """
    __tracebackhide__ = True
    counter, put_back = FlopCounter(), within is not None
    observer = RealRunObserver(naming, counter)
    if network is not None:
        observer.expect(naming.network_of(network))
    try:
        with within or nullcontext():
            with counter, observed(observer):
                value = run()
            counted = observer.counted()
    except BaseException as error:
        in_layer = error is observer.error
        if in_layer:
            annotate(error, f"raised in {observer.blamed}")
        elif where := mismatch_outside(error, naming.networks, observer.calls_so_far):
            annotate(error, f"raised outside the layers, {where}")
        if observer.runs:
            why = observer.failure if in_layer else first_line(error) or type(error).__name__
            partial = observer.summary(title, observer.counted(), notes, why, put_back=put_back)
            failed(partial)
        raise
    return observer.summary(title, counted, notes, put_back=put_back), value
