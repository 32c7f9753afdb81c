"""A table between records and media: typed cells, a tree of rows, and their alignment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace


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
