"""The rows of a network's structure for the widget."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from nnmagic.display import units
from nnmagic.records.record import View
from nnmagic.records.summary import Summary, label_of
from nnmagic.widget.sheet import (
    DIMMED,
    FAILED_ROW,
    FLAGGED,
    STRONG,
    Sheet,
    Texts,
    frame_of,
    number_column,
    packed,
    text_column,
    with_ancestors,
)


def summary_sheet(summary: Summary, view: View, *, static: str = "") -> Sheet:
    """Return the rows of a network's structure: in execution order, or as the view sorts them."""
    labels, names, types, outputs, inputs, weights, arguments = (Texts() for _ in range(7))
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
        weights.add("" if line.own else row.weights)
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
        text_column("type", "type", "the class of the layer", types),
        text_column("shape", "output shape", summary.shapes_from, outputs),
        number_column(
            "params",
            "parameters",
            "distinct ones, of the layer and everything below it",
            [row.own_params if o else row.params for row, o in zip(of, own, strict=True)],
        ),
        number_column(
            "flops",
            "FLOPs",
            f"2 for each multiply-add {summary.counted}",
            [None if o else row.flops for row, o in zip(of, own, strict=True)],
        ),
        number_column(
            "output_bytes",
            "output size",
            "the bytes of the tensors that it returned",
            [None if o else row.output_bytes for row, o in zip(of, own, strict=True)],
            "size",
        ),
        text_column("input", "input shape", "what the layer got", inputs) | {"hidden": True},
        *(
            [text_column("weights", "weights", "tied, packed, parametrised or pruned", weights)]
            if any(row.forms for row in of)
            else []
        ),
        text_column("arguments", "arguments", "what the layer was made with", arguments),
    ]
    notes = (*summary.totals(), *summary.notes)
    failed = next((i for i in range(len(state)) if state[i] & FAILED_ROW), -1)
    content = {
        **frame_of("summary", "layer", summary.heading, notes, static, len(drawn)),
        "level": packed([line.level for line in drawn], "u2"),
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
    of_one = summary.is_of_one
    for entry, row in enumerate(summary.rows):
        del path[row.depth :]
        above = path[-1] if path and row.call is not None else None
        path += [row.layer] * (row.depth + 1 - len(path))
        lines.append(_LayerLine(entry, label_of(row, above, of_one=of_one), row.depth))
        if row.children and row.own_params:
            own = f"own: {', '.join(row.names)}"
            lines.append(_LayerLine(entry, own, row.depth + 1, own=True))
    if not view.layers:
        return lines
    wanted = [view.matches(summary.rows[line.entry].layer) for line in lines]
    return [lines[i] for i in with_ancestors([line.level for line in lines], wanted)]
