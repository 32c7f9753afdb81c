"""The table of a run: the rows of one iteration."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from nnmagic.contexts import without_garbage_collection
from nnmagic.display import units
from nnmagic.display.messages import FindingContent, ScoresContent
from nnmagic.display.table import Column, Histogram, Lanes, Row, State, Table, with_ancestors
from nnmagic.records import call_log
from nnmagic.records.call_log import FINISHED, TraceLog
from nnmagic.records.curves.drawn_curves import losses_of
from nnmagic.records.curves.trend_bars import Trend, trend_bars_of
from nnmagic.records.failure import Failure
from nnmagic.records.finding import once_each
from nnmagic.records.findings.class_scores import ItemScores, ScoreReader
from nnmagic.records.findings.misleading import MOST_TEXTS, Findings
from nnmagic.records.findings.verdicts import Verdicts
from nnmagic.records.flow import Flow, is_complete
from nnmagic.records.folding import Line, folded
from nnmagic.records.record import View, filtered
from nnmagic.records.shown_iterations import ShownIterations
from nnmagic.records.trace_columns import COLUMNS, GRADIENT_COLUMNS, CallRow

FLOW_NOTE = "flow: functions between the layers are not recorded; --ops completes the lanes"


class TraceTable:
    """Makes the table of one iteration of a run.

    Args:
        log: the columns of the run.
        view: the display options.
        scores: whether the output is one of class scores, whatever layer returned it.

    Attributes:
        shown: the iterations that are shown.
        calls: their calls.
        outputs: the tensor that each call's row is about; None for none.
        common_metadata: the dtype and the device that most of the outputs have.
    """

    def __init__(self, log: TraceLog, view: View, *, scores: bool) -> None:
        self.log = log
        self.view = view
        self.score_reader = ScoreReader(log, view, is_scores=scores)
        self.shown = ShownIterations(log, view.step)
        self.notes = self.shown.notes
        self.calls = self.shown.calls
        self.parent = log.parents_of(self.calls)
        self.findings = Findings(log, self.parent)
        self.verdicts = Verdicts(log, self.parent, self.findings.flags)
        self.outputs = {
            call: log.main_output(call) if log.ended[call] == FINISHED else None
            for call in self.calls
        }
        self.common_metadata = self._common_metadata()

    def _common_metadata(self) -> tuple[str, str]:
        metadata_of = self.log.tensors.metadata_of
        outputs = (output for output in self.outputs.values() if output is not None)
        found = Counter(metadata_of(output)[1:3] for output in outputs)
        return found.most_common(1)[0][0] if found else ("", "")

    @without_garbage_collection
    def table(self) -> Table:
        """Return the table."""
        view, log = self.view, self.log
        lines = self.ordered()
        rows = self._rows(lines)
        names = [log.layer_of(line.call).name for line in lines]
        self.notes += view.unmatched(names)
        scores = self.scores
        scored = self.label(scores[0].root) if scores and len(self._roots()) > 1 else ""
        score_notes = self.score_reader.notes(scores, scored)
        measured = max(log.tensors.measured.values(), default=0)
        sampled = f"large tensors are measured on samples of {measured:,} values"
        return Table(
            heading=self.heading(),
            title="layer",
            meaning="in the order in which the calls began",
            columns=self._columns(),
            rows=filtered(rows, names, view),
            notes=(
                *self.verdicts.notes(),
                *self.findings.notes,
                *score_notes,
                *self.notes,
                *([] if log.functions or is_complete(log, self.calls) else [FLOW_NOTE]),
                *log.notes,
                *([f"{sampled}, so as not to slow the run down"] if measured else []),
            ),
            static_notes=(*score_notes, *self.findings.notes),
            details=lambda row: row.details(view.values_shown),
            show_details=view.values is not None,
            open_levels=view.open_depth,
            # the heading of a run that failed counts the calls that finished
            noun="call" if log.failure is None else "row",
            total=len(self.calls) if log.failure is None else None,
            beside={
                "steps": self.shown.content(),
                "losses": losses_of(log),
                "findings": self._findings_content(),
                "scores": _scores_content(scores, scored),
                "structure": self._structure(),
            },
        )

    def _columns(self) -> tuple[Column, ...]:
        left = set[str]() if self.log.graded else {*GRADIENT_COLUMNS}
        if not self.log.parameter_gradients:  # they are read when the run is over
            left.add("own_gradient")
        if len(self.shown.content()["iterations"]) < 2:
            left.add("trend")
        return tuple(column for column in COLUMNS if column.key not in left)

    @cached_property
    def trends(self) -> dict[Trend, Histogram]:
        """The mean of each layer over the iterations, by series, network and layer."""
        with self.log.lock:  # another thread may be recording
            return trend_bars_of(self.log)

    def _rows(self, lines: Sequence[Line]) -> list[Row]:
        log, verdicts = self.log, self.verdicts
        first = verdicts.origins.first
        layers, layer_of = log.layers, log.layer
        homes = Counter(layer[1] for layer in {layers[layer_of[call]][:2] for call in self.calls})
        rows = []
        for call, level, _, times in lines:
            layer = layers[layer_of[call]]
            label, network = self.label(call), log.networks[layer.network]
            whole = f"{network}:{layer.name}"
            name = self._name(network, layer.name)
            ended = log.ended[call]
            state = State.FLAGGED if call in verdicts.flagged else 0
            state |= State.MANY_CALLS if times else 0
            state |= State.FAILED if ended == call_log.FAILED else 0
            state |= State.STRONG if call in verdicts.producers or call == log.raised else 0
            state |= State.FIRST if call == first else 0
            if ended == FINISHED and verdicts.inherits(call):
                state |= State.DIMMED
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

    def _name(self, network: str, layer: str) -> str:
        """Return the full name of a layer, by which its row is found."""
        return f"{network}:{layer}" if layer and len(self.log.networks) > 1 else layer or network

    def _findings_content(self) -> list[FindingContent]:
        """Return what is wrong with the run, the causes first, and of each rule the first few."""
        found = once_each(self.findings.found)
        counts, contents = Counter[str](), list[FindingContent]()
        for each in found:
            counts[each.rule] += 1
            if counts[each.rule] <= MOST_TEXTS:
                name = self._name(each.network, each.layer)
                contents.append(_finding_content(each.text, each.level, name, each.iteration))
        for rule, count in counts.items():
            if count > MOST_TEXTS:
                text = f"{rule}: {count - MOST_TEXTS:,} more in trace.findings"
                contents.append(_finding_content(text))
        return contents

    def lanes(self, rows: Sequence[tuple[int, bool]]) -> list[Lanes]:
        """Return the lanes of rows, each given by its call and whether it stands for many.

        A call that has no row stands in the row around it.
        """
        single = {call: row for row, (call, is_many) in enumerate(rows) if not is_many}
        many = {self._key(call): row for row, (call, is_many) in enumerate(rows) if is_many}

        def row_of(call: int | None) -> int | None:
            while call is not None and call in self.parent:
                row = single.get(call)
                if row is None and many:
                    row = many.get(self._key(call))
                if row is not None:
                    return row
                call = self.parent[call]
            return None

        seen = (call for call in self.calls if call in single or (many and self._key(call) in many))
        flow = Flow(self.log, sorted(with_ancestors(self.parent, seen)))
        sources: list[set[int]] = [set() for _ in rows]
        for call, makers in flow.taken.items():
            row = row_of(call)
            if row is not None:
                found = {row_of(maker) for maker in makers.values()}
                sources[row] |= {each for each in found if each not in (None, row)}
        unchanged = {}
        for call, returned in flow.unchanged.items():
            row, source = single.get(call), row_of(min(returned))
            if row is not None and source is not None:
                unchanged[row] = source
        return [
            Lanes(tuple(sorted(found)), unchanged.get(row)) for row, found in enumerate(sources)
        ]

    def ordered(self) -> list[Line]:
        """Return the calls with those of a layer that is called often gathered below one line."""
        log = self.log
        keys = {call: self._key(call) for call in self.calls}
        return folded(self.calls, self.parent, keys, log.depth)

    def _key(self, call: int) -> tuple[int, int]:
        """Return what the calls have in common that are gathered below one line."""
        return self._around(call), self.log.layer[call]

    def _around(self, call: int) -> int:
        """Return the parent of a call; of a root what its iteration is counted of, below 0."""
        parent = self.parent[call]
        return -1 - self.shown.root_series[call] if parent is None else parent

    def label(self, call: int) -> str:
        """Return what the tree calls a call: what its layer's name adds to its parent's."""
        layer, parent = self.log.layer_of(call), self.parent[call]
        if parent is None:
            if self.log.is_function(call):
                return layer.name
            network = self.log.networks[layer.network]
            return self.shown.named(call, f"{network}.{layer.name}" if layer.name else network)
        above = self.log.layer_of(parent).name
        if not above:
            return layer.name or self.log.networks[layer.network]  # a network that calls itself
        return layer.name.removeprefix(f"{above}.")

    def heading(self) -> str:
        """Return the line above the table."""
        log = self.log
        if log.failure is not None:
            return self._heading_of_failure(log.failure)
        if not len(log):
            return f"{log.title} · no layer ran"
        parts = [log.title, *(part for part in self.common_metadata if part)]
        if self.shown.text:
            parts.append(self.shown.text)
        parts.append(f"{units.plural(len(self.calls), 'call')}{self._on_rank}")
        if self.verdicts.producers:
            parts.append("NaN or Inf arose")
        elif self.verdicts.origins.received in self.parent:
            parts.append("NaN or Inf came in")
        if self.findings.bad_gradients:
            parts.append(self.findings.bad_gradients)
        return " · ".join(parts)

    def _heading_of_failure(self, failure: Failure) -> str:
        log = self.log
        is_interrupt = failure.type == "KeyboardInterrupt"
        how = "interrupted" if is_interrupt else "failed"
        begun = max(log.begun, default=0) - (log.raised is not None)
        if begun > 1:
            how += f" after {units.plural(begun, 'iteration')}"
        if log.raised is not None:
            how += f" in {log.name_of(log.raised)}"
        elif not is_interrupt:
            how += " outside the layers"
        finished = units.plural(sum(end == FINISHED for end in log.ended), "call")
        return f"{log.title} {how} · {finished} finished{self._on_rank}"

    @property
    def _on_rank(self) -> str:
        """Whose calls they are, where other ranks made some too."""
        log = self.log
        return f" on rank {log.rank}" if (log.world_size or 0) > 1 else ""

    @cached_property
    def scores(self) -> list[ItemScores]:
        """What an output says, read as class scores where that is likely."""
        return self.score_reader.read({root: self._last_leaf(root) for root in self._roots()})

    @property
    def scored(self) -> set[int | None]:
        """The tensors that are read as class scores."""
        return {self.log.main_output(each.root) for each in self.scores}

    def _last_leaf(self, call: int) -> int:
        while call in self.verdicts.last_child:
            call = self.verdicts.last_child[call]
        return call

    def _structure(self) -> str:
        """Return the shape of what the last root call returned."""
        log = self.log
        for call in reversed(self._roots()):
            if call not in log.recomputed and not log.is_function(call):
                is_finished = log.ended[call] == FINISHED
                return units.shape(log.shapes[log.output_shape[call]]) if is_finished else ""
        return ""

    def _roots(self) -> list[int]:
        return [call for call in self.calls if self.parent[call] is None]


def _finding_content(
    text: str, level: str = "note", name: str = "", iteration: int = 0
) -> FindingContent:
    return {"text": text, "level": level, "name": name, "iteration": iteration}


def _scores_content(scores: Sequence[ItemScores], scored: str) -> ScoresContent | None:
    if not scores:
        return None
    return {
        "how": f"{f'{scored}: ' if scored else ''}read as class scores, {scores[0].how}",
        "items": scores[0].items,
        "rows": [{"item": each.item, "best": list(each.best)} for each in scores],
    }
