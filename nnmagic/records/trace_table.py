"""The table of a run: its columns, and the rows of one step."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from nnmagic.display import units
from nnmagic.display.messages import ScoresContent, StepsContent
from nnmagic.display.table import (
    DIMMED,
    FAILED,
    FIRST,
    FLAGGED,
    MANY_CALLS,
    STRONG,
    Column,
    Noted,
    Row,
    Table,
    TensorShape,
)
from nnmagic.records import call_log
from nnmagic.records.call_log import FINISHED, Layer, TraceLog
from nnmagic.records.columns import HISTOGRAM, MEAN_AND_STD, MIN_AND_MAX, ZEROS
from nnmagic.records.findings.class_scores import ItemScores, ScoreReader
from nnmagic.records.findings.misleading import Findings
from nnmagic.records.findings.nonfinite import first_nonfinite
from nnmagic.records.findings.verdicts import Verdicts
from nnmagic.records.record import View, filtered, leading_rows
from nnmagic.records.tensor import NO_TENSOR, NOTHING_KNOWN, Sample, Statistics, TensorRecord

FOLDED_FROM = 6
"""From how many calls of one layer within one parent on they are folded into one row."""


class CallRow:
    """A call as the subject of a row: what the columns take their cells from.

    Attributes:
        call: the number of the call.
        layer: its layer.
        label: what the tree calls it.
        times: how many calls the row stands for, the last of which it shows; 0 for one call.
        network: the name of the network.
        output: the number of the tensor that the statistics are of; None for none.
    """

    __slots__ = ("_numbers", "_step", "call", "label", "layer", "network", "output", "times")

    def __init__(self, step: "TraceTable", call: int, layer: Layer, label: str, times: int) -> None:
        self._step, self.call, self.layer, self.label = step, call, layer, label
        self.times, self.output = times, step.outputs[call]
        self.network = step.log.networks[layer.network]
        self._numbers: Statistics | None = None

    @property
    def numbers(self) -> Statistics:
        """The statistics of its output, NaN where unknown."""
        if self._numbers is None:
            tensors = self._step.log.tensors
            out = self.output
            self._numbers = NOTHING_KNOWN if out is None else tensors.statistics_of(out)
        return self._numbers

    @property
    def tensor(self) -> TensorRecord:
        """Its output; made anew each time, since it holds values."""
        return NO_TENSOR if self.output is None else self._step.log.tensors.record(self.output)

    @property
    def spread(self) -> Sample | None:
        """The values that the histogram is of."""
        tensors, output = self._step.log.tensors, self.output
        return None if output is None else tensors.samples_of(output).spread

    @property
    def shape(self) -> TensorShape | str:
        """The shape of what the call returned."""
        log = self._step.log
        if self.output is None:
            return "no tensor"
        own = log.tensors.metadata_of(self.output)[1:3]
        common = self._step.common_metadata
        odd = " ".join(mine for mine, most in zip(own, common, strict=True) if mine != most)
        return TensorShape(log.shapes[log.output_shape[self.call]], odd)

    @property
    def gradient(self) -> tuple[float | None, float | None]:
        """The mean and the standard deviation of the gradient of what the call returned."""
        log = self._step.log
        gradient = log.gradient_of(self.call)
        tensor = None if gradient is None else log.tensors.record(gradient)
        return (None, None) if tensor is None else (tensor.mean, tensor.std)

    @property
    def own_gradient(self) -> float | Noted | str | None:
        """The norm of the gradients of the layer's own parameters, and which got none."""
        log = self._step.log
        own = log.parameter_gradients.get(log.layer[self.call])
        if not own:
            return ""
        norm = log.own_gradient(self.call)
        without = [name for name, gradient in own.items() if gradient is None]
        if len(without) == len(own):
            return "none"
        if norm is None:
            return ", ".join([units.UNKNOWN, *(f"{name} none" for name in without)])
        return Noted(norm, f"{', '.join(without)} none") if without else norm

    @property
    def flags(self) -> str:
        """What deserves a look, in words."""
        log = self._step.log
        if self.output is None:
            return ""
        words = [f"the last of {units.plural(self.times, 'call')}"] if self.times else []
        words += ["recomputed in the backward"] if self.call in log.recomputed else []
        unknown = log.tensors.unknown.get(self.output, "")
        words += self._step.verdicts.flags(self.call, self.numbers.zeros, unknown)
        return ", ".join(words)

    def details(self, rows: int) -> list[str]:
        """Return lines with what the call got and returned, and the first rows of its values."""
        log, call, tensor = self._step.log, self.call, self.tensor
        got = units.shape(log.shapes[log.input_shape[call]])
        if log.ended[call] != FINISHED:
            return [f"got {got}"]
        child = self._step.verdicts.last_child.get(call)
        is_childs = child is not None and log.outputs[child] == log.outputs[call]
        if self.output is None or is_childs or not rows:
            return []
        lines = [f"{got or 'no tensor'} → {tensor.caption}"]
        if tensor.leading is not None and tensor.numel:
            lines += leading_rows(tensor.values, tensor.shape, rows)
            kept = tensor.leading.shape[0] if tensor.shape else 1
            if kept < min(rows, tensor.shape[0] if tensor.shape else 1):
                lines.append(f"{kept} of {tensor.shape[0]} rows are kept; --keep all keeps all")
        return lines


