"""The table of a run: one step of it, what failed and what is flagged always in it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from nnmagic.display import units
from nnmagic.display.table import Column, Pair, Row, Table, bounded, parents_of
from nnmagic.records.call_log import FINISHED, TraceLog
from nnmagic.records.record import MOST_ROWS, View, filtered, leading_rows, left_out
from nnmagic.records.tensor import TensorRecord
from nnmagic.records.trace_findings import Findings
from nnmagic.records.trace_scores import ItemScores, ScoreReader
from nnmagic.records.trace_verdicts import Verdicts

FOLDED_FROM = 6
"""From how many calls of one layer within one parent on they are folded into one row."""

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
        self.score_reader = ScoreReader(log, view, known=scores)
        self.depth = view.depth_in(text=text)
        self.text = text
        self.notes: list[str] = []
        self.calls, self.steps_text = self._shown_calls()
        self.parent = {
            call: None if p < 0 else p for call in self.calls for p in [log.parent[call]]
        }
        self.findings = Findings(log, self.parent)
        self.verdicts = Verdicts(log, self.parent, self.findings.flags)
        self.usual = self._usual_form()

    def _shown_calls(self) -> tuple[list[int], str]:
        log = self.log
        roots: dict[int, dict[int, None]] = {}
        for call in range(len(log)):
            if log.depth[call] == 0 and not log.is_function(call):
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
            for call in range(len(log))
            if log.step[call] == shown.get(log.layer_of(call).network, last)
        ]
        return list(log.nested(calls)), " · ".join(texts)

    def _usual_form(self) -> tuple[str, str]:
        forms = Counter[tuple[str, str]]()
        for call in self.calls:
            tensor = self.log.main_output(call)
            if tensor is not None:
                form = self.log.tensors.form_of(tensor)
                forms[form.dtype, form.device] += 1
        return forms.most_common(1)[0][0] if forms else ("", "")

    def table(self) -> Table:
        """Return the table."""
        lines = self._chosen()
        rows = [self._row(line) for line in lines]
        names = [self.log.layer_of(line.call).name for line in lines]
        shown = filtered(rows, names, self.view, lambda i: self.verdicts.is_flagged(lines[i].call))
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
        return (
            *self.verdicts.notes(),
            *self.findings.notes,
            *self.score_reader.notes(scores),
            *self.notes,
            *self.log.notes,
        )

    def _chosen(self) -> list[Line]:
        """Return the calls to draw: the flagged ones always, the rest as deep as was asked for."""
        lines = self.ordered()
        parents = parents_of([line.level for line in lines])
        needed = set[int]()
        for i, line in enumerate(lines):
            step: int | None = i if self.verdicts.is_flagged(line.call) else None
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
        flagged = (i for i, line in enumerate(shown) if self.verdicts.is_flagged(line.call))
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
            message, strong = self.verdicts.unfinished(call), call == log.raised
            return replace(row, message=message, strong=strong, details=(f"got {got}",))
        index = log.main_output(call)
        if index is None:
            return replace(row, cells=(*row.cells, "no tensor"))
        tensor = log.tensors.record(index)
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
                ", ".join([*flags, *self.verdicts.flags(call, tensor.zeros, tensor.unknown)]),
            ),
            details=self._details(call, tensor),
            dimmed=self.verdicts.inherits(call),
            strong=call in self.verdicts.makers,
        )

    def _gradients(self, call: int) -> tuple[Pair | str | None, ...]:
        gradient, own = self.log.gradient_of(call), self.own_gradient(call)
        return None if gradient is None else self.log.tensors.record(gradient).mean_and_std, own

    def own_gradient(self, call: int) -> str:
        """Return the norm of the gradients of a layer's own parameters, and which got none."""
        own = self.log.parameter_gradients.get(self.log.layer[call])
        if not own:
            return ""
        norm = self.log.own_gradient(call)
        without = [name for name, gradient in own.items() if gradient is None]
        if len(without) == len(own):
            return "none"
        text = "unknown" if norm is None else units.numbers(norm)[0]
        return f"{text}, {', '.join(without)} none" if without else text

    def _details(self, call: int, tensor: TensorRecord) -> tuple[str, ...]:
        log = self.log
        child = self.verdicts.last_child.get(call)
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
        if self.verdicts.makers:
            parts.append("NaN or Inf arose")
        elif self.verdicts.came_in in self.parent:
            parts.append("NaN or Inf came in")
        if self.findings.bad_gradients:
            parts.append(f"{self.findings.bad_gradients} in the gradients")
        return " · ".join(parts)

    def scores(self) -> list[ItemScores]:
        """Return what the outputs say, read as class scores where that is likely."""
        roots = (call for call in self.calls if self.parent[call] is None)
        return self.score_reader.read({root: self._last_leaf(root) for root in roots})

    def _last_leaf(self, call: int) -> int:
        while call in self.verdicts.last_child:
            call = self.verdicts.last_child[call]
        return call


def _ranges(steps: Sequence[int]) -> str:
    if len(steps) <= 5:
        return ", ".join(map(str, steps))
    return f"{steps[0]}, {steps[1]}, … {steps[-1]}"
