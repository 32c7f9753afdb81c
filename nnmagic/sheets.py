"""The widget's table: the columns of a record as arrays, packed for the browser."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, NamedTuple

import numpy as np

from nnmagic import units
from nnmagic.params_records import Params
from nnmagic.records import OfTensor, Sample, View
from nnmagic.summary_records import Summary
from nnmagic.tables import Histogram, parents_of
from nnmagic.trace_log import FAILED, FINISHED, NOTHING_KNOWN, TraceLog
from nnmagic.trace_records import Trace
from nnmagic.trace_table import TraceTable

STRONG, DIMMED, FLAGGED, FAILED_ROW, MANY_CALLS = 1, 2, 4, 8, 16

BINS = Histogram.BINS
FULLEST = 255

Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A record's rows for the browser.

    Attributes:
        content: what is sent: texts, and arrays as bytes, little-endian.
        rows: the row of each key, by which a row is selected.
        entries: for each row the number of the call, of the layer or of the parameter that it is.
    """

    content: Content
    rows: Mapping[str, int]
    entries: Sequence[int]

    def has_rows_of(self, other: "Sheet") -> bool:
        """Tell whether the rows are the same, so that only their numbers can differ."""
        return _fixed(self.content) == _fixed(other.content)

    def numbers(self) -> tuple[Content, list[bytes]]:
        """Return a message with all that can differ between sheets with the same rows."""
        buffers: list[bytes] = []

        def placed(value: Any) -> Any:
            if not isinstance(value, bytes):
                return value
            buffers.append(value)
            return len(buffers) - 1

        columns = {
            column["key"]: {field: placed(column[field]) for field in _FIELDS if field in column}
            for column in self.content["columns"]
            if column["kind"] != "text"
        }
        message = {name: placed(self.content[name]) for name in _CHANGING}
        return {"tell": "values", "columns": columns, **message}, buffers


_FIELDS = ("values", "first", "second", "zero", "strings", "index")
_CHANGING = (
    *("heading", "notes", "state", "message", "scores", "structure", "steps"),
    *("first_nonfinite", "failed"),
)


def _fixed(content: Content) -> list[Any]:
    """Return what stays the same while only numbers change."""
    columns = [
        column if column["kind"] == "text" else (column["key"], column["kind"])
        for column in content["columns"]
    ]
    names = ("kind", "count", "level", "labels", "label", "names", "name", "keys", "run")
    return [columns, *(content[name] for name in names)]