COLUMNS = (
    Column(
        key="type",
        title="type",
        kind="text",
        priority=3,
        meaning="the class of the layer",
        cell=lambda row: "" if row.layer.type == row.label else row.layer.type,
    ),
    Column(
        key="shape",
        title="shape",
        kind="shape",
        narrowest=22,
        meaning="the shape of what it returned, the batch first",
        cell=lambda row: row.shape,
    ),
    MEAN_AND_STD,
    Column(
        key="gradient",
        title="gradient",
        kind="pair",
        joiner="±",
        priority=2,
        meaning="of what the layer returned, in the last backward: mean ± std",
        cell=lambda row: row.gradient,
    ),
    Column(
        key="own_gradient",
        title="own gradient",
        kind="number",
        priority=2,
        meaning="the Euclidean norm of the gradients of its own parameters, after the run",
        cell=lambda row: row.own_gradient,
    ),
    MIN_AND_MAX,
    HISTOGRAM,
    ZEROS,
    Column(
        key="flags",
        title="flags",
        kind="flags",
        meaning="what deserves a look",
        cell=lambda row: row.flags,
    ),
)
"""The columns of a trace: a new one goes here."""

GRADIENT_COLUMNS = ("gradient", "own_gradient")
"""Those that only a trace with gradients has."""


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
        scores: whether the output is known to be class scores.

    Attributes:
        calls: the calls of the shown step.
        steps: the steps that were recorded of the network with the most of them.
        outputs: the tensor that each call's row is about; None for none.
        common_metadata: the dtype and the device that most of the outputs have.
    """

    def __init__(self, log: TraceLog, view: View, *, scores: bool) -> None:
        self.log = log
        self.view = view
        self.score_reader = ScoreReader(log, view, known=scores)
        self.notes: list[str] = []
        self.calls, self.steps_text = self._shown_calls()
        self.parent = {
            call: None if p < 0 else p for call in self.calls for p in [log.parent[call]]
        }
        self.findings = Findings(log, self.parent)
        self.verdicts = Verdicts(log, self.parent, self.findings.flags)
        self.outputs = {
            call: log.main_output(call) if log.ended[call] == FINISHED else None
            for call in self.calls
        }
        self.common_metadata = self._common_metadata()

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

    def _common_metadata(self) -> tuple[str, str]:
        metadata_of = self.log.tensors.metadata_of
        outputs = (output for output in self.outputs.values() if output is not None)
        found = Counter(metadata_of(output)[1:3] for output in outputs)
        return found.most_common(1)[0][0] if found else ("", "")

    def table(self) -> Table:
        """Return the table."""
        view, log = self.view, self.log
        lines = self.ordered()
        rows = self._rows(lines)
        names = [log.layer_of(line.call).name for line in lines]
        if view.layers and not any(map(view.matches, names)):
            self.notes.append(f"no layer matches {' '.join(view.layers)}")
        scores = self.scores()
        score_notes = self.score_reader.notes(scores)
        measured = max(log.tensors.measured.values(), default=0)
        sampled = f"large tensors are measured by samples of {measured:,} values"
        return Table(
            heading=self.heading(),
            title="layer",
            meaning="in the order in which the calls began",
            columns=tuple(
                column for column in COLUMNS if log.graded or column.key not in GRADIENT_COLUMNS
            ),
            rows=filtered(rows, names, view),
            notes=(
                *self.verdicts.notes(),
                *self.findings.notes,
                *score_notes,
                *self.notes,
                *log.notes,
                *([f"{sampled}, not to slow the run down"] if measured else []),
            ),
            static_notes=tuple(score_notes),
            details=lambda row: row.details(view.values_shown),
            show_details=view.values is not None,
            open_levels=view.open_depth,
            beside={
                "steps": self._steps_content(),
                "scores": _scores_content(scores),
                "structure": self._structure(),
            },
        )

    def _rows(self, lines: Sequence[Line]) -> list[Row]:
        log, verdicts, several = self.log, self.verdicts, len(self.log.networks) > 1
        first = first_nonfinite(log)
        layers, layer_of = log.layers, log.layer
        homes = Counter(layer[1] for layer in {layers[layer_of[call]][:2] for call in self.calls})
        rows = []
        for call, level, _, times in lines:
            layer = layers[layer_of[call]]
            label, network = self.label(call), log.networks[layer.network]
            whole = f"{network}:{layer.name}"
            name = whole if several and layer.name else layer.name or network
            ended = log.ended[call]
            state = FLAGGED if call in verdicts.flagged else 0
            state |= MANY_CALLS if times else 0
            state |= FAILED if ended == call_log.FAILED else 0
            state |= STRONG if call in verdicts.makers or call == log.raised else 0
            state |= FIRST if call == first else 0
            if verdicts.spoiled and ended == FINISHED and verdicts.inherits(call):
                state |= DIMMED
            rows.append(
                Row(
                    label=f"{label} × {times}" if times else label,
                    subject=CallRow(self, call, layer, label, times),
                    level=level,
                    name=name,
                    key=layer.name if homes[layer.name] == 1 else whole,
                    state=state,
                    message="" if ended == FINISHED else verdicts.unfinished(call),
                )
            )
        return rows

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
        parts = [title, *(part for part in self.common_metadata if part)]
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

    def _steps_content(self) -> StepsContent:
        if not self.steps:
            return {"first": 0, "last": 0, "every": 1, "count": 0, "shown": 0}
        first, *others = self.steps
        shown = self.view.step if self.view.step in self.steps else self.steps[-1]
        return {
            "first": first,
            "last": self.steps[-1],
            "every": others[0] - first if others else 1,
            "count": len(self.steps),
            "shown": shown or 0,
        }

    def _structure(self) -> str:
        """Return the shape of what the last outermost call returned."""
        log = self.log
        roots = [
            call
            for call in self.calls
            if self.parent[call] is None
            and call not in log.recomputed
            and not log.is_function(call)
        ]
        if not roots or log.ended[roots[-1]] != FINISHED:
            return ""
        return units.shape(log.shapes[log.output_shape[roots[-1]]])


def _scores_content(scores: Sequence[ItemScores]) -> ScoresContent | None:
    if not scores:
        return None
    return {
        "how": scores[0].how,
        "items": scores[0].items,
        "rows": [{"item": each.item, "best": list(each.best)} for each in scores],
    }


def _ranges(steps: Sequence[int]) -> str:
    if len(steps) <= 5:
        return ", ".join(map(str, steps))
    return f"{steps[0]}, {steps[1]}, … {steps[-1]}"
