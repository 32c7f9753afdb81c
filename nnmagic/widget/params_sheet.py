"""The rows of a network's parameters for the widget."""

from collections import Counter
from math import nan

import numpy as np

from nnmagic.display import units
from nnmagic.records.params import GRADIENT, Params
from nnmagic.records.record import View
from nnmagic.records.tensor import NOTHING_KNOWN, OfTensor
from nnmagic.widget.sheet import (
    FLAGGED,
    STRONG,
    Content,
    Sheet,
    Texts,
    bins_of,
    frame_of,
    number_column,
    packed,
    statistics_columns,
    text_column,
)


def params_sheet(params: Params, view: View, *, static: str = "") -> Sheet:
    """Return the parameters below the layers that hold them."""
    labels, names, shapes, dtypes, flags = (Texts() for _ in range(5))
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
    numbers = np.array([_numbers(record) for record in records]).reshape(-1, len(NOTHING_KNOWN))
    samples = [None if record is None else record.tensor.spread for record in records]
    found = [names.strings[i] for i in names.index]
    totals = _totals(params)
    counts = [totals[found[i]] if r is None else r.count for i, r in enumerate(records)]
    shares = [count / params.total if count and params.total else count for count in counts]
    norms = [None if record is None else record.grad_norm for record in records]
    state = np.zeros(len(records), dtype=np.uint8)
    for i, record in enumerate(records):
        if record is not None and (record.nan or record.inf):
            state[i] = FLAGGED | STRONG
    columns = [
        text_column("shape", "shape", "the shape of the tensor", shapes),
        number_column("count", "count", "how many values; a tied one counts once", counts),
        number_column("percent", "share", "of all values", shares, "percent"),
        *([_gradient_column(norms)] if params.graded else []),
        text_column("flags", "flags", "what deserves a look", flags, "flags"),
        *(statistics_columns(numbers, *bins_of(samples, numbers)) if len(records) else []),
        text_column("dtype", "dtype", "the type of one value", dtypes) | {"hidden": True},
    ]
    notes = params.notes
    content = {
        **frame_of("params", params.noun, params.heading, notes, static, len(records)),
        "level": packed(levels, "u2"),
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


def _gradient_column(norms: list[float | None]) -> Content:
    return number_column("grad_norm", GRADIENT.title, GRADIENT.meaning, norms, "number")


def _totals(params: Params) -> Counter[str]:
    """Return how many values each layer holds below it, a tied parameter at its first name."""
    totals = Counter[str]()
    for row in params.rows:
        holder = row.name
        while row.tied_to is None and "." in holder:
            holder = holder.rpartition(".")[0]
            totals[holder] += row.count or 0
    return totals


def _numbers(record: OfTensor | None) -> list[float]:
    if record is None:
        return list(NOTHING_KNOWN)
    known = (getattr(record.main, name) for name in NOTHING_KNOWN._fields)
    return [nan if value is None else float(value) for value in known]
