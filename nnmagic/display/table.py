"""The table between a record and what shows it: typed columns, a tree of rows, notes.

A record makes one `Table`; `text`, `html` and `sheet` (the widget's arrays) draw it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from nnmagic.display.units import Shape, cut, plural


class State:
    """The bits of a row's state: plain integers, since a table may have 20,000 rows.

    Attributes:
        STRONG: what the reader should see first.
        DIMMED: less important.
        FLAGGED: deserves a look, and is shown however deep.
        FAILED: ended by an exception, shown likewise.
        MANY_CALLS: stands for the rows below it, which are folded.
        CONTEXT: only leads to other rows, and has cells in the columns only that always have some.
        GROUP: only adds up, or leads to, the rows below it, and is not counted.
        FIRST: what `Table.first` names: where NaN or Inf arose first.
    """

    STRONG, DIMMED, FLAGGED, FAILED, MANY_CALLS, CONTEXT, GROUP, FIRST = (1 << i for i in range(8))


Kind = Literal[
    "text",
    "flags",
    "shape",
    "count",
    "bytes",
    "share",
    "number",
    "error",
    "pair",
    "histogram",
    "lanes",
]

TEXT_KINDS = ("text", "flags", "shape")


LONGEST_CELL = 200
"""How many characters a text has in a cell; a user's own `extra_repr` may have millions."""

LONGEST_LINE = 2000
"""How many a heading or a note has."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fall into bins of equal width between their least and their greatest.

    Attributes:
        counts: how many values each bin holds, lowest bin first.
        low: the lower end of the first bin.
        high: the upper end of the last bin.
        least_top: the tallest bar stands for at least so many values.
    """

    counts: tuple[int, ...]
    low: float
    high: float
    least_top: int = 1

    BINS = 10

    @property
    def top(self) -> int:
        """How many values the tallest bar stands for."""
        return max(self.least_top, *self.counts)

    @property
    def zero(self) -> int | None:
        """The number of bins below zero, or None where zero is outside the range."""
        if not self.low <= 0 <= self.high or self.low == self.high:
            return None
        part = -self.low / 2 / (self.high / 2 - self.low / 2)  # halves, so that nothing overflows
        return round(part * len(self.counts))


class TensorShape(NamedTuple):
    """A shape, or nested ones, and in words how dtype and device differ from other rows'."""

    shape: Shape
    odd: str = ""


class Noted(NamedTuple):
    """A number and words that stand behind it."""

    number: float
    words: str


class RelativeError(NamedTuple):
    """A relative error with the bar that it is drawn as, on a scale from 1e-8 to 1.

    Attributes:
        number: the error, at least 0.
        bound: the error that is still none, a tick on the scale; None where there is none.
    """

    number: float
    bound: float | None = None


class Lanes(NamedTuple):
    """How tensors come to a row, drawn as a version-control log draws branches.

    Attributes:
        sources: the rows that its input comes from, by their numbers. What comes from one further
            down, as from a later call of a layer that is called often, runs in no lane.
        unchanged: the row that made what this one returns as it got it; None where it made it.
    """

    sources: tuple[int, ...] = ()
    unchanged: int | None = None


Pair = tuple[float | None, float | None]

Cell = int | float | str | Pair | TensorShape | Noted | RelativeError | Histogram | Lanes | None
"""None is unknown; a text may stand in place of a number, an empty one where there is none."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what it is called, what it means, and how a row gets its cell.

    A new column is one of these, in its record's tuple of columns; every medium shows it then.

    Attributes:
        key: its name in code, `"zeros"`.
        kind: the type of its cells, from which follow how they are written, aligned, sorted and
            sent; counts and bytes get prefixes, a share is a fraction in 0..1, an error a relative
            one.
        meaning: the definition of its values.
        title: the heading above it; the key with spaces where there is no other.
        cell: returns the cell of a row from the row's subject: its attribute of that key, where
            nothing else is given.
        cells: in place of `cell`, returns the cells of many subjects where that is much faster.
        joiner: what stands between the two numbers of a pair.
        priority: 0 for a column that always stays; where room is short, the highest leaves first.
        narrowest: how narrow its text may be cut where room is short; None is never cut.
        always: whether rows with a message, and those that only lead to others, have it too.
        extra: whether only media in which columns can be chosen have it.
        hidden: whether those show it only when asked to.
    """

    key: str
    kind: Kind
    meaning: str = ""
    _: KW_ONLY
    title: str = ""
    cell: Callable[[Any], Cell] | None = None
    cells: Callable[[Sequence[Any]], Sequence[Cell]] | None = None
    joiner: str = "±"
    priority: int = 0
    narrowest: int | None = None
    always: bool = False
    extra: bool = False
    hidden: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.key.replace("_", " "))

    def of(self, subjects: Sequence[Any]) -> Sequence[Cell]:
        """Return the cells of these subjects."""
        if self.cells is not None:
            return self.cells(subjects)
        return list(map(self.cell or attrgetter(self.key), subjects))


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        label: the text in the tree.
        subject: what the row is about: its cells are made from it.
        level: how deep it stands in the tree; a row's children follow it with a higher level.
        name: its full name, which a search finds.
        key: what a reader selects it by, if not by its name.
        state: bits, such as State.STRONG.
        message: a text that stands in place of the cells of all columns but those that always are.
    """

    label: str
    subject: Any = None
    level: int = 0
    name: str = ""
    key: str | None = None
    state: int = 0
    message: str = ""

    @property
    def flat_name(self) -> str:
        """What it is called where it does not stand below another: its full name.

        The root of a tree goes by its label, which tells it from others of one name.
        """
        return self.name if self.level and self.name else self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a record shows: a heading, a tree of rows, notes.

    Cells are made when a medium asks for them: text draws 500 of 20,000 rows.

    Attributes:
        title: what stands above the rows' labels, and its meaning.
        columns: the columns; every medium has them in this order.
        notes: the lines below the rows.
        static_notes: those of them that say in words what a page shows of `beside`.
        details: returns lines that explain a row, from the row's subject.
        show_details: whether they are shown at once.
        open_levels: the rows of so many levels are unfolded at first.
        flat: whether full names are listed and rows that only group left out; a page can show them.
        noun: what one row is about, `"call"`: what its count in a page says.
        total: how many of those the heading counts; None for as many as there are rows.
        first: what the button to the first row of State.FIRST says, and what that row is.
        beside: what a page shows besides, such as the recorded iterations.
    """

    heading: str
    title: str
    meaning: str = ""
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    notes: tuple[str, ...] = ()
    static_notes: tuple[str, ...] = ()
    details: Callable[[Any], Sequence[str]] = lambda _: ()
    show_details: bool = False
    open_levels: int = 1 << 15
    flat: bool = False
    noun: str = "row"
    total: int | None = None
    first: tuple[str, str] = ("first NaN", "the first call that made NaN or Inf")
    beside: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heading", cut(self.heading, LONGEST_LINE))
        notes = tuple(cut(note, LONGEST_LINE) for note in self.notes)
        object.__setattr__(self, "notes", notes)

    def cells(self, key: str) -> list[Cell]:
        """Return the cells of a column, row by row; an empty text where a row has none."""
        place = next(i for i, column in enumerate(self.columns) if column.key == key)
        column = self.columns[place]
        has_cell = [
            column.always or not (row.message or row.state & State.CONTEXT) for row in self.rows
        ]
        subjects = [row.subject for row, has in zip(self.rows, has_cell, strict=True) if has]
        cells = iter(map(_bounded, column.of(subjects)))
        return [next(cells) if has else "" for has in has_cell]


