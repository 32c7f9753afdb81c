"""A table laid out on lines of fixed-width text, and the glyphs of a histogram."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nnmagic.display.table import Cell, Histogram, Pair, Row, Table
from nnmagic.display.units import printable

GAP = "  "
SHORTEST_LABEL = 16


@dataclass(frozen=True, slots=True)
class Aligned:
    """A table's header and rows as lines in which every column stands at the same place."""

    header: str
    lines: tuple[str, ...]
    stems: tuple[str, ...] = field(repr=False)
    """For each row, the branches that continue below it: what its details stand behind."""


def width_of(text: str) -> int:
    """Return how many places of a fixed-width font the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def clipped(text: str, width: int) -> str:
    """Return the text, its end replaced by an ellipsis where it is wider than the width."""
    if width_of(text) <= width:
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


def aligned(table: Table, draw: Callable[[Histogram], str], width: int | None = None) -> Aligned:
    """Lay the table out on lines of at most `width` places; None is as wide as needed.

    Args:
        table: the table.
        draw: makes a histogram's glyphs, always the same number of them.
        width: where it is too small, columns go by rank, then labels and columns are cut.
    """
    branches, stems = _branches([row.level for row in table.rows], drawn=table.tree)
    labels = [stem + printable(row.label) for stem, row in zip(branches, table.rows, strict=True)]
    texts = [_column_texts(table.rows, i, draw) for i in range(len(table.columns))]
    widths = [
        max([width_of(column.title), *map(width_of, cells)])
        for column, cells in zip(table.columns, texts, strict=True)
    ]
    label_width = max([width_of(table.label.title), *map(width_of, labels)])
    shown = [i for i, cells in enumerate(texts) if any(cells) or not table.rows]
    if width is not None:
        shown, widths, label_width = _fitted(table, shown, widths, label_width, width)

    def line(label: str, cells: Sequence[str], message: str = "") -> str:
        parts = [padded(clipped(label, label_width), label_width)]
        for i in shown:
            if message and i > 0:
                break
            cell = clipped(cells[i], widths[i])
            parts.append(padded(cell, widths[i], right=table.columns[i].right))
        text = GAP.join([*parts, printable(message)] if message else parts).rstrip()
        return text if width is None else clipped(text, width)

    return Aligned(
        line(table.label.title, [column.title for column in table.columns]),
        tuple(
            line(label, [cells[i] for cells in texts], row.message)
            for i, (label, row) in enumerate(zip(labels, table.rows, strict=True))
        ),
        tuple(stems),
    )


def _fitted(
    table: Table, shown: list[int], widths: list[int], label_width: int, width: int
) -> tuple[list[int], list[int], int]:
    widths = list(widths)

    def least(i: int) -> int:
        shortest = table.columns[i].least
        return widths[i] if shortest is None else min(widths[i], shortest)

    def needed(label: int) -> int:
        return label + sum(len(GAP) + least(i) for i in shown)

    shortest = min(label_width, SHORTEST_LABEL)
    while needed(label_width) > width:
        ranked = [i for i in shown if table.columns[i].rank]
        if not ranked:
            break
        shown = [i for i in shown if i != max(ranked, key=lambda i: table.columns[i].rank)]
    label_width = max(shortest, min(label_width, width - needed(0)))
    room = width - needed(label_width)
    for i in shown:
        more = max(0, min(room, widths[i] - least(i)))
        widths[i] = least(i) + more
        room -= more
    return shown, widths, label_width


def _column_texts(rows: Sequence[Row], column: int, draw: Callable[[Histogram], str]) -> list[str]:
    cells = [row.cells[column] if column < len(row.cells) else None for row in rows]
    pairs = [cell for cell in cells if isinstance(cell, Pair)]
    left = max((width_of(pair.left) for pair in pairs), default=0)
    right = max((width_of(pair.right) for pair in pairs), default=0)

    def text(cell: Cell) -> str:
        if cell is None:
            return ""
        if isinstance(cell, Histogram):
            return draw(cell)
        if isinstance(cell, Pair):
            joiner = cell.joiner if cell.right else " " * len(cell.joiner)
            first, last = padded(cell.left, left, right=True), padded(cell.right, right, right=True)
            return f"{first} {joiner} {last}"
        return printable(cell)

    return [text(cell) for cell in cells]


def _branches(levels: Sequence[int], *, drawn: bool) -> tuple[list[str], list[str]]:
    """Return for each row the branch that leads to it, and the one that its details stand behind.

    Rows of level 0 are roots and have no branch.
    """
    if not drawn:
        return [""] * len(levels), [""] * len(levels)
    following: list[bool] = []  # for each level, whether another row of that level follows
    lasts = [False] * len(levels)
    for i in range(len(levels) - 1, -1, -1):
        level = levels[i]
        following += [False] * (level + 1 - len(following))
        lasts[i] = not following[level]
        following[level] = True
        del following[level + 1 :]
    leads, stems = [], []
    open_levels: list[str] = []
    for i, level in enumerate(levels):
        del open_levels[max(level - 1, 0) :]
        open_levels += ["   "] * (level - 1 - len(open_levels))
        before = "".join(open_levels)
        has_children = i + 1 < len(levels) and levels[i + 1] > level
        if level == 0:
            lead, stem = "", ""
        else:
            lead = before + ("└─ " if lasts[i] else "├─ ")
            stem = before + ("   " if lasts[i] else "│  ")
            open_levels.append("   " if lasts[i] else "│  ")
        leads.append(lead)
        stems.append(stem + ("│  " if has_children else "   "))
    return leads, stems


BARS = " ▁▂▃▄▅▆▇█"
TICK = "|"


def histogram_glyphs(histogram: Histogram) -> str:
    """Return a bar for each bin, the fullest one the tallest, and a tick where zero lies."""
    most = max(histogram.counts, default=0)
    bars = [
        BARS[0] if count == 0 else BARS[1 + (count * (len(BARS) - 2)) // most]
        for count in histogram.counts
    ]
    zero = histogram.zero
    if zero is None:
        return "".join(bars) + " "
    return "".join(bars[:zero]) + TICK + "".join(bars[zero:])
