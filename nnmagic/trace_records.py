"""The record of a run: its calls, what they returned, and the table that shows them."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp, isfinite
from typing import Any

from nnmagic import units
from nnmagic.records import (
    MOST_ROWS,
    Record,
    Sample,
    TensorRecord,
    data_frame,
    filtered,
    leading_rows,
)
from nnmagic.tables import Column, Row, Table, bounded, parents_of
from nnmagic.trace_log import FAILED, FINISHED, Failure, TraceLog
from nnmagic.units import Shape

FOLDED_FROM = 6
"""From how many calls of one layer within one parent on they are folded into one row."""

BEST_CLASSES = 5
ITEMS_SHOWN = 3

SCORE_LAYERS = {"Linear", "LazyLinear", "Softmax", "LogSoftmax"}

COLUMNS = (
    Column(title="type", rank=2, meaning="the class of the layer"),
    Column(title="shape", meaning="the shape of what it returned, the batch first"),
    Column(
        title="mean ± std",
        right=True,
        rank=1,
        meaning="over the finite values; std with correction 1, as torch.std",
    ),
    Column(
        title="min … max", right=True, rank=3, meaning="the least and the greatest finite value"
    ),
    Column(
        title="histogram",
        rank=5,
        meaning="ten bins from min to max, of a sample where the tensor is large; | is zero",
    ),
    Column(title="zeros", right=True, rank=4, meaning="the share of values that are exactly 0"),
    Column(title="flags", meaning="what deserves a look"),
)

FRAME_COLUMNS = (
    "network step call layer type depth input_shape output_shape dtype device "
    "min max mean std zeros nan inf failed"
).split()

HISTORY_QUANTITIES = ("mean", "std", "min", "max", "zeros", "nan", "inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """One call of one layer; a layer that is used twice has two.

    The statistics, dtype and device are those of the first floating-point or complex tensor that
    it returned, else of the first tensor. Shapes are nested as the values were.

    Attributes:
        network: the name of the network.
        step: which outermost call of the network it belongs to, from 0.
        call: its number in the trace, in the order in which the calls began.
        layer: the dotted name in `named_modules()`, `""` for the network itself.
        type: the class name.
        depth: how many other calls were in progress.
        failed: whether it ended by an exception, caught or not.
        failure: why, or None.
        inputs: the tensors that it got, in the order of the nesting.
        outputs: the tensors that it returned.
    """

    network: str
    step: int
    call: int
    layer: str
    type: str
    depth: int
    input_shape: Shape = field(hash=False)
    output_shape: Shape = field(hash=False)
    failed: bool
    failure: Failure | None
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]

    @property
    def main(self) -> TensorRecord | None:
        """The output that the statistics are of."""
        numeric = (output for output in self.outputs if output.is_numeric)
        return next(numeric, self.outputs[0] if self.outputs else None)

    def _of_main(self, name: str) -> Any:
        return None if self.main is None else getattr(self.main, name)

    @property
    def dtype(self) -> str | None:
        """The dtype of the output."""
        return self._of_main("dtype")

    @property
    def device(self) -> str | None:
        """The device of the output."""
        return self._of_main("device")

    @property
    def min(self) -> float | None:
        """The least finite value of the output."""
        return self._of_main("min")

    @property
    def max(self) -> float | None:
        """The greatest finite value of the output."""
        return self._of_main("max")

    @property
    def mean(self) -> float | None:
        """The mean of the finite values of the output."""
        return self._of_main("mean")

    @property
    def std(self) -> float | None:
        """The standard deviation (correction 1) of the finite values of the output."""
        return self._of_main("std")

    @property
    def zeros(self) -> float | None:
        """The fraction of the output's values that are exactly zero, in 0..1."""
        return self._of_main("zeros")

    @property
    def nan(self) -> int | None:
        """How many values of the output are NaN."""
        return self._of_main("nan")

    @property
    def inf(self) -> int | None:
        """How many values of the output are infinite."""
        return self._of_main("inf")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, weakref_slot=True)
