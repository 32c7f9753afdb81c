"""A table laid out on lines of fixed-width text."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nnmagic.display import units
from nnmagic.display.error_glyphs import error_glyphs
from nnmagic.display.histogram_glyphs import histogram_glyphs
from nnmagic.display.lane_glyphs import lane_glyphs
from nnmagic.display.table import (
    LONGEST_LINE,
    TEXT_KINDS,
    Cell,
    Column,
    Histogram,
    Lanes,
    Noted,
    RelativeError,
    Row,
    Table,
    TensorShape,
)

GAP = "  "
SHORTEST_LABEL = 16


@dataclass(frozen=True, slots=True)
class Aligned:
    """A table's header and rows as lines in which every column stands at the same place."""

    header: str
    lines: tuple[str, ...]
    stems: tuple[str, ...] = field(repr=False)
    """For each row, the branches that continue below it: what its details stand behind."""
    left: tuple[str, ...] = ()
    """The titles of the columns for which there was no room."""


@lru_cache(8192)  # a display lays the same texts out several times, until they fit
def width_of(text: str) -> int:
    """Return how many places of a fixed-width font the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def clipped(text: str, width: int | None) -> str:
    """Return the text, its end replaced by an ellipsis where it is wider than the width, if any."""
    if width is None or width_of(text) <= width:
        return text
    kept, room = [], width - 1
    for character in text:
        room -= width_of(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return the text filled up with spaces to the width."""
    spaces = " " * (width - width_of(text))
    return spaces + text if right else text + spaces


def aligned(table: Table, width: int | None = None) -> Aligned:
    """Lay the table out on lines of at most `width` places; None is as wide as needed.

    Where the width is too small, columns leave by priority; if those that always stay do not fit
    either, long texts end in an ellipsis. A column without any cell takes no room.
    """
    branches, stems = _branches([row.level for row in table.rows])
    labels = [
        stem + units.printable(row.label) for stem, row in zip(branches, table.rows, strict=True)
    ]
    columns = [_LaidOut(column, table) for column in table.columns if not column.extra]
    shown = [column for column in columns if any(column.texts) or not table.rows]
    label_width = max([width_of(table.title), *map(width_of, labels)])
    left: list[str] = []
    if width is not None:
        shown, left, label_width = _fitted(shown, label_width, width)

    def line(label: str, cells: Sequence[str], row: Row | None = None) -> str:
        parts = [padded(clipped(label, label_width), label_width)]
        is_message = row is not None and row.message
        for column, cell in zip(shown, cells, strict=True):
            if is_message and not column.column.always:
                break
            text = clipped(cell, column.width)
            parts.append(padded(text, column.width, right=column.is_right))
        if row is not None and is_message:
            parts.append(units.printable(row.message))
        return clipped(GAP.join(parts).rstrip(), width)

    return Aligned(
        line(table.title, [column.column.title for column in shown]),
        tuple(
            line(label, [column.texts[i] for column in shown], row)
            for i, (label, row) in enumerate(zip(labels, table.rows, strict=True))
        ),
        tuple(stems),
        tuple(left),
    )


class _LaidOut:
    """A column with its cells as texts, and the room that it takes."""

    def __init__(self, column: Column, table: Table) -> None:
        self.column = column
        self.is_right = column.kind not in (*TEXT_KINDS, "histogram", "lanes")
        cells = table.cells(column.key)
        if column.kind == "pair":
            self.texts = _pair_texts(cells, column.joiner)
        elif column.kind == "lanes":
            self.texts = lane_glyphs([cell for cell in cells if isinstance(cell, Lanes)])
        else:
            self.texts = [cell_text(column, cell) for cell in cells]
        self.width = max([width_of(column.title), *map(width_of, self.texts)])
        shortest = self.width if column.narrowest is None else column.narrowest
        self.least = min(self.width, shortest)


def cell_text(column: Column, cell: Cell) -> str:
    """Return what a cell says; the numbers of a pair stand one after the other."""
    match cell:
        case None:
            return units.UNKNOWN if column.kind in ("count", "bytes") else ""
        case str():
            return units.printable(cell)
        case Noted(number, words):
            return f"{units.numbers(number)[0]}, {units.printable(words)}"
        case RelativeError(number):
            return f"{error_glyphs(cell)} {units.error(number):>7}".strip()
        case TensorShape(shape, odd):
            return f"{units.cut(units.shape(shape), LONGEST_LINE)} {odd}".rstrip()
        case Histogram():
            return histogram_glyphs(cell)
        case Lanes():
            return ""
        case tuple():
            return f" {column.joiner} ".join(filter(None, units.pair(*cell)))
    return WRITERS[column.kind](cell)


WRITERS: dict[str, Callable[[Any], str]] = {
    "count": units.count,
    "bytes": units.size,
    "share": units.percent,
    "error": units.error,
    "number": lambda number: units.numbers(number)[0],
}


def _pair_texts(cells: Sequence[Cell], joiner: str) -> list[str]:
    pairs = [units.pair(*cell) if isinstance(cell, tuple) else ("", "") for cell in cells]
    left, right = (max((len(pair[side]) for pair in pairs), default=0) for side in (0, 1))
    return [
        f"{first:>{left}} {joiner if last else ' '} {last:>{right}}" if first or last else ""
        for first, last in pairs
    ]


def _fitted(
    shown: list[_LaidOut], label_width: int, width: int
) -> tuple[list[_LaidOut], list[str], int]:
    left: list[str] = []

    def needed() -> int:
        return sum(len(GAP) + each.least for each in shown)

    while label_width + needed() > width:
        least = max(shown, key=lambda each: each.column.priority, default=None)
        if least is None or not least.column.priority:
            break
        left.append(least.column.title)
        shown = [each for each in shown if each is not least]
    label_width = max(min(label_width, SHORTEST_LABEL), min(label_width, width - needed()))
    room = width - label_width - needed()
    for each in shown:
        more = max(0, min(room, each.width - each.least))
        each.width = each.least + more
        room -= more
    return shown, left, label_width


def _branches(levels: Sequence[int]) -> tuple[list[str], list[str]]:
    """Return for each row the branch that leads to it, and the one that its details stand behind.

    Rows of level 0 are roots and have no branch.
    """
    branches, stems = [], []
    following: list[bool] = []  # for each level, whether another row of that level follows
    for i in range(len(levels) - 1, -1, -1):
        level = levels[i]
        del following[level + 1 :]
        following += [False] * (level + 1 - len(following))
        before = "".join("│  " if follows else "   " for follows in following[1:level])
        branch, stem = ("├─ ", "│  ") if following[level] else ("└─ ", "   ")
        has_children = i + 1 < len(levels) and levels[i + 1] > level
        branches.append(before + branch if level else "")
        stems.append((before + stem if level else "") + ("│  " if has_children else "   "))
        following[level] = True
    return branches[::-1], stems[::-1]
