"""A table as the arrays that a widget's page draws, every row of it."""

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, cast

from nnmagic.contexts import without_garbage_collection
from nnmagic.display.lines import cell_text
from nnmagic.display.messages import ColumnContent, PageMessage, SheetContent
from nnmagic.display.table import (
    TEXT_KINDS,
    Cell,
    Column,
    Histogram,
    Lanes,
    Noted,
    RelativeError,
    Row,
    State,
    Table,
)
from nnmagic.display.units import printable

FULLEST = 255
"""How tall the tallest bar is."""

CELLS = ("values", "bounds", "first", "second", "zero", "edges", "strings", "index", "texts")
"""The fields of a column that hold cells."""

CHANGING = (
    *("heading", "notes", "state", "message", "scores", "structure", "steps"),
    *("losses", "findings", "first", "failed"),
)
"""What besides can differ between sheets with the same rows."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table's rows for the page.

    Attributes:
        content: what is sent: texts, and arrays as bytes, little-endian.
        rows: the row of each key, by which a row is selected.
        subjects: what each row is about.
    """

    content: SheetContent
    rows: Mapping[str, int]
    subjects: Sequence[Any]

    def has_rows_of(self, other: "Sheet") -> bool:
        """Tell whether the rows are the same, so that only their numbers can differ."""
        return self._fixed() == other._fixed()

    def _fixed(self) -> list[Any]:
        columns = [
            column if column["kind"] == "text" else (column["key"], column["kind"])
            for column in self.content["columns"]
        ]
        return [columns, {k: v for k, v in self.content.items() if k not in (*CHANGING, "columns")}]

    def numbers(self) -> tuple[PageMessage, list[bytes]]:
        """Return a message with all that can differ between sheets with the same rows."""
        buffers: list[bytes] = []

        def placed(value: Any) -> Any:
            if not isinstance(value, bytes):
                return value
            buffers.append(value)
            return len(buffers) - 1

        columns = {
            column["key"]: {name: placed(each) for name, each in column.items() if name in CELLS}
            for column in self.content["columns"]
            if column["kind"] != "text"
        }
        changing = {name: placed(self.content.get(name)) for name in CHANGING}
        message = {"tell": "values", "columns": columns, **changing}
        return cast("PageMessage", message), buffers


@without_garbage_collection
def sheet_of(table: Table, *, static: str = "", run: Any = None) -> Sheet:
    """Return the arrays of a table.

    Args:
        table: the table.
        static: the mark of the static table that the widget stands for.
        run: what the page may ask to be run again.
    """
    rows = table.rows
    labels, label = _packed_texts([row.label for row in rows])
    names, name = _packed_texts([row.name for row in rows])
    keys = _keys(rows)
    content: SheetContent = {
        "static": static,
        "heading": table.heading,
        "notes": [note for note in table.notes if note not in table.static_notes],
        "title": table.title,
        "count": len(rows),
        "level": _packed("H", [row.level for row in rows]),
        "labels": labels,
        "label": label,
        "names": names,
        "name": name,
        "keys": {str(i): key for i, key in enumerate(keys) if key != rows[i].name},
        "state": bytes(row.state for row in rows),
        "opened": table.open_levels,
        "flat": table.flat,
        "noun": table.noun,
        "total": table.total,
        "first": _place(rows, State.FIRST),
        "first_name": table.first[0],
        "first_meaning": table.first[1],
        "failed": _place(rows, State.FAILED | State.STRONG),
        "columns": [_column_content(column, table.cells(column.key)) for column in table.columns],
        "message": {str(i): row.message for i, row in enumerate(rows) if row.message},
        "run": run,
        **table.beside,  # type: ignore[typeddict-item]
    }
    places = {key: i for i, key in reversed(list(enumerate(keys)))}
    return Sheet(content, places, [row.subject for row in rows])


def _keys(rows: Sequence[Row]) -> list[str]:
    """Return what each row is selected by; of several with one key each has its number behind."""
    keys = [row.name if row.key is None else row.key for row in rows]
    counts, seen = Counter(keys), Counter[str]()
    for i, (key, row) in enumerate(zip(keys, rows, strict=True)):
        if counts[key] > 1 and not row.state & State.MANY_CALLS:
            keys[i] = f"{key}@{seen[key]}"
            seen[key] += 1
    return keys


def _place(rows: Sequence[Row], bits: int) -> int:
    return next((i for i, row in enumerate(rows) if row.state & bits == bits), -1)


def _column_content(column: Column, cells: Sequence[Cell]) -> ColumnContent:
    content: ColumnContent = {
        "key": column.key,
        "title": column.title,
        "meaning": column.meaning,
        "kind": "text" if column.kind == "shape" else column.kind,
        "always": column.always,
        "hidden": column.hidden,
        "priority": column.priority,
        "narrowest": column.narrowest,
    }
    if column.kind in TEXT_KINDS:
        content["strings"], content["index"] = _packed_texts(
            [cell if isinstance(cell, str) else cell_text(column, cell) for cell in cells]
        )
    elif column.kind == "pair":
        pairs: list[Any] = [cell if isinstance(cell, tuple) else (None, None) for cell in cells]
        content["joiner"] = column.joiner
        content["first"], content["second"] = (
            _packed("d", [nan if pair[side] is None else pair[side] for pair in pairs])
            for side in (0, 1)
        )
        content["texts"] = {
            str(i): cell_text(column, pair)
            for i, pair in enumerate(pairs)
            if isinstance(pair[0], int)
        }
    elif column.kind == "histogram":
        content["values"] = b"".join(map(_bars, cells))
        zeros = [cell.zero if isinstance(cell, Histogram) else None for cell in cells]
        content["zero"] = _packed("b", [-1 if zero is None else zero for zero in zeros])
    elif column.kind == "lanes":
        lanes = [cell if isinstance(cell, Lanes) else Lanes() for cell in cells]
        makers = [-1 if each.unchanged is None else each.unchanged for each in lanes]
        content["values"] = _packed("i", makers)
        pairs = [(source, row) for row, each in enumerate(lanes) for source in each.sources]
        content["edges"] = _packed("I", [end for pair in pairs for end in pair])
    else:
        numbers = [cell if type(cell) is float else _number(cell) for cell in cells]
        if any(isinstance(cell, RelativeError) for cell in cells):
            bounds = [getattr(cell, "bound", None) or nan for cell in cells]
            content["bounds"] = _packed("d", bounds)
        content["values"] = _packed("f" if column.kind == "share" else "d", numbers)
        content["texts"] = {
            str(i): cell_text(column, cell)
            for i, (cell, number) in enumerate(zip(cells, numbers, strict=True))
            if (isnan(number) or isinstance(cell, Noted)) and cell != ""
        }
    return content


def _number(cell: Cell) -> float:
    """Return the number that a cell is sorted by; NaN where there is none."""
    if isinstance(cell, Noted | RelativeError):
        return cell.number
    return cell if isinstance(cell, int | float) else nan


def _bars(cell: Cell) -> bytes:
    if not isinstance(cell, Histogram):
        return bytes(Histogram.BINS)
    top = cell.top
    return bytes([-(-count * FULLEST // top) for count in cell.counts])


def _packed(code: str, numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


def _packed_texts(texts: Sequence[str]) -> tuple[list[str], bytes]:
    """Return the different texts, and the number of each row's text."""
    seen: dict[str, int] = {}
    index = [seen.setdefault(text, len(seen)) for text in texts]
    return [printable(text) for text in seen], _packed("I", index)
