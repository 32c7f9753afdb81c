"""The table of a run: one step of it, what failed and what is flagged always in it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import exp, isfinite
from typing import NamedTuple

from nnmagic import units
from nnmagic.records import MOST_ROWS, Sample, TensorRecord, View, filtered, leading_rows, left_out
from nnmagic.tables import Column, Pair, Row, Table, bounded, parents_of
from nnmagic.trace_log import FAILED, FINISHED, STOPPED, TraceLog

FOLDED_FROM = 6
"""From how many calls of one layer within one parent on they are folded into one row."""

BEST_CLASSES = 5
ITEMS_SHOWN = 3
LEAST_CHANCE = 0.0005

SCORE_LAYERS = {"Linear", "LazyLinear", "Softmax", "LogSoftmax"}

COLUMNS = (
    Column(title="type", rank=2, meaning="the class of the layer"),
    Column(title="shape", least=22, meaning="the shape of what it returned, the batch first"),
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


GRADIENT_COLUMNS = (
    Column(
        title="gradient",
        right=True,
        rank=1,
        meaning="of what the layer returned, in the last backward: mean ± std",
    ),
    Column(
        title="own gradient",
        right=True,
        rank=1,
        meaning="the Euclidean norm of the gradients of its own parameters, after the run",
    ),
)


class Line(NamedTuple):
    """A call to draw.

    Attributes:
        call: its number.
        level: how deep it stands in the tree.
        folded: whether it stands below a line that stands for many calls.
        times: how many calls the line stands for, the last of which it shows; 0 for one call.
    """

    call: int
    level: int
    folded: bool = False
    times: int = 0


class ItemScores(NamedTuple):
    """One item of an output that is read as class scores.

    Attributes:
        item: its number in the batch.
        items: how many there are.
        classes: how many classes there are.
        how: how the scores became probabilities.
        best: the likeliest classes, each with its probability.
    """

    item: int
    items: int
    classes: int
    how: str
    best: tuple[tuple[str, float], ...]


class TraceTable:
    """Makes the table of one step of a run.

    Args:
        log: the columns of the run.
        view: the display options.
        text: whether the medium is text, in which nothing can be unfolded.
        scores: whether the output is known to be class scores.

    Attributes:
        calls: the calls of the shown step.
        steps: the steps that were recorded of the network with the most of them.
    """

    def __init__(self, log: TraceLog, view: View, *, text: bool, scores: bool) -> None:
        self.log = log
        self.view = view
        self.as_scores = scores
        self.depth = view.depth_in(text=text)
        self.text = text
        self.notes: list[str] = []
        self.calls, self.steps_text = self._shown_calls()
        self.parent = {
            call: None if p < 0 else p for call in self.calls for p in [log.parent[call]]
        }
        self.last_child = {p: call for call, p in self.parent.items() if p is not None}
        self.spoiled = log.holds_nonfinite()
        self.makers = {
            call
            for call in (self.calls if self.spoiled else ())
            if self.log.makes_nonfinite(call) and not self.log.spoiled(self.log.inputs[call])
        }
        self.failing = self._around_the_failure()
        self.above_maker = set[int]()
        for call in self.makers:
            step = self.parent[call]
            while step is not None and step not in self.above_maker:
                self.above_maker.add(step)
                step = self.parent[step]
        self.usual = self._usual_form()

    def _shown_calls(self) -> tuple[list[int], str]:
        log = self.log
        roots: dict[int, dict[int, None]] = {}
        for call, depth in enumerate(log.depth):
            if depth == 0 and not log.is_function(call):
                roots.setdefault(log.layer_of(call).network, {})[log.step[call]] = None
        shown, texts = {}, []
        self.steps = max(map(list, roots.values()), key=len, default=[])
        for network, steps in ((network, list(steps)) for network, steps in roots.items()):
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
        last = max(shown.values(), default=0)  # the functions outside belong to the step before
        calls = [
            call
            for call, step in enumerate(log.step)
            if step == shown.get(log.layer_of(call).network, last)
        ]
        return list(log.nested(calls)), " · ".join(texts)

    def _usual_form(self) -> tuple[str, str]:
        forms = Counter[tuple[str, str]]()
        for call in self.calls:
            tensor = self.log.main_output(call)
            if tensor is not None:
                form = self.log.form_of(tensor)
                forms[form.dtype, form.device] += 1
        return forms.most_common(1)[0][0] if forms else ("", "")

    def table(self) -> Table:
        """Return the table."""
        lines = self._chosen()
        rows = [self._row(line) for line in lines]
        names = [self.log.layer_of(line.call).name for line in lines]
        shown = filtered(rows, names, self.view, lambda i: self.is_flagged(lines[i].call))
        if self.view.layers and not any(self.view.matches(name) for name in names):
            self.notes.append(f"no layer matches {' '.join(self.view.layers)}")
        return Table(
            heading=self.heading(),
            label=Column(title="layer", meaning="in the order in which the calls began"),
            columns=(*COLUMNS[:3], *(GRADIENT_COLUMNS if self.log.graded else ()), *COLUMNS[3:]),
            rows=shown,
            notes=self.all_notes(self.scores()),
            show_details=self.view.values is not None,
        )

    def all_notes(self, scores: Sequence[ItemScores]) -> tuple[str, ...]:
        """Return the lines below the table."""
        return (*self._verdicts(), *self.score_notes(scores), *self.notes, *self.log.notes)

    def _chosen(self) -> list[Line]:
        """Return the calls to draw: the flagged ones always, the rest as deep as was asked for."""
        lines = self.ordered()
        parents = parents_of([line.level for line in lines])
        needed = set[int]()
        for i, line in enumerate(lines):
            step: int | None = i if self.is_flagged(line.call) else None
            while step is not None and step not in needed:
                needed.add(step)
                step = parents[step]
        deepest = max((line.level for line in lines), default=0)
        limit = deepest if self.depth is None else self.depth
        shown = [
            line
            for i, line in enumerate(lines)
            if i in needed or (line.level <= limit and not (self.text and line.folded))
        ]
        hidden = sum(line.level > limit for line in lines) - sum(
            line.level > limit for line in shown
        )
        if hidden:
            self.notes.append(
                f"{units.plural(hidden, 'call')} below level {limit} not shown; "
                f"see them with --depth {deepest}"
            )
        flagged = (i for i, line in enumerate(shown) if self.is_flagged(line.call))
        kept = bounded([line.level for line in shown], flagged, MOST_ROWS)
        if len(kept) < len(shown):
            self.notes.append(left_out(len(kept), len(shown)))
        return [shown[i] for i in kept]

    def ordered(self) -> list[Line]:
        """Return the calls with those of a layer that is called often gathered below one line."""
        log = self.log
        counts = Counter((self.parent[call], log.layer[call]) for call in self.calls)
        often = {
            key for key, count in counts.items() if count >= FOLDED_FROM and key[0] is not None
        }
        if not often:
            return [Line(call, log.depth[call]) for call in self.calls]
        children: dict[int | None, list[int]] = {}
        for call in self.calls:
            children.setdefault(self.parent[call], []).append(call)
        lines: list[Line] = []
        gathered: set[tuple[int | None, int]] = set()
        pending = [Line(call, 0) for call in reversed(children.get(None, []))]
        while pending:
            line = pending.pop()
            key = (self.parent[line.call], log.layer[line.call])
            if key in often and key not in gathered:
                gathered.add(key)
                same = [call for call in children[key[0]] if log.layer[call] == key[1]]
                lines.append(Line(same[-1], line.level, line.folded, times=len(same)))
                pending += [Line(c, line.level + 1, folded=True) for c in reversed(same)]
            elif key not in often or line.folded:
                lines.append(line)
                below = reversed(children.get(line.call, []))
                pending += [Line(call, line.level + 1, line.folded) for call in below]
        return lines

    def is_flagged(self, call: int) -> bool:
        """Tell whether a call deserves a look."""
        return call in self.makers or self.log.ended[call] == FAILED or self._all_zeros(call)

    def _all_zeros(self, call: int) -> bool:
        tensor = self.log.main_output(call)
        return tensor is not None and self.log.statistics_of(tensor).zeros == 1

    def label(self, call: int) -> str:
        """Return what the tree calls a call: what its layer's name adds to its parent's."""
        layer, parent = self.log.layer_of(call), self.parent[call]
        if parent is None:
            if self.log.is_function(call):
                return layer.name
            network = self.log.networks[layer.network]
            return f"{network}.{layer.name}" if layer.name else network
        above = self.log.layer_of(parent).name
        if not above:
            return layer.name or self.log.networks[layer.network]  # a network that calls itself
        return layer.name.removeprefix(f"{above}.")

    def _row(self, line: Line) -> Row:
        log, call = self.log, line.call
        label = self.label(call)
        type_name = log.layer_of(call).type
        row = Row(
            label=f"{label} × {line.times}" if line.times else label,
            level=line.level,
            cells=("" if type_name == label else type_name,),
            opened=line.level < self.view.open_depth and not line.times,
        )
        if log.ended[call] != FINISHED:
            got = units.shape(log.shapes[log.input_shape[call]])
            message, strong = self.unfinished(call), call == log.raised
            return replace(row, message=message, strong=strong, details=(f"got {got}",))
        index = log.main_output(call)
        if index is None:
            return replace(row, cells=(*row.cells, "no tensor"))
        tensor = log.tensor(index)
        shape = units.shape(log.shapes[log.output_shape[call]])
        usual_dtype, usual_device = self.usual
        shape += f" {tensor.dtype}" if tensor.dtype != usual_dtype else ""
        shape += f" {tensor.device}" if tensor.device != usual_device else ""
        flags = [f"the last of {units.plural(line.times, 'call')}"] if line.times else []
        flags += ["recomputed in the backward"] if call in log.recomputed else []
        return replace(
            row,
            cells=(
                *row.cells,
                shape,
                tensor.mean_and_std,
                *(self._gradients(call) if log.graded else ()),
                tensor.min_and_max,
                tensor.histogram,
                units.percent(tensor.zeros),
                ", ".join([*flags, *self.flags(call, tensor.zeros, tensor.unknown)]),
            ),
            details=self._details(call, tensor),
            dimmed=self.inherits(call),
            strong=call in self.makers,
        )

    def _gradients(self, call: int) -> tuple[Pair | str | None, ...]:
        gradient, own = self.log.gradient_of(call), self.own_gradient(call)
        return None if gradient is None else self.log.tensor(gradient).mean_and_std, own

    def own_gradient(self, call: int) -> str:
        """Return the norm of the gradients of a layer's own parameters, and which got none."""
        own = self.log.parameter_gradients.get(self.log.layer[call])
        if not own:
            return ""
        norm = self.log.own_gradient(call)
        without = [name for name, gradient in own.items() if gradient is None]
        if norm is None:
            return "none"
        text = units.numbers(norm)[0]
        return f"{text}, {', '.join(without)} none" if without else text

    def unfinished(self, call: int) -> str:
        """Return what a row says in place of values: that the call failed, or runs."""
        if self.log.ended[call] == STOPPED:
            return "recomputed in the backward, as far as needed"
        failure = self.log.failures.get(call)
        if failure is None:
            return "running"
        if self.log.raised is None:
            return f"FAILED, caught: {failure.type}"
        if call == self.log.raised:
            return f"FAILED {failure.mismatch or failure.type}"
        return "FAILED inside" if call in self.failing else f"FAILED, caught: {failure.type}"

    def _around_the_failure(self) -> set[int]:
        """Return the calls that the exception passed through on its way out."""
        around = set[int]()
        step = self.log.raised
        while step is not None and step not in around:
            around.add(step)
            step = self.parent.get(step)
        return around

    def inherits(self, call: int) -> bool:
        """Tell whether what a call returned is NaN or Inf because what it got was."""
        nan, inf = self.log.nonfinite(self.log.outputs[call])
        spoiled = bool(nan or inf)
        return spoiled and call not in self.makers and call not in self.above_maker

    def flags(self, call: int, zeros: float | None, unknown: str) -> list[str]:
        """Return what deserves a look, in words.

        Args:
            call: the call.
            zeros: the share of zeros in its main output.
            unknown: why its numbers are unknown, if they are.
        """
        nan, inf = self.log.nonfinite(self.log.outputs[call]) if self.spoiled else (0, 0)
        words = [f"{number:,} {name}" for number, name in ((nan, "NaN"), (inf, "Inf")) if number]
        if words:
            if call in self.above_maker:
                words.append("made inside")
            else:
                words.append("made here" if call in self.makers else "inherited")
        if zeros == 1:
            words.append("all zeros")
        if unknown:
            words.append(f"no values: {unknown}")
        return words

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

    def heading(self) -> str:
        """Return the line above the table."""
        log = self.log
        title = log.title
        if log.raised is not None:
            finished = units.plural(sum(end == FINISHED for end in log.ended), "call")
            where = log.place_of(log.raised)
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
        first = self.log.first_nonfinite()
        if first is not None:
            step = "" if first in self.parent else f", at step {self.log.step[first]}"
            notes.append(f"first {self._origin(first)}{step}")
        if any(self._is_fused(call) for call in self.calls if call not in self.last_child):
            notes.append(
                "TransformerEncoderLayer ran as one fused operation (torch's fast path in eval "
                "mode), so that the layers inside were not called"
            )
        types = {self.log.layer_of(call).type for call in self.calls}
        compiled = [c for c in self.calls if self.log.layer_of(c).type == "OptimizedModule"]
        if any(call in self.last_child for call in compiled):
            notes.append("compiled networks run eagerly while they are traced")
        elif compiled:
            notes.append("a compiled network that is watched runs as it is: one row")
        if types & {"ScriptModule", "RecursiveScriptModule", "TopLevelTracedModule"}:
            notes.append("a ScriptModule is one row: what runs inside it cannot be seen")
        raised = self.log.raised
        if raised is not None:
            failure, layer = self.log.failures[raised], self.log.layer_of(raised)
            where = self.log.place_of(raised)
            got = units.shape(self.log.shapes[self.log.input_shape[raised]]) or "no tensor"
            text = f"{where} ({layer.type}) {failure.mismatch or f'got {got}'}"
            notes.append(f"{text}, called at {failure.place}" if failure.place else text)
            notes.append(f"{failure.type}: {failure.message}")
        return notes

    def _is_fused(self, call: int) -> bool:
        is_encoder = self.log.layer_of(call).type == "TransformerEncoderLayer"
        return is_encoder and self.log.ended[call] == FINISHED

    def _origin(self, call: int) -> str:
        log = self.log
        layer = log.layer_of(call)
        nan, _ = log.nonfinite(log.outputs[call])
        where = log.place_of(call)
        text = f"{'NaN' if nan else 'Inf'}: {where} ({layer.type})"
        known = [log.tensor(tensor) for tensor in log.inputs[call]]
        ranges = [(each.min, each.max) for each in known if each.min is not None]
        if not ranges:
            return text
        low = min(low for low, _ in ranges)
        high = max(high for _, high in ranges if high is not None)
        least, greatest = units.numbers(low, high)
        return f"{text}, its inputs within {least} … {greatest}"

    def scores(self) -> list[ItemScores]:
        """Return what the outputs say, read as class scores where that is likely."""
        log, found = self.log, list[ItemScores]()
        roots = (call for call in self.calls if self.parent[call] is None)
        for root in (call for call in roots if call not in log.recomputed):
            tensor, last = log.main_output(root), self._last_leaf(root)
            if tensor is None or log.ended[root] != FINISHED:
                continue
            form, leading = log.form_of(tensor), log.samples_of(tensor).leading
            last_type = log.layer_of(last).type
            ends_in_scores = root != last and last_type in SCORE_LAYERS
            if not (self.as_scores or self.view.classes or ends_in_scores):
                continue
            match form.shape:
                case int(items), int(classes) if items > 0 and classes > 1:
                    pass
                case _:
                    continue
            whole = leading is not None and leading.shape[1:] == form.shape[1:]
            if leading is not None and whole and form.dtype.startswith(("float", "bfloat")):
                found += self._read_scores(leading, items, classes, last_type)
        return found

    def score_notes(self, scores: Sequence[ItemScores]) -> list[str]:
        """Return the lines that say what the outputs are, read as class scores."""
        notes = []
        for item in scores:
            (best, chance), *others = item.best
            which = "" if item.items == 1 else f"item {item.item} "
            likely = [(name, p) for name, p in others if p >= LEAST_CHANCE]
            then = ", ".join(f"{name} {100 * p:.1f} %" for name, p in likely)
            notes.append(
                f"{which}read as class scores: {best} is the largest of {item.classes} "
                f"({100 * chance:.1f} % {item.how})" + (f", then {then}" if then else "")
            )
        if scores and scores[0].items > len(scores):
            notes.append(f"the first {len(scores)} of {scores[0].items} items are read")
        named = len(self.view.classes)
        notes += [
            f"{named} class names for {count} scores"
            for count in dict.fromkeys(item.classes for item in scores)
            if named not in (0, count)
        ]
        return notes

    def _last_leaf(self, call: int) -> int:
        while call in self.last_child:
            call = self.last_child[call]
        return call

    def _read_scores(
        self, leading: Sample, items: int, classes: int, last_type: str
    ) -> list[ItemScores]:
        how = {"Softmax": "as it is", "LogSoftmax": "after exp"}.get(last_type, "after softmax")
        found = []
        for item, row in enumerate(leading.tolist()[:ITEMS_SHOWN]):
            if not all(map(isfinite, row)):
                continue
            chances = _probabilities(row, last_type)
            best = sorted(range(classes), key=lambda i: -chances[i])[:BEST_CLASSES]
            names = tuple((self._class_name(i), chances[i]) for i in best)
            found.append(ItemScores(item, items, classes, how, names))
        return found

    def _class_name(self, index: int) -> str:
        names = self.view.classes
        return names[index] if index < len(names) else str(index)


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
