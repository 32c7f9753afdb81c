"""The widget's table: columns as arrays, packed for the browser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from nnmagic.display import units
from nnmagic.display.table import Histogram, parents_of
from nnmagic.records.tensor import Sample

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


class Texts:
    """A column of texts without repeats."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.index: list[int] = []

    def add(self, text: str) -> None:
        """Add the text of one more row."""
        self.index.append(self.seen.setdefault(text, len(self.seen)))

    @property
    def strings(self) -> list[str]:
        """The different texts, in the order in which they came."""
        return [units.printable(text) for text in self.seen]

    @property
    def packed(self) -> bytes:
        """The number of each row's text, as bytes."""
        return packed(self.index, "u4")


def packed(values: Any, form: str) -> bytes:
    """Return the bytes of an array of this form, little-endian."""
    return np.asarray(values, dtype=f"<{form}").tobytes()


def text_column(key: str, title: str, meaning: str, texts: Texts, kind: str = "text") -> Content:
    """Return a column of texts."""
    return {
        **_head(key, title, meaning, kind),
        "strings": texts.strings,
        "index": texts.packed,
    }


def _head(key: str, title: str, meaning: str, kind: str, *, hidden: bool = False) -> Content:
    return {"key": key, "title": title, "meaning": meaning, "kind": kind, "hidden": hidden}


def number_column(
    key: str, title: str, meaning: str, values: Any, kind: str = "count", *, hidden: bool = False
) -> Content:
    """Return a column of numbers, None where one is unknown."""
    form = "f4" if kind == "percent" else "f8"
    values = [nan if value is None else value for value in values]
    return {
        **_head(key, title, meaning, kind, hidden=hidden),
        "values": packed(values, form),
    }


def pair_column(
    key: str, title: str, meaning: str, first: np.ndarray, second: np.ndarray, joiner: str
) -> Content:
    """Return a column of two numbers a row, NaN where one is unknown."""
    return {
        **_head(key, title, meaning, "pair"),
        "first": packed(first, "f8"),
        "second": packed(second, "f8"),
        "joiner": joiner,
    }


def statistics_columns(numbers: np.ndarray, bins: np.ndarray, zero: np.ndarray) -> list[Content]:
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
        pair_column("mean", "mean ± std", "over the finite values; correction 1", mean, std, "±"),
        pair_column(
            "range", "min … max", "the least and the greatest finite value", low, high, "…"
        ),
        {
            **_head("zeros", "zeros", "the share of values that are exactly 0", "percent"),
            "values": packed(zeros, "f4"),
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


def bins_of(samples: Sequence[Sample | None], numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def with_ancestors(levels: Sequence[int], wanted: Sequence[bool]) -> list[int]:
    """Return the rows that are wanted, and those that lead to them."""
    parents = parents_of(levels)
    kept: set[int] = set()
    for row in (row for row, is_wanted in enumerate(wanted) if is_wanted):
        step: int | None = row
        while step is not None and step not in kept:
            kept.add(step)
            step = parents[step]
    return sorted(kept)


def steps_of(steps: Sequence[int], wanted: int | None) -> Content:
    """Return what the slider of the recorded steps shows."""
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


def frame_of(
    kind: str, noun: str, heading: str, notes: Sequence[str], static: str, count: int
) -> Content:
    """Return what a content holds around its rows where nothing was run."""
    return {
        "kind": kind,
        "static": static,
        "heading": heading,
        "notes": list(notes),
        "noun": noun,
        "count": count,
        "first_nonfinite": -1,
        "steps": steps_of((), None),
        "scores": None,
        "structure": "",
        "run": None,
    }
