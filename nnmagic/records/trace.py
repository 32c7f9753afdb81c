"""The record of a run: its calls, and what they got and returned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from os import PathLike
from typing import Any

from nnmagic.display import units
from nnmagic.display.table import Table
from nnmagic.display.units import Shape
from nnmagic.records.call_log import FAILED, TraceLog
from nnmagic.records.comparison.alignment import Renaming
from nnmagic.records.comparison.comparison import Comparison, compare
from nnmagic.records.curves.history import History
from nnmagic.records.curves.plotting import figure_of
from nnmagic.records.failure import Failure
from nnmagic.records.finding import Finding, once_each
from nnmagic.records.findings.misleading import Findings
from nnmagic.records.findings.origins import Origins
from nnmagic.records.flow import Flow, Sources, sources_of
from nnmagic.records.held_tensor import HeldTensor
from nnmagic.records.live_fields import LIVE
from nnmagic.records.record import Record, data_frame, joint_norm
from nnmagic.records.tensor import STATISTICS, TensorColumns, TensorRecord
from nnmagic.records.trace_table import TraceTable

READER = "nnmagic.records.loading.file"
"""What reads the file of a trace; by its name, for it makes traces."""

GATHERER = "nnmagic.recording.gathering"
"""What sends a trace to another rank; by its name, for records know no torch."""

FRAME_COLUMNS = (
    *("network", "iteration", "step", "call", "layer", "type", "depth"),
    *("input_shape", "output_shape", "dtype", "device", *STATISTICS),
    *("failed", "recomputed", "sources"),
)

GRADIENT_COLUMNS = ("grad_norm", "grad_mean", "grad_std", "own_grad_norm")
"""What a frame has besides after `--grad`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall(TensorColumns):
    """One call of one layer; a layer that is used twice has two.

    The statistics, dtype and device are those of the first floating-point or complex tensor that
    it returned, else of the first tensor. Shapes are nested as the values were.

    Attributes:
        network: the name of the network.
        iteration: which of the iterations it belongs to, from 0: the root calls of one call
            expression in the user's code, with the network in one mode.
        step: the number of the network's root call that it belongs to, from 0.
        call: its number in the trace, in the order in which the calls began.
        layer: the dotted name in `named_modules()`, `""` for the network itself.
        type: the class name.
        depth: how many other calls were in progress.
        place: the file and line, or the source line, of the code that called it.
        rank: which process of a `torch.distributed` job made it; None outside a process group.
        failed: whether it ended by an exception, caught or not.
        failure: why, or None.
        recomputed: whether it ran again in a backward, as the layers of a checkpoint do.
        inputs: the tensors that it got, in the order of the nesting.
        sources: for each of those the number of the call that made it, the innermost one that
            returned it; None for a tensor that no recorded call made, such as the user's own.
        outputs: the tensors that it returned.
        gradients: the gradients of those in the last backward, None where there is none.
        parameter_gradients: those of its own parameters after the run, by name; None for one that
            got none.
    """

    network: str
    iteration: int
    step: int
    call: int
    layer: str
    type: str
    depth: int
    place: str
    rank: int | None = None
    input_shape: Shape = field(hash=False)
    output_shape: Shape = field(hash=False)
    failed: bool
    failure: Failure | None
    recomputed: bool
    inputs: tuple[TensorRecord, ...]
    sources: Sources
    outputs: tuple[TensorRecord, ...]
    gradients: tuple[TensorRecord | None, ...] = ()
    parameter_gradients: dict[str, TensorRecord | None] = field(default_factory=dict, hash=False)

    @property
    def main(self) -> TensorRecord | None:
        """The output that the statistics are of."""
        numeric = (output for output in self.outputs if output.is_numeric)
        return next(numeric, self.outputs[0] if self.outputs else None)

    @property
    def gradient(self) -> TensorRecord | None:
        """The gradient of the output that the statistics are of."""
        outputs = zip(self.outputs, self.gradients, strict=True)
        return next((gradient for output, gradient in outputs if output is self.main), None)

    @property
    def grad_norm(self) -> float | None:
        """The Euclidean norm of that gradient."""
        return None if self.gradient is None else self.gradient.norm

    @property
    def grad_mean(self) -> float | None:
        """The mean of that gradient."""
        return None if self.gradient is None else self.gradient.mean

    @property
    def grad_std(self) -> float | None:
        """The standard deviation (correction 1) of that gradient."""
        return None if self.gradient is None else self.gradient.std

    @property
    def own_grad_norm(self) -> float | None:
        """The Euclidean norm of the gradients of its own parameters."""
        own = self.parameter_gradients.values()
        return joint_norm(each.norm for each in own if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, weakref_slot=True)