class _Texts:
    """A column of texts without repeats."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.index: list[int] = []

    def add(self, text: str) -> None:
        self.index.append(self.seen.setdefault(text, len(self.seen)))

    @property
    def strings(self) -> list[str]:
        return [units.printable(text) for text in self.seen]

    @property
    def packed(self) -> bytes:
        return _packed(self.index, "u4")


def _packed(values: Any, form: str) -> bytes:
    return np.asarray(values, dtype=f"<{form}").tobytes()


def _text_column(key: str, title: str, meaning: str, texts: _Texts, kind: str = "text") -> Content:
    return {
        **_head(key, title, meaning, kind),
        "strings": texts.strings,
        "index": texts.packed,
    }


def _head(key: str, title: str, meaning: str, kind: str, *, hidden: bool = False) -> Content:
    return {"key": key, "title": title, "meaning": meaning, "kind": kind, "hidden": hidden}


def _number_column(
    key: str, title: str, meaning: str, values: Any, kind: str = "count", *, hidden: bool = False
) -> Content:
    form = "f4" if kind == "percent" else "f8"
    values = [nan if value is None else value for value in values]
    return {
        **_head(key, title, meaning, kind, hidden=hidden),
        "values": _packed(values, form),
    }


def _statistics_columns(numbers: np.ndarray, bins: np.ndarray, zero: np.ndarray) -> list[Content]:
    """Return the columns that all tables with values share.

    Args:
        numbers: float64, (rows, statistics), in the order of `Statistics`, NaN where unknown.
        bins: uint8, (rows, BINS), the fullest bin FULLEST.
        zero: int8, (rows,), how many bins are below zero, -1 where zero is outside.
    """
    low, high, mean, std, zeros = (numbers[:, i] for i in range(5))
    return [
        {
            **_head("histogram", "histogram", "ten bins from min to max", "histogram"),
            "values": bins.tobytes(),
            "zero": zero.tobytes(),
        },
        {
            **_head("mean", "mean ± std", "over the finite values; correction 1", "pair"),
            "first": _packed(mean, "f8"),
            "second": _packed(std, "f8"),
            "joiner": "±",
        },
        {
            **_head("range", "min … max", "the least and the greatest finite value", "pair"),
            "first": _packed(low, "f8"),
            "second": _packed(high, "f8"),
            "joiner": "…",
        },
        {
            **_head("zeros", "zeros", "the share of values that are exactly 0", "percent"),
            "values": _packed(zeros, "f4"),
        },
    ]


def values_of(sample: Sample) -> np.ndarray:
    """Return a sample's values, complex ones by absolute value, in the sample's shape."""
    if sample.format == "Zd":
        return np.abs(np.frombuffer(sample.data, dtype=np.complex128)).reshape(sample.shape)
    return np.frombuffer(sample.data, dtype=sample.format).reshape(sample.shape)


def binned(values: np.ndarray, low: Any, high: Any, bins: int) -> np.ndarray:
    """Return how many values fall into each of the equal bins between two limits; NaN into none.

    Args:
        values: (rows, values).
        low: the lower limit of each row, (rows, 1).
        high: the upper one; where there is no value between the two, no value is counted.
        bins: how many.

    Returns:
        int64, (rows, bins).
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        width = np.asarray(high, dtype=np.float64) / 2 - np.asarray(low, dtype=np.float64) / 2
        part = (values.astype(np.float64) / 2 - low / 2) / np.where(width > 0, width, 1) * bins
        inside = (values >= low) & (values <= high)
    places = np.where(inside, part, bins).astype(np.int64)
    np.minimum(places, bins - 1, out=places, where=inside)
    rows = np.arange(len(values))[:, None] * (bins + 1)
    counts = np.bincount((places + rows).ravel(), minlength=len(values) * (bins + 1))
    return counts.reshape(len(values), bins + 1)[:, :bins]