def _bounded(cell: Cell) -> Cell:
    return cut(cell, LONGEST_CELL) if isinstance(cell, str) else cell


def bounded(levels: Sequence[int], needed: Iterable[int], limit: int) -> list[int]:
    """Return at most `limit` rows' indices: the needed ones with their ancestors, then by level.

    A needed row whose ancestors do not fit is left out.
    """
    if len(levels) <= limit:
        return list(range(len(levels)))
    parents = parents_of(levels)
    chosen: set[int] = set()
    for row in needed:
        more = with_ancestors(parents, [row]) - chosen
        if len(chosen) + len(more) <= limit:
            chosen |= more
    by_level = sorted(range(len(levels)), key=levels.__getitem__)
    others = [row for row in by_level if row not in chosen]
    return sorted([*chosen, *others[: limit - len(chosen)]])


def parents_of(levels: Sequence[int]) -> dict[int, int | None]:
    """Return the index of each row's parent: the nearest earlier row of a lower level."""
    parents: dict[int, int | None] = {}
    path: list[int] = []
    for i, level in enumerate(levels):
        while path and levels[path[-1]] >= level:
            path.pop()
        parents[i] = path[-1] if path else None
        path.append(i)
    return parents


def with_ancestors(parents: Mapping[int, int | None], wanted: Iterable[int]) -> set[int]:
    """Return the wanted nodes of a tree and those that lead to them.

    Args:
        parents: the parent of each node, None for a root.
        wanted: the nodes; one that is not in the tree has no parent.
    """
    found: set[int] = set()
    for node in wanted:
        step: int | None = node
        while step is not None and step not in found:
            found.add(step)
            step = parents.get(step)
    return found


def shortened(table: Table, *, depth: int | None, text: bool, limit: int) -> Table:
    """Return the rows that text or HTML draw, and notes that say what they leave out.

    Rows that are flagged or failed are always among them, with those that lead to them.

    Args:
        table: the whole table.
        depth: how many levels are shown; None is all.
        text: whether the medium is text, in which what is folded cannot be unfolded.
        limit: how many rows there are at most.
    """
    rows, notes = table.rows, list(table.notes)
    depths = [row.level for row in rows]
    if table.flat:
        leaves = [row for row in rows if not row.state & State.GROUP]
        depths = [row.name.count(".") for row in leaves]
        rows = [row._replace(label=row.flat_name, level=0) for row in leaves]
    levels = [row.level for row in rows]
    urgent = [i for i, row in enumerate(rows) if row.state & (State.FLAGGED | State.FAILED)]
    needed = with_ancestors(parents_of(levels), urgent)
    deepest = max(depths, default=0)
    shallow = deepest if depth is None else depth
    shown, hidden, folded_below = [], 0, deepest
    for i, row in enumerate(rows):
        is_folded = text and row.level > folded_below
        if not is_folded:
            folded_below = row.level if row.state & State.MANY_CALLS else deepest
        if i in needed or (depths[i] <= shallow and not is_folded):
            shown.append(i)
        elif depths[i] > shallow:
            hidden += 1
    if hidden:
        rows_hidden = plural(hidden, "row")
        notes.append(
            f"{rows_hidden} below level {depth} not shown; see them with --depth {deepest}"
        )
    always = set(urgent)
    urgent_places = [place for place, i in enumerate(shown) if i in always]
    kept = bounded([levels[i] for i in shown], urgent_places, limit)
    if len(kept) < len(shown):
        notes.append(
            f"{len(shown) - len(kept):,} of {len(shown):,} rows not shown; narrow the display with "
            f"--layers or --depth, or see every row with to_frame()"
        )
    rows = [rows[shown[place]] for place in kept]
    return replace(table, rows=rows, notes=tuple(notes))