class Trace(Record):
    """One real run: what every module call got and returned.

    Attributes:
        log: the columns of the run.
        output: the very object that the expression returned; not compared, not pickled.
        root: a weak reference to the network that ran, or to that with the most calls; not
            compared, not pickled.
        default: whether the network is nnmagic's own, whose output is read as class scores.
    """

    log: TraceLog
    output: Any = field(default=None, compare=False, repr=False, metadata=LIVE)
    root: Any = field(default=None, compare=False, repr=False, metadata=LIVE)
    default: bool = field(default=False, compare=False, repr=False)

    def brief(self) -> str:
        """Return a few words that name the record."""
        return f"<Trace of {self.log.title}: {units.plural(len(self.log), 'call')}>"

    def __len__(self) -> int:
        """Return the number of calls that are kept."""
        return len(self.log)

    def __iter__(self) -> Iterator[LayerCall]:
        """Yield the calls in the order in which they began."""
        with self.log.lock:
            calls = list(self._calls(range(len(self.log))))
        return iter(calls)

    def _calls(self, calls: Sequence[int]) -> Iterator[LayerCall]:
        sources = Flow(self.log, range(len(self.log))).sources
        return (self._call(call, sources[call]) for call in calls)

    def __getitem__(self, name: str) -> LayerCall:
        """Return the last call of a layer.

        Args:
            name: the layer's dotted name, `"network:layer"` where several networks have it.

        Raises:
            KeyError: if no layer of that name ran, or if several networks have one.
        """
        with self.log.lock:
            return self.call_at(self._calls_named(name)[-1])

    def calls(self, name: str) -> tuple[LayerCall, ...]:
        """Return all calls of a layer, named as for `trace[name]`; recomputations are none."""
        with self.log.lock:
            return tuple(self._calls(self._calls_named(name)))

    def _calls_named(self, name: str) -> list[int]:
        log = self.log
        keys = [(log.networks[layer.network], layer.name) for layer in log.layers]
        found = {index: key for index, key in enumerate(keys) if key[1] == name}
        if not found:
            found = {index: key for index, key in enumerate(keys) if ":".join(key) == name}
        if not found:
            raise KeyError(f"no layer named {name!r} ran; there are {_listed(keys)}")
        if len(set(found.values())) > 1:
            raise KeyError(f"several networks have {name!r}: {_listed(found.values())}")
        calls = [call for call in range(len(log)) if log.layer[call] in found]
        return [call for call in calls if call not in log.recomputed] or calls

    def call(self, number: int) -> LayerCall:
        """Return the call of this number.

        Raises:
            KeyError: if there is none, or if it was left out of a long run.
        """
        with self.log.lock:
            place = self.log.place_of_number(number)
            if place is None:
                raise KeyError(f"no call {number} is in the trace")
            return self.call_at(place)

    def call_at(self, place: int, sources: Sources | None = None) -> LayerCall:
        """Return the call at a place in the columns.

        Args:
            place: the place.
            sources: its sources; None has them found, which takes as long as the run is.
        """
        return self._call(place, sources_of(self.log, place) if sources is None else sources)

    def _call(self, call: int, sources: Sources) -> LayerCall:
        log = self.log
        layer = log.layer_of(call)
        return LayerCall(
            network=log.networks[layer.network],
            iteration=log.iteration_of(call),
            step=log.step[call],
            call=log.number_of(call),
            layer=layer.name,
            type=layer.type,
            depth=log.depth[call],
            place=log.places[log.place[call]],
            rank=log.rank,
            input_shape=log.shapes[log.input_shape[call]],
            output_shape=log.shapes[log.output_shape[call]],
            failed=log.ended[call] == FAILED,
            failure=log.failures.get(call),
            recomputed=call in log.recomputed,
            inputs=tuple(map(log.tensors.record, log.inputs[call])),
            sources=tuple(None if each is None else log.number_of(each) for each in sources),
            outputs=tuple(map(log.tensors.record, log.outputs[call])),
            gradients=tuple(self._record(log.gradients.get(each)) for each in log.outputs[call]),
            parameter_gradients={
                name: self._record(gradient)
                for name, gradient in log.parameter_gradients.get(log.layer[call], {}).items()
            },
        )

    def _record(self, tensor: int | None) -> TensorRecord | None:
        return None if tensor is None else self.log.tensors.record(tensor)

    def compare(
        self, other: "Trace | str | PathLike[str]", rename: Renaming | None = None
    ) -> Comparison:
        """Return this run and another one side by side: how far they differ, and where they part.

        They are compared by the values that were kept of them.

        Args:
            other: the other run, or the path of the file that it was saved to.
            rename: what the other side calls this side's layers, where it has other names:
                patterns in which `*` stands for any text, such as `{"blocks.*": "h.*"}`.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is no file of a trace, or if a pattern on the right has more `*` than
                the one on the left.
        """
        load: Any = import_module(READER).load_trace
        run: Trace = other if isinstance(other, Trace) else load(other)
        return compare(self.log, run.log, rename)

    def gather(self, group: Any = None, dst: int = 0, timeout: float = 60.0) -> "Trace | None":
        """Return the traces of all ranks of a `torch.distributed` job as one, None but on one rank.

        Each rank calls it after the run, as many times as the others. The trace that comes back
        has a column `rank`, and says which ranks agree and where they part, as one of
        `nnmagic.load` of several files does. It takes no collective, and nothing waits for longer
        than the timeout.

        Args:
            group: the process group; None is that of all ranks.
            dst: the rank in the job that gets the trace.
            timeout: seconds.

        Raises:
            RuntimeError: outside a process group, or within a forward.
            TimeoutError: if a rank does not answer in time; the text names it.
            ValueError: if `dst` is not in the group, or the timeout is not positive.
        """
        collect: Any = import_module(GATHERER).gather
        joint: Trace | None = collect(self, group, dst, timeout)
        return joint

    def of_default_network(self) -> "Trace":
        """Return the same trace, its output to be read as class scores."""
        return replace(self, default=True)

    @property
    def rank(self) -> int | None:
        """Which process of a `torch.distributed` job this is of; None outside a process group."""
        return self.log.rank

    @property
    def world_size(self) -> int | None:
        """How many processes that job has."""
        return self.log.world_size

    @property
    def held_before(self) -> list[HeldTensor]:
        """Its parameters and buffers when each network was called first."""
        return self.log.held_before

    @property
    def held(self) -> list[HeldTensor]:
        """The parameters, buffers and reduced gradients of that process at the end of the run."""
        return self.log.held

    @property
    def failed(self) -> LayerCall | None:
        """The innermost call that raised an exception which nobody caught, or None."""
        return None if self.log.raised is None else self.call_at(self.log.raised)

    @property
    def first_nonfinite(self) -> LayerCall | None:
        """The first call to return NaN from inputs without NaN, or Inf from finite inputs.

        An Inf that a later call swallows, as a softmax does that of a mask, is none.
        """
        with self.log.lock:
            call = Origins(self.log).first
            return None if call is None else self.call_at(call)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What raised nothing but is wrong, or worth knowing; of each layer's the first.

        First what is exact, then what has a bound, then what follows from others, then notes.
        """
        parents = self.log.parents_of(range(len(self.log)))
        return tuple(once_each(Findings(self.log, parents).found))

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row a call, in the order in which they began.

        With `--grad` grad_norm, grad_mean and grad_std are of the gradient of what the layer
        returned, as in `history()`; own_grad_norm is the norm of the gradients of its parameters,
        which the tables call *gradient norm*.
        """
        columns: tuple[str, ...] = () if self.log.rank is None else ("rank",)
        columns += FRAME_COLUMNS + (GRADIENT_COLUMNS if self.log.graded else ())
        return data_frame(list(self), columns)

    def history(self, *, series: bool = False) -> Any:
        """Return a tidy DataFrame: network, iteration, step, layer, quantity and value.

        Of what a layer returned: min, max, mean, std, zeros, nan and inf; with `--grad` also
        grad_norm, grad_mean and grad_std, and of each parameter `weight.norm` (before the
        optimizer's step), `weight.grad_norm` (as the step got it; without a step as the last
        backward left it) and `weight.update_ratio` (the norm of the change over that before; None
        where that is 0). `loss`, at the layer `""`: what `backward()` was called on, unscaled.

        Args:
            series: whether a seventh column names what the iterations are counted of, to tell
                training from validation: `net (train)`, `net (eval)`.
        """
        with self.log.lock:
            return History(self.log).frame(series=series)

    def plot(self, *quantities: str, layers: str | Sequence[str] = ()) -> Any:
        """Return a matplotlib figure of the history: the loss, and each layer's curves.

        Args:
            *quantities: what to draw, each on axes of its own, such as `"loss"`, `"std"` or
                `"*.update_ratio"`; none draws what says most.
            layers: a pattern (`fnmatch`) of the layers, or several; none draws all.

        Raises:
            ImportError: if matplotlib is missing; it comes with `nnmagic[plot]`.
            ValueError: if nothing that was recorded matches.
        """
        with self.log.lock:
            patterns = (layers,) if isinstance(layers, str) else layers
            return figure_of(self.log, quantities, patterns)

    def table(self) -> Table:
        """Return the table of the shown iteration."""
        with self.log.lock:
            return TraceTable(self.log, self.view, scores=self.default).table()


def _listed(keys: Any) -> str:
    names = [f"{network}:{layer}" for network, layer in dict.fromkeys(keys)]
    shown = ", ".join(names[:8])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 8 else shown