def _bins(samples: Sequence[Sample | None], numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's histogram as bytes, and where zero lies in it."""
    low, high = numbers[:, 0], numbers[:, 1]
    alike: dict[tuple[str, int], dict[int, Sample]] = {}
    for row, sample in enumerate(samples):
        if sample is not None and sample.numel:
            alike.setdefault((sample.format, sample.numel), {})[row] = sample
    counts = np.zeros((len(samples), BINS), dtype=np.int64)
    for group in alike.values():  # many small histograms cost most by their number
        values = np.stack([values_of(sample).ravel() for sample in group.values()])
        rows = list(group)
        counts[rows] = binned(values, low[rows, None], high[rows, None], BINS)
    fullest = np.maximum(counts.max(axis=1, keepdims=True), 1) if len(samples) else 1
    bins = (-(-counts * FULLEST // fullest)).astype(np.uint8)
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.round(-low / 2 / (high / 2 - low / 2) * BINS)
        inside = (low <= 0) & (high >= 0) & (low < high)
    zero = np.where(inside, place, -1).astype(np.int8)
    return bins, zero


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
        lines = [lines[i] for i in _with_ancestors([line.level for line in lines], wanted)]
    labels, names, types, shapes, flags = (_Texts() for _ in range(5))
    entries = [line.call for line in lines]
    key_texts, rows = _keys(log, table.calls, lines)
    state = np.zeros(len(lines), dtype=np.uint8)
    message: dict[str, str] = {}
    tensors = np.full(len(lines), -1, dtype=np.int64)
    counts: list[int | None] = []
    makers, several = table.makers, len(log.networks) > 1
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
            message[str(row)] = table.unfinished(call)
            bits |= STRONG if call == log.raised else 0
            bits |= FAILED_ROW if log.ended[call] == FAILED else 0
        else:
            index = log.main_output(call)
            if index is not None:
                tensors[row] = index
                form = log.form_of(index)
                shape += f" {form.dtype}" if form.dtype != usual_dtype else ""
                shape += f" {form.device}" if form.device != usual_device else ""
                zeros = log.numbers[index * len(NOTHING_KNOWN) + 4]
                words = table.flags(call, zeros, log.unknown.get(index, ""))
            bits |= STRONG if call in makers else 0
            bits |= DIMMED if makers and table.inherits(call) else 0
        bits |= FLAGGED if table.is_flagged(call) else 0
        state[row] = bits
        shapes.add(shape)
        flags.add(", ".join(words))
    numbers = _numbers_of(log, tensors)
    samples = [None if index < 0 else log.samples[index].spread for index in tensors]
    scores = table.scores()
    columns = [
        _text_column("type", "type", "the class of the layer", types),
        _text_column("shape", "shape", "of what it returned, the batch first", shapes),
        _text_column("flags", "flags", "what deserves a look", flags, "flags"),
        *_statistics_columns(numbers, *_bins(samples, numbers)),
    ]
    if params is not None:
        meaning = "distinct ones, of the layer and everything below it"
        columns.insert(2, _number_column("params", "parameters", meaning, counts))
    first = log.first_nonfinite()
    row_of = {call: row for row, call in reversed(list(enumerate(entries)))}
    content = {
        "kind": "trace",
        "static": static,
        "heading": table.heading(),
        "notes": [*table.all_notes(()), *_sampled(log)],
        "noun": "layer",
        "count": len(lines),
        "level": _packed([line.level for line in lines], "u2"),
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
        "steps": _steps(table.steps, view.step),
        "scores": _scores(scores),
        "structure": _structure(trace, table),
        "run": run,
    }
    return Sheet(content, rows, entries)


def _with_ancestors(levels: Sequence[int], wanted: Sequence[bool]) -> list[int]:
    """Return the rows that are wanted, and those that lead to them."""
    parents = parents_of(levels)
    kept: set[int] = set()
    for row in (row for row, is_wanted in enumerate(wanted) if is_wanted):
        step: int | None = row
        while step is not None and step not in kept:
            kept.add(step)
            step = parents[step]
    return sorted(kept)


def _sampled(log: TraceLog) -> list[str]:
    if not log.measured:
        return []
    most = max(log.measured.values())
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
    width = len(NOTHING_KNOWN)
    if not log.numbers or not len(tensors):
        return np.full((len(tensors), width), nan)
    known = np.frombuffer(log.numbers, dtype=np.float64).reshape(-1, width)
    return np.where((tensors >= 0)[:, None], known[tensors], nan)


def _steps(steps: Sequence[int], wanted: int | None) -> Content:
    if not steps:
        return {"first": 0, "last": 0, "every": 1, "count": 0, "shown": 0}
    every = steps[1] - steps[0] if len(steps) > 1 else 1
    shown = wanted if wanted in steps else steps[-1]
    return {
        "first": steps[0],
        "last": steps[-1],
        "every": every,
        "count": len(steps),
        "shown": shown,
    }


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
    if not roots or trace.log.ended[roots[-1]] != FINISHED:
        return ""
    return units.shape(trace.log.shapes[trace.log.output_shape[roots[-1]]])


def summary_sheet(summary: Summary, view: View, *, static: str = "") -> Sheet:
    """Return the rows of a network's structure: in execution order, or as the view sorts them."""
    labels, names, types, outputs, inputs, arguments = (_Texts() for _ in range(6))
    ranked = view.sort is not None or view.top is not None
    drawn = _ranked_layers(summary, view) if ranked else _nested_layers(summary, view)
    state = np.zeros(len(drawn), dtype=np.uint8)
    rows: dict[str, int] = {}
    keys: dict[str, str] = {}
    counts = Counter(summary.rows[line.entry].layer for line in drawn if not line.own)
    seen = Counter[str]()
    for index, line in enumerate(drawn):
        row = summary.rows[line.entry]
        name = row.layer or row.network
        labels.add(line.label)
        names.add(name)
        types.add("Parameter" if line.own else "" if row.type == line.label else row.type)
        shape = units.shape(row.output_shape) if row.call is not None else "not called"
        outputs.add("" if line.own else shape)
        inputs.add("" if line.own else units.shape(row.input_shape))
        arguments.add("" if line.own else row.config)
        if row.call is None:
            state[index] |= DIMMED
        if row.failed and not row.children:
            state[index] |= STRONG | FLAGGED | FAILED_ROW
        key = f"{row.layer} own" if line.own else row.layer
        if not line.own and counts[key] > 1:
            key += f"@{seen[row.layer]}"
            seen[row.layer] += 1
        if key != name:
            keys[str(index)] = key
        rows.setdefault(key, index)
    of = [summary.rows[line.entry] for line in drawn]
    own = [line.own for line in drawn]
    columns = [
        _text_column("type", "type", "the class of the layer", types),
        _text_column("shape", "output shape", "found on the meta device, without a run", outputs),
        _number_column(
            "params",
            "parameters",
            "distinct ones, of the layer and everything below it",
            [row.own_params if o else row.params for row, o in zip(of, own, strict=True)],
        ),
        _number_column(
            "flops",
            "FLOPs",
            "2 for each multiply-add of matrix products, convolutions and attention",
            [None if o else row.flops for row, o in zip(of, own, strict=True)],
        ),
        _number_column(
            "output_bytes",
            "output size",
            "the bytes of the tensors that it returned",
            [None if o else row.output_bytes for row, o in zip(of, own, strict=True)],
            "size",
        ),
        _text_column("input", "input shape", "what the layer got", inputs) | {"hidden": True},
        _text_column("arguments", "arguments", "what the layer was made with", arguments),
    ]
    notes = (*summary.totals(), *summary.notes)
    failed = next((i for i in range(len(state)) if state[i] & FAILED_ROW), -1)
    content = {
        **_frame("summary", "layer", summary.heading, notes, static, len(drawn)),
        "level": _packed([line.level for line in drawn], "u2"),
        "labels": labels.strings,
        "label": labels.packed,
        "names": names.strings,
        "name": names.packed,
        "keys": keys,
        "state": state.tobytes(),
        "opened": view.open_depth,
        "failed": failed,
        "columns": columns,
        "message": {str(failed): "FAILED"} if failed >= 0 else {},
    }
    return Sheet(content, rows, [line.entry for line in drawn])


class _LayerLine(NamedTuple):
    """A layer to draw, or the parameters that a container holds itself."""

    entry: int
    label: str
    level: int
    own: bool = False


def _ranked_layers(summary: Summary, view: View) -> list[_LayerLine]:
    return [
        _LayerLine(entry, summary.rows[entry].layer or summary.rows[entry].network, 0)
        for entry in summary.ranked(view)
    ]


def _nested_layers(summary: Summary, view: View) -> list[_LayerLine]:
    lines: list[_LayerLine] = []
    path: list[str] = []
    for entry, row in enumerate(summary.rows):
        del path[row.depth :]
        above = path[-1] if path and row.call is not None else ""
        path += [row.layer] * (row.depth + 1 - len(path))
        name = row.layer or row.network
        label = name.removeprefix(f"{above}.") if above else name
        lines.append(_LayerLine(entry, label, row.depth))
        if row.children and row.own_params:
            own = f"own: {', '.join(row.names)}"
            lines.append(_LayerLine(entry, own, row.depth + 1, own=True))
    if not view.layers:
        return lines
    wanted = [view.matches(summary.rows[line.entry].layer) for line in lines]
    return [lines[i] for i in _with_ancestors([line.level for line in lines], wanted)]


def params_sheet(params: Params, view: View, *, static: str = "") -> Sheet:
    """Return the parameters below the layers that hold them."""
    labels, names, shapes, dtypes, flags = (_Texts() for _ in range(5))
    levels: list[int] = []
    entries: list[int] = []
    path: list[str] = []
    ranked = view.sort is not None or view.top is not None
    for index in params.shown(view):
        row = params.rows[index]
        *layers, last = [row.name] if ranked else row.name.split(".")
        common = 0
        while common < min(len(path), len(layers)) and path[common] == layers[common]:
            common += 1
        path = layers
        for level in range(common, len(layers)):
            labels.add(layers[level])
            names.add(".".join(layers[: level + 1]))
            for texts in (shapes, dtypes, flags):
                texts.add("")
            levels.append(level)
            entries.append(-1)
        labels.add(last)
        names.add(row.name)
        shapes.add(units.shape(row.shape))
        dtypes.add(row.tensor.dtype)
        flags.add(", ".join(params.flags(row)))
        levels.append(len(layers))
        entries.append(index)
    records = [None if entry < 0 else params.rows[entry] for entry in entries]
    numbers = np.array([_numbers(record) for record in records]).reshape(len(records), -1)
    samples = [None if record is None else record.tensor.spread for record in records]
    found = [names.strings[i] for i in names.index]
    counts = [_total(params, found[i]) if r is None else r.count for i, r in enumerate(records)]
    shares = [count / params.total if params.total else nan for count in counts]
    state = np.zeros(len(records), dtype=np.uint8)
    for i, record in enumerate(records):
        if record is not None and (record.nan or record.inf):
            state[i] = FLAGGED | STRONG
    columns = [
        _text_column("shape", "shape", "the shape of the tensor", shapes),
        _number_column("count", "count", "how many values; a tied one counts once", counts),
        _number_column("percent", "share", "of all values", shares, "percent"),
        _text_column("flags", "flags", "what deserves a look", flags, "flags"),
        *(_statistics_columns(numbers, *_bins(samples, numbers)) if len(records) else []),
        _text_column("dtype", "dtype", "the type of one value", dtypes) | {"hidden": True},
    ]
    content = {
        **_frame("params", params.noun, params.heading, (), static, len(records)),
        "level": _packed(levels, "u2"),
        "labels": labels.strings,
        "label": labels.packed,
        "names": names.strings,
        "name": names.packed,
        "keys": {},
        "state": state.tobytes(),
        "opened": view.open_depth,
        "failed": -1,
        "columns": columns,
        "message": {},
    }
    rows: dict[str, int] = {}
    for i, name in enumerate(found):
        rows.setdefault(name, i)
    return Sheet(content, rows, entries)


def _total(params: Params, holder: str) -> int:
    """Return the number of values below a layer, a tied parameter counted at its first name."""
    below = (row for row in params.rows if row.name.startswith(f"{holder}."))
    return sum(row.count for row in below if row.tied_to is None)


def _numbers(record: OfTensor | None) -> list[float]:
    if record is None:
        return list(NOTHING_KNOWN)
    known = (getattr(record.main, name) for name in NOTHING_KNOWN._fields)
    return [nan if value is None else float(value) for value in known]


def _frame(
    kind: str, noun: str, heading: str, notes: Sequence[str], static: str, count: int
) -> Content:
    return {
        "kind": kind,
        "static": static,
        "heading": heading,
        "notes": list(notes),
        "noun": noun,
        "count": count,
        "first_nonfinite": -1,
        "steps": _steps((), None),
        "scores": None,
        "structure": "",
        "run": None,
    }
