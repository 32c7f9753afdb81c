"""A table between records and media: typed cells, a tree of rows, and their alignment."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from nnmagic.units import printable

GAP = "  "
SHORTEST_LABEL = 16


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fall into bins of equal width between their least and their greatest.

    Attributes:
        counts: how many values each bin holds, lowest bin first.
        low: the lower end of the first bin.
        high: the upper end of the last bin.
    """

    counts: tuple[int, ...]
    low: float
    high: float

    BINS = 10

    @classmethod
    def of(cls, values: Iterable[float], low: float, high: float) -> "Histogram":
        """Count the values within low..high; the rest, NaN included, is left out."""
        counts = [0] * cls.BINS
        for value in values:
            if low <= value <= high:
                place = int(_part(value, low, high) * cls.BINS)
                counts[min(place, cls.BINS - 1)] += 1
        return cls(tuple(counts), low, high)

    @property
    def zero(self) -> int | None:
        """The number of bins below zero, or None where zero is outside the range."""
        if not self.low <= 0 <= self.high or self.low == self.high:
            return None
        return round(_part(0.0, self.low, self.high) * len(self.counts))


def _part(value: float, low: float, high: float) -> float:
    """Return where a value lies between two others, in 0..1; halves, so that nothing overflows."""
    width = high / 2 - low / 2
    return (value / 2 - low / 2) / width if width > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two numbers that are read together (mean ± std), each aligned with those above it."""

    left: str
    joiner: str
    right: str


Cell = str | Histogram | Pair | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its title, what it means, and what becomes of it where room is short.

    Attributes:
        right: whether its text is aligned on the right.
        rank: 0 for a column that always stays; of the others the highest goes first.
        least: how narrow its text may be cut where room is short; None is never cut.
    """

    title: str
    meaning: str = ""
    right: bool = False
    rank: int = 0
    least: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table, and what can be opened below it.

    Attributes:
        label: the text of the tree's column.
        level: how deep it stands in the tree; a row's children follow it with a higher level.
        cells: one cell a column; fewer are filled up with empty ones.
        message: a text that stands in place of the cells from the second column on.
        details: lines that explain the row, shown below it when it is opened.
        opened: whether the rows below it are shown at first.
        dimmed: whether it is context only.
        strong: whether it is what the reader should see first.
    """

    label: str
    level: int = 0
    cells: tuple[Cell, ...] = ()
    message: str = ""
    details: tuple[str, ...] = ()
    opened: bool = True
    dimmed: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a record shows: a heading, a tree of rows, notes.

    Attributes:
        tree: whether the rows' levels are drawn as branches.
        show_details: whether every medium shows the rows' details at once.
    """

    heading: str
    label: Column
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    tree: bool = True
    show_details: bool = False


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


def bounded(levels: Sequence[int], needed: Iterable[int], limit: int) -> list[int]:
    """Return at most `limit` rows' indices: the needed ones with their ancestors, then by level.

    A needed row whose ancestors do not fit is left out.
    """
    if len(levels) <= limit:
        return list(range(len(levels)))
    parents = parents_of(levels)
    kept: set[int] = set()
    for row in needed:
        path: list[int] = []
        step: int | None = row
        while step is not None and step not in kept:
            path.append(step)
            step = parents[step]
        if len(kept) + len(path) <= limit:
            kept.update(path)
    for row in sorted(range(len(levels)), key=levels.__getitem__):
        if len(kept) >= limit:
            break
        kept.add(row)
    return sorted(kept)


def parents_of(levels: Sequence[int]) -> list[int | None]:
    """Return the index of each row's parent: the nearest earlier row of a lower level."""
    parents: list[int | None] = []
    path: list[int] = []
    for i, level in enumerate(levels):
        while path and levels[path[-1]] >= level:
            path.pop()
        parents.append(path[-1] if path else None)
        path.append(i)
    return parents


def with_ancestors(
    rows: Sequence[Row], keep: Callable[[int], bool], *, always: Callable[[int], bool]
) -> tuple[Row, ...]:
    """Return the rows to keep and, dimmed and without cells, the ancestors that lead to them."""
    parents = parents_of([row.level for row in rows])
    wanted = {i for i in range(len(rows)) if keep(i) or always(i)}
    context: set[int] = set()
    for i in wanted:
        step = parents[i]
        while step is not None and step not in context:
            context.add(step)
            step = parents[step]
    return tuple(
        row if i in wanted else replace(row, cells=row.cells[:1], dimmed=True)
        for i, row in enumerate(rows)
        if i in wanted or i in context
    )
