"""The rows of a run for the widget."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np

from nnmagic.display import units
from nnmagic.records.call_log import FAILED, FINISHED, TraceLog
from nnmagic.records.record import View
from nnmagic.records.tensor import Statistics
from nnmagic.records.trace import Trace
from nnmagic.records.trace_nonfinite import first_nonfinite
from nnmagic.records.trace_table import TraceTable
from nnmagic.widget.sheet import (
    DIMMED,
    FAILED_ROW,
    FLAGGED,
    MANY_CALLS,
    STRONG,
    Content,
    Sheet,
    Texts,
    bins_of,
    number_column,
    packed,
    pair_column,
    statistics_columns,
    steps_of,
    text_column,
    with_ancestors,
)


def trace_sheet(
    trace: Trace,
    view: View,
    *,
    params: Mapping[tuple[str, str], int] | None = None,
    run: Content | None = None,
    static: str = "",
) -> Sheet:
    """Return the rows of the shown step of a run.

    Args:
        trace: the record.
        view: the display options.
        params: the number of parameters of each layer, by network and name; None where the network
            is gone.
        run: what the browser may ask to be run again.
        static: the mark of the static table that the widget stands for.
    """
    log = trace.log
    table = TraceTable(log, view, text=False, scores=trace.default)
    lines = table.ordered()
    if view.layers:
        wanted = [view.matches(log.layer_of(line.call).name) for line in lines]
        lines = [lines[i] for i in with_ancestors([line.level for line in lines], wanted)]
    labels, names, types, shapes, flags = (Texts() for _ in range(5))
    entries = [line.call for line in lines]
    key_texts, rows = _keys(log, table.calls, lines)
    state = np.zeros(len(lines), dtype=np.uint8)
    message: dict[str, str] = {}
    tensors = np.full(len(lines), -1, dtype=np.int64)
    counts: list[int | None] = []
    verdicts, several = table.verdicts, len(log.networks) > 1
    usual_dtype, usual_device = table.usual
    for row, line in enumerate(lines):
        call = line.call
        layer = log.layer_of(call)
        label = table.label(call)
        labels.add(f"{label} × {line.times}" if line.times else label)
        network = log.networks[layer.network]
        names.add(f"{network}:{layer.name}" if several and layer.name else layer.name or network)
        types.add("" if layer.type == label else layer.type)
        if params is not None:
            counts.append(params.get((network, layer.name)))
        bits = MANY_CALLS if line.times else 0
        words: list[str] = []
        shape = units.shape(log.shapes[log.output_shape[call]])
        if log.ended[call] != FINISHED:
            message[str(row)] = verdicts.unfinished(call)
            bits |= STRONG if call == log.raised else 0
            bits |= FAILED_ROW if log.ended[call] == FAILED else 0
        else:
            index = log.main_output(call)
            if index is not None:
                tensors[row] = index
                form = log.tensors.form_of(index)
                shape += f" {form.dtype}" if form.dtype != usual_dtype else ""
                shape += f" {form.device}" if form.device != usual_device else ""
                zeros = log.tensors.statistics_of(index).zeros
                words = verdicts.flags(call, zeros, log.tensors.unknown.get(index, ""))
                if call in log.recomputed:
                    words = ["recomputed in the backward", *words]
            bits |= STRONG if call in verdicts.makers else 0
            bits |= DIMMED if verdicts.makers and verdicts.inherits(call) else 0
        bits |= FLAGGED if verdicts.is_flagged(call) else 0
        state[row] = bits
        shapes.add(shape)
        flags.add(", ".join(words))
    numbers = _numbers_of(log, tensors)
    samples = [None if i < 0 else log.tensors.samples_of(i).spread for i in tensors.tolist()]
    scores = table.scores()
    columns = [
        text_column("type", "type", "the class of the layer", types),
        text_column("shape", "shape", "of what it returned, the batch first", shapes),
        text_column("flags", "flags", "what deserves a look", flags, "flags"),
        *statistics_columns(numbers, *bins_of(samples, numbers)),
    ]
    if log.graded:
        after = 1 + next(i for i, column in enumerate(columns) if column["key"] == "mean")
        columns[after:after] = _gradient_columns(log, entries)
    if params is not None:
        meaning = "distinct ones, of the layer and everything below it"
        columns.insert(2, number_column("params", "parameters", meaning, counts))
    first = first_nonfinite(log)
    row_of = {call: row for row, call in reversed(list(enumerate(entries)))}
    content = {
        "kind": "trace",
        "static": static,
        "heading": table.heading(),
        "notes": [*table.all_notes(()), *_sampled(log)],
        "noun": "layer",
        "count": len(lines),
        "level": packed([line.level for line in lines], "u2"),
        "labels": labels.strings,
        "label": labels.packed,
        "names": names.strings,
        "name": names.packed,
        "keys": key_texts,
        "state": state.tobytes(),
        "opened": view.open_depth,
        "first_nonfinite": -1 if first is None else row_of.get(first, -1),
        "failed": -1 if log.raised is None else row_of.get(log.raised, -1),
        "columns": columns,
        "message": message,
        "steps": steps_of(table.steps, view.step),
        "scores": _scores(scores),
        "structure": _structure(trace, table),
        "run": run,
    }
    return Sheet(content, rows, entries)


def _gradient_columns(log: TraceLog, calls: Sequence[int]) -> list[Content]:
    gradients = [log.gradient_of(call) for call in calls]
    numbers = _numbers_of(log, np.array([-1 if g is None else g for g in gradients], dtype=int))
    means, stds = numbers[:, 2], numbers[:, 3]
    norms = [log.own_gradient(call) for call in calls]
    meaning = "of what the layer returned, in the last backward: mean ± std"
    own = "the Euclidean norm of the gradients of its own parameters"
    return [
        pair_column("gradient", "gradient", meaning, means, stds, "±"),
        number_column("own_gradient", "own gradient", own, norms, "number"),
    ]


def _sampled(log: TraceLog) -> list[str]:
    if not log.tensors.measured:
        return []
    most = max(log.tensors.measured.values())
    return [f"large tensors are measured by samples of {most:,} values, not to slow the run down"]


def _keys(
    log: TraceLog, calls: Sequence[int], lines: Sequence[Any]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return the keys that differ from their row's name, and the row of each key.

    A layer's key is its name, as in `trace[name]`; that of one call among several has its number.
    """
    counts = Counter(log.layer[call] for call in calls)
    homes = Counter(name for _, name in {log.layer_of(call)[:2] for call in calls})
    several = len(log.networks) > 1
    seen = Counter[int]()
    texts: dict[str, str] = {}
    rows: dict[str, int] = {}
    for row, line in enumerate(lines):
        layer = log.layer_of(line.call)
        network = log.networks[layer.network]
        key = layer.name if homes[layer.name] == 1 else f"{network}:{layer.name}"
        number = log.layer[line.call]
        if not line.times and counts[number] > 1:
            key += f"@{seen[number]}"
            seen[number] += 1
        name = f"{network}:{layer.name}" if several and layer.name else layer.name or network
        if key != name:
            texts[str(row)] = key
        rows.setdefault(key, row)
    return texts, rows


def _numbers_of(log: TraceLog, tensors: np.ndarray) -> np.ndarray:
    with log.lock:  # no tensor may come between one column and the next
        known = np.stack([log.tensors.column(name) for name in Statistics._fields], axis=1)
    if not len(known):
        return np.full((len(tensors), len(Statistics._fields)), nan)
    return np.where((tensors >= 0)[:, None], known[tensors], nan)


def _scores(scores: Sequence[Any]) -> Content | None:
    if not scores:
        return None
    return {
        "how": scores[0].how,
        "items": scores[0].items,
        "rows": [
            {"item": each.item, "best": [list(pair) for pair in each.best]} for each in scores
        ],
    }


def _structure(trace: Trace, table: TraceTable) -> str:
    roots = [call for call in table.calls if table.parent[call] is None]
    log = trace.log
    roots = [c for c in roots if c not in log.recomputed and not log.is_function(c)]
    if not roots or trace.log.ended[roots[-1]] != FINISHED:
        return ""
    return units.shape(trace.log.shapes[trace.log.output_shape[roots[-1]]])