class Trace(Record):
    """One real run: what every module call got and returned.

    Attributes:
        log: the columns of the run.
        output: the very object that the expression returned; not compared, not pickled.
        root: a weak reference to the first network that ran; not compared, not pickled.
        default: whether the network is nnmagic's own, whose output is read as class scores.
    """

    log: TraceLog
    output: Any = field(default=None, compare=False, repr=False)
    root: Callable[[], Any] | None = field(default=None, compare=False, repr=False)
    default: bool = field(default=False, compare=False, repr=False)

    def __reduce__(self) -> Any:
        return partial(Trace, log=self.log, view=self.view, default=self.default), ()

    def brief(self) -> str:
        """Return a few words that name the record."""
        return f"<Trace of {self.log.title}: {units.plural(len(self.log), 'call')}>"

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self.log)

    def __iter__(self) -> Iterator[LayerCall]:
        """Yield the calls in the order in which they began."""
        return map(self._call, range(len(self.log)))

    def __getitem__(self, name: str) -> LayerCall:
        """Return the last call of a layer.

        Args:
            name: the layer's dotted name, `"network:layer"` where several networks have it.

        Raises:
            KeyError: if no layer of that name ran, or if several networks have one.
        """
        return self._call(self._calls_named(name)[-1])

    def calls(self, name: str) -> tuple[LayerCall, ...]:
        """Return all calls of a layer, named as for `trace[name]`."""
        return tuple(map(self._call, self._calls_named(name)))

    def _calls_named(self, name: str) -> list[int]:
        log = self.log
        keys = {
            index: (log.networks[layer.network], layer.name)
            for index, layer in enumerate(log.layers)
        }
        found = {index: key for index, key in keys.items() if key[1] == name}
        if not found:
            found = {i: key for i, key in keys.items() if f"{key[0]}:{key[1]}" == name}
        if not found:
            raise KeyError(f"no layer named {name!r} ran; there are {_listed(keys.values())}")
        if len(set(found.values())) > 1:
            raise KeyError(f"several networks have {name!r}: {_listed(found.values())}")
        return [call for call, layer in enumerate(log.layer) if layer in found]

    def _call(self, call: int) -> LayerCall:
        log = self.log
        layer = log.layer_of(call)
        return LayerCall(
            network=log.networks[layer.network],
            step=log.step[call],
            call=call,
            layer=layer.name,
            type=layer.type,
            depth=log.depth[call],
            input_shape=log.shapes[log.input_shape[call]],
            output_shape=log.shapes[log.output_shape[call]],
            failed=log.ended[call] == FAILED,
            failure=log.failures.get(call),
            inputs=tuple(map(log.tensor, log.inputs[call])),
            outputs=tuple(map(log.tensor, log.outputs[call])),
        )

    def of_default_network(self) -> "Trace":
        """Return the same trace, its output to be read as class scores."""
        return replace(self, default=True)

    @property
    def failed(self) -> LayerCall | None:
        """The innermost call that raised an exception which nobody caught, or None."""
        return None if self.log.raised is None else self._call(self.log.raised)

    @property
    def first_nonfinite(self) -> LayerCall | None:
        """The first call to return NaN from inputs without NaN, or Inf from finite inputs."""
        log = self.log
        for call in log.returned(range(len(log))):
            if log.makes_nonfinite(call):
                return self._call(call)
        return None

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row a call, in the order in which they began."""
        return data_frame(list(self), FRAME_COLUMNS)

    def history(self) -> Any:
        """Return a tidy DataFrame of every call: network, step, layer, quantity, value."""
        rows = [
            _Quantity(call.network, call.step, call.layer, quantity, getattr(call, quantity))
            for call in self
            for quantity in HISTORY_QUANTITIES
        ]
        return data_frame(rows, list(_Quantity.__slots__))

    def table(self, depth: int | None) -> Table:
        """Return the table of the shown step, of at most `depth` levels of nesting."""
        return _TraceTable(self, depth).table()


@dataclass(frozen=True, slots=True)
class _Quantity:
    network: str
    step: int
    layer: str
    quantity: str
    value: float | None


def _listed(keys: Any) -> str:
    names = [f"{network}:{layer}" for network, layer in dict.fromkeys(keys)]
    shown = ", ".join(names[:8])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 8 else shown


class _TraceTable:
    """Makes the table of one trace."""

    def __init__(self, trace: Trace, depth: int | None) -> None:
        self.trace = trace
        self.log = trace.log
        self.view = trace.view
        self.depth = depth
        self.notes: list[str] = []
        self.calls, self.steps_text = self._shown_calls()
        self.parents = [
            None if parent is None else self.calls[parent]
            for parent in parents_of([self.log.depth[call] for call in self.calls])
        ]
        self.parent = dict(zip(self.calls, self.parents, strict=True))
        self.last_child = {p: call for call, p in self.parent.items() if p is not None}
        self.makers = {call for call in self.calls if self.log.makes_nonfinite(call)}
        self.above_maker = set[int]()
        for call in self.makers:
            step = self.parent[call]
            while step is not None and step not in self.above_maker:
                self.above_maker.add(step)
                step = self.parent[step]
        self.usual = self._usual_form()

    def _shown_calls(self) -> tuple[list[int], str]:
        log = self.log
        roots: dict[int, list[int]] = {}
        for call, depth in enumerate(log.depth):
            if depth == 0:
                roots.setdefault(log.layer_of(call).network, []).append(log.step[call])
        shown, texts = {}, []
        for network, steps in roots.items():
            wanted = self.view.step
            if wanted is not None and wanted not in steps:
                self.notes.append(
                    f"{log.networks[network]} has no step {wanted}: steps {_ranges(steps)} were "
                    f"recorded, the last is shown"
                )
                wanted = None
            shown[network] = steps[-1] if wanted is None else wanted
            if len(steps) > 1:
                texts.append(
                    f"step {shown[network]} of {log.networks[network]}, "
                    f"{units.plural(len(steps), 'step')} recorded"
                )
        if len(texts) > 3:
            texts = [f"the last step of {units.plural(len(roots), 'network')}"]
        calls, inside = [], False
        for call, depth in enumerate(log.depth):
            if depth == 0:
                inside = log.step[call] == shown[log.layer_of(call).network]
            if inside:
                calls.append(call)
        return calls, " · ".join(texts)

    def _usual_form(self) -> tuple[str, str]:
        forms = Counter[tuple[str, str]]()
        for call in self.calls:
            tensor = self.log.main_output(call)
            if tensor is not None:
                form = self.log.form_of(tensor)
                forms[form.dtype, form.device] += 1
        return forms.most_common(1)[0][0] if forms else ("", "")

    def table(self) -> Table:
        chosen, levels, repeated = self._chosen()
        rows = [
            self._folded_row(chosen[i], levels[i], repeated[i])
            if i in repeated
            else self._row(chosen[i], levels[i])
            for i in range(len(chosen))
        ]
        names = [self.log.layer_of(call).name for call in chosen]
        shown = filtered(rows, names, self.view, lambda i: self._flagged(chosen[i]))
        if self.view.layers and not any(self.view.matches(name) for name in names):
            self.notes.append(f"no layer matches {' '.join(self.view.layers)}")
        return Table(
            heading=self._heading(),
            label=Column(title="layer", meaning="in the order in which the calls began"),
            columns=COLUMNS,
            rows=shown,
            notes=(*self._verdicts(), *self._scores(), *self.notes, *self.log.notes),
            show_details=self.view.values is not None,
        )

    def _chosen(self) -> tuple[list[int], list[int], dict[int, int]]:
        """Return the calls to draw, the level of each, and how many calls a folding row stands for.

        A folding row comes before the calls folded into it and has the number of the last one.
        """
        order, levels, repeated = self._ordered()
        deeper = 0
        if self.depth is not None:
            needed = {i for i, call in enumerate(order) if self._flagged(call)}
            parents = parents_of(levels)
            for i in sorted(needed):
                step = parents[i]
                while step is not None and step not in needed:
                    needed.add(step)
                    step = parents[step]
            kept = [
                i for i, level in enumerate(levels) if level <= self.depth or i in needed
            ]
            deeper = len(order) - len(kept)
            order, levels, repeated = _selected(order, levels, repeated, kept)
            if deeper:
                self.notes.append(
                    f"{units.plural(deeper, 'call')} below level {self.depth} not shown; "
                    f"see them with --depth {max(self.log.depth)}"
                )
        flagged = (i for i, call in enumerate(order) if self._flagged(call))
        kept = bounded(levels, flagged, MOST_ROWS)
        if len(kept) < len(order):
            self.notes.append(
                f"{len(order) - len(kept):,} of {len(order):,} rows not shown; narrow the display "
                f"with --layers or --depth, or see every call with to_frame()"
            )
            order, levels, repeated = _selected(order, levels, repeated, kept)
        return order, levels, repeated

    def _ordered(self) -> tuple[list[int], list[int], dict[int, int]]:
        """Return the calls with those of a layer that is called often gathered below one row."""
        log = self.log
        counts = Counter((self.parent[call], log.layer[call]) for call in self.calls)
        often = {
            key for key, count in counts.items() if count >= FOLDED_FROM and key[0] is not None
        }
        if not often:
            return self.calls, [log.depth[call] for call in self.calls], {}
        children: dict[int | None, list[int]] = {}
        for call in self.calls:
            children.setdefault(self.parent[call], []).append(call)
        order: list[int] = []
        levels: list[int] = []
        repeated: dict[int, int] = {}
        pending = [(call, 0, False) for call in reversed(children.get(None, []))]
        gathered: set[tuple[int | None, int]] = set()
        while pending:
            call, level, below_fold = pending.pop()
            key = (self.parent[call], log.layer[call])
            if key in often and not below_fold:
                if key not in gathered:
                    gathered.add(key)
                    same = [c for c in children[key[0]] if log.layer[c] == key[1]]
                    repeated[len(order)] = len(same)
                    order.append(same[-1])
                    levels.append(level)
                    pending += [(c, level + 1, True) for c in reversed(same)]
                continue
            order.append(call)
            levels.append(level)
            pending += [(c, level + 1, False) for c in reversed(children.get(call, []))]
        return order, levels, repeated

    def _flagged(self, call: int) -> bool:
        return (
            call in self.makers
            or self.log.ended[call] == FAILED
            or self._all_zeros(call)
        )

    def _all_zeros(self, call: int) -> bool:
        tensor = self.log.main_output(call)
        return tensor is not None and self.log.statistics_of(tensor).zeros == 1

    def _label(self, call: int) -> str:
        layer, parent = self.log.layer_of(call), self.parent[call]
        if parent is None:
            network = self.log.networks[layer.network]
            return units.printable(f"{network}.{layer.name}" if layer.name else network)
        above = self.log.layer_of(parent).name
        if not above:
            return units.printable(layer.name)
        return units.printable(layer.name.removeprefix(f"{above}."))

    def _folded_row(self, call: int, level: int, times: int) -> Row:
        row = self._row(call, level)
        return replace(
            row,
            label=f"{row.label} × {times}",
            cells=(*row.cells[:-1], f"the last of {units.plural(times, 'call')}"),
            opened=False,
        )

    def _row(self, call: int, level: int) -> Row:
        log = self.log
        label = self._label(call)
        type_name = units.printable(log.layer_of(call).type)
        row = Row(
            label=label,
            level=level,
            cells=("" if type_name == label else type_name,),
            opened=level < self.view.open_depth,
        )
        if log.ended[call] != FINISHED:
            return replace(row, message=self._unfinished(call), strong=call == log.raised)
        index = log.main_output(call)
        shape = units.shape(log.shapes[log.output_shape[call]])
        if index is None:
            return replace(row, cells=(*row.cells, "no tensor"))
        tensor = log.tensor(index)
        usual_dtype, usual_device = self.usual
        shape += f" {tensor.dtype}" if tensor.dtype != usual_dtype else ""
        shape += f" {tensor.device}" if tensor.device != usual_device else ""
        return replace(
            row,
            cells=(
                *row.cells,
                shape,
                tensor.mean_and_std,
                tensor.min_and_max,
                tensor.histogram,
                units.percent(tensor.zeros),
                self._flags(call, tensor),
            ),
            details=self._details(call, tensor),
            dimmed=self._inherits(call),
            strong=call in self.makers,
        )

    def _unfinished(self, call: int) -> str:
        failure = self.log.failures.get(call)
        if failure is None:
            return "running"
        if self.log.raised is None:
            return f"FAILED, caught: {failure.type}"
        if call == self.log.raised:
            return f"FAILED {failure.mismatch or failure.type}"
        return "FAILED inside" if call < self.log.raised else f"FAILED, caught: {failure.type}"

    def _inherits(self, call: int) -> bool:
        nan, inf = self.log.nonfinite(self.log.outputs[call])
        spoiled = bool(nan or inf)
        return spoiled and call not in self.makers and call not in self.above_maker

    def _flags(self, call: int, tensor: TensorRecord) -> str:
        nan, inf = self.log.nonfinite(self.log.outputs[call])
        words = [f"{number:,} {name}" for number, name in ((nan, "NaN"), (inf, "Inf")) if number]
        if words:
            if call in self.above_maker:
                words.append("made inside")
            else:
                words.append("made here" if call in self.makers else "inherited")
        if tensor.zeros == 1:
            words.append("all zeros")
        if tensor.unknown:
            words.append(f"no values: {tensor.unknown}")
        return ", ".join(words)

    def _details(self, call: int, tensor: TensorRecord) -> tuple[str, ...]:
        log = self.log
        child = self.last_child.get(call)
        if child is not None and log.outputs[child] == log.outputs[call]:
            return ()
        if not self.view.values_shown:
            return ()
        got = units.shape(log.shapes[log.input_shape[call]])
        lines = [f"{got or 'no tensor'} → {tensor.caption}"]
        if tensor.leading is not None and tensor.numel:
            lines += leading_rows(tensor.values, tensor.shape, self.view.values_shown)
            kept = tensor.leading.shape[0] if tensor.shape else 1
            wanted = min(self.view.values_shown, tensor.shape[0] if tensor.shape else 1)
            if kept < wanted:
                lines.append(f"{kept} of {tensor.shape[0]} rows are kept; --keep all keeps all")
        return tuple(lines)

    def _heading(self) -> str:
        log = self.log
        title = units.printable(log.title)
        if log.raised is not None:
            layer = log.layer_of(log.raised)
            network = log.networks[layer.network]
            finished = units.plural(sum(end == FINISHED for end in log.ended), "call")
            where = units.printable(layer.name or network)
            return f"{title} failed in {where} · {finished} finished"
        if not len(log):
            return f"{title} · no layer ran"
        parts = [title, *(part for part in self.usual if part)]
        if self.steps_text:
            parts.append(self.steps_text)
        parts.append(units.plural(len(self.calls), "call"))
        if len(self.calls) < len(log):
            parts[-1] += f" of {len(log):,}"
        if self.makers:
            parts.append("NaN or Inf arose")
        return " · ".join(parts)

    def _verdicts(self) -> list[str]:
        notes = []
        first = next((c for c in self.log.returned(range(len(self.log))) if c in self.makers), None)
        if first is not None:
            notes.append(f"first {self._origin(first)}")
        raised = self.log.raised
        if raised is not None:
            failure, layer = self.log.failures[raised], self.log.layer_of(raised)
            where = units.printable(layer.name or self.log.networks[layer.network])
            got = units.shape(self.log.shapes[self.log.input_shape[raised]]) or "no tensor"
            text = f"{where} ({units.printable(layer.type)}) {failure.mismatch or f'got {got}'}"
            notes.append(f"{text}, called at {failure.place}" if failure.place else text)
            notes.append(f"{failure.type}: {units.printable(failure.message)}")
        return notes

    def _origin(self, call: int) -> str:
        log = self.log
        layer = log.layer_of(call)
        nan, _ = log.nonfinite(log.outputs[call])
        where = units.printable(layer.name or log.networks[layer.network])
        text = f"{'NaN' if nan else 'Inf'}: {where} ({units.printable(layer.type)})"
        known = [log.tensor(tensor) for tensor in log.inputs[call]]
        ranges = [(each.min, each.max) for each in known if each.min is not None]
        if not ranges:
            return text
        low = min(low for low, _ in ranges)
        high = max(high for _, high in ranges if high is not None)
        least, greatest = units.numbers(low, high)
        return f"{text}, its inputs within {least} … {greatest}"

    def _scores(self) -> list[str]:
        log = self.log
        notes = []
        roots = [call for call in self.calls if self.parent[call] is None]
        for root in roots:
            tensor = log.main_output(root)
            if tensor is None or log.ended[root] != FINISHED:
                continue
            form, (leading, _) = log.form_of(tensor), log.samples[tensor]
            last_type = log.layer_of(self._last_leaf(root)).type
            likely = self.trace.default or self.view.classes or last_type in SCORE_LAYERS
            alone = len(roots) == 1 or root != self._last_leaf(root)
            floating = form.dtype.startswith(("float", "bfloat"))
            whole = leading is not None and leading.shape[1:] == form.shape[1:]
            if likely and alone and floating and whole and len(form.shape) == 2 and form.numel:
                notes += self._read_scores(root, leading, form.shape, last_type)
        return notes

    def _last_leaf(self, call: int) -> int:
        while call in self.last_child:
            call = self.last_child[call]
        return call

    def _read_scores(
        self, root: int, leading: Sample | None, shape: tuple[int, ...], last_type: str
    ) -> list[str]:
        assert leading is not None
        notes = []
        rows = leading.tolist()[:ITEMS_SHOWN]
        given = {"Softmax": "as they are", "LogSoftmax": "after exp"}.get(last_type, "after softmax")
        for item, row in enumerate(rows):
            if not all(map(isfinite, row)):
                continue
            chances = _probabilities(row, last_type)
            best = sorted(range(len(row)), key=lambda i: -chances[i])[:BEST_CLASSES]
            ranking = ", ".join(f"{self._class_name(i)} {100 * chances[i]:.1f} %" for i in best)
            which = f"item {item}: " if shape[0] > 1 else ""
            more = f" of {shape[1]} classes" if shape[1] > len(best) else ""
            notes.append(f"read as class scores, {given}: {which}{ranking}{more}")
        if len(self.view.classes) not in (0, shape[1]):
            notes.append(f"{len(self.view.classes)} class names for {shape[1]} scores")
        if shape[0] > len(rows) and notes:
            notes.append(f"{len(rows)} of {shape[0]} items shown")
        return notes

    def _class_name(self, index: int) -> str:
        names = self.view.classes
        return units.printable(names[index]) if index < len(names) else f"class {index}"


def _selected(
    order: Sequence[int], levels: Sequence[int], repeated: dict[int, int], kept: Sequence[int]
) -> tuple[list[int], list[int], dict[int, int]]:
    return (
        [order[i] for i in kept],
        [levels[i] for i in kept],
        {new: repeated[old] for new, old in enumerate(kept) if old in repeated},
    )


def _ranges(steps: Sequence[int]) -> str:
    if len(steps) <= 5:
        return ", ".join(map(str, steps))
    return f"{steps[0]}, {steps[1]}, … {steps[-1]}"


def _probabilities(row: Sequence[float], last_type: str) -> list[float]:
    if last_type == "Softmax":
        return list(row)
    top = 0.0 if last_type == "LogSoftmax" else max(row)
    weights = [exp(score - top) for score in row]
    total = 1.0 if last_type == "LogSoftmax" else sum(weights)
    return [weight / total for weight in weights]


def weak_reference(network: Any) -> Callable[[], Any] | None:
    """Return a weak reference to a network, or None where there is none."""
    return None if network is None else weakref.ref(network)
