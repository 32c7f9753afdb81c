"""What all records share: display options, and how a record shows itself."""

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from math import hypot, inf, isfinite, isnan, nan
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict, Unpack

from nnmagic.display import units
from nnmagic.display.html import table_html
from nnmagic.display.markdown import table_markdown
from nnmagic.display.table import Row, State, Table, parents_of, shortened, with_ancestors
from nnmagic.display.text import brief_text, table_text
from nnmagic.records.live_fields import LIVE

PAGES = "nnmagic.widget.exported_page"
"""What makes a page of a record; by its name, for records do not know the widget."""

TEXT_DEPTH = 3
"""How many levels of nesting a terminal shows, and HTML opens, where no depth was asked for."""

ALL_LEVELS = 1_000
"""More levels of nesting than calls can have."""

MOST_ROWS = 500
"""How many rows one display draws."""

VALUES_SHOWN = 2
"""How many leading rows of values are shown, as in the tutorial's ``param[:2]``."""

ROW_ENTRIES_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The display options: they change what is shown of a record, never the record.

    Attributes:
        depth: how many levels of nesting to show; None is what suits the medium.
        layers: patterns (`fnmatch`) of the layer or parameter names to show; none shows all.
        sort: the column to sort by, largest first, in place of execution order.
        top: how many rows to show, the first ones.
        values: how many leading rows of values to show; None shows two where they are asked for.
        step: the iteration to show; None is the last.
        classes: the names of the classes, in the order of the scores.
        static: whether a notebook shows no widget.
        live: whether the widget follows every later call of the network.
    """

    depth: int | None = None
    layers: tuple[str, ...] = ()
    sort: str | None = None
    top: int | None = None
    values: int | None = None
    step: int | None = None
    classes: tuple[str, ...] = ()
    static: bool = False
    live: bool = False

    def matches(self, name: str) -> bool:
        """Tell whether a layer of this name is to be shown."""
        return not self.layers or any(fnmatchcase(name, pattern) for pattern in self.layers)

    def unmatched(self, names: Sequence[str], noun: str = "layer") -> list[str]:
        """Say in a line that none of these names is to be shown, where that is so."""
        if not self.layers or any(map(self.matches, names)):
            return []
        return [f"no {noun} matches {' '.join(self.layers)}"]

    @property
    def values_shown(self) -> int:
        """How many leading rows of values a row's details hold."""
        return VALUES_SHOWN if self.values is None else self.values

    @property
    def open_depth(self) -> int:
        """The number of levels that are open at first: what patterns name is seen at any level."""
        if self.depth is not None:
            return self.depth
        return ALL_LEVELS if self.layers else TEXT_DEPTH


class Options(TypedDict, total=False):
    """The display options as keyword arguments; a single pattern or class name is a tuple of it."""

    depth: int | None
    layers: str | Sequence[str]
    sort: str | None
    top: int | None
    values: int | None
    step: int | None
    classes: str | Sequence[str]
    static: bool
    live: bool


def joint_norm(norms: Iterable[float | None]) -> float | None:
    """Return the Euclidean norm of all tensors together; None if that of one, or of all, is."""
    parts: list[Any] = list(norms)
    if not parts or None in parts:
        return None
    return nan if any(map(isnan, parts)) else hypot(*parts)


def leading_rows(values: Any, shape: tuple[int, ...], rows: int) -> list[str]:
    """Return a text for each of the first rows of nested values, each with its first entries.

    Args:
        values: nested lists, or one number for a 0-d tensor.
        shape: the shape of the tensor that they are taken from.
        rows: how many rows; of a one-dimensional tensor this many values, as `param[:rows]`.
    """
    if values is None:
        return []
    if not shape:
        return [_number(values)]
    shown = values[:rows]
    if len(shape) == 1:
        return [_bracketed(shown, shape[0])] if shown else []
    return [_row(row, shape[1:]) for row in shown]


def _row(values: Any, shape: tuple[int, ...]) -> str:
    if not shape:
        return _number(values)
    if len(shape) == 1:
        return _bracketed(values[:ROW_ENTRIES_SHOWN], shape[0])
    inside = _row(values[0], shape[1:]) if values else ""
    return f"[{inside}{', …' if shape[0] > 1 else ''}]"


def _bracketed(values: Sequence[Any], size: int) -> str:
    shown = values[:ROW_ENTRIES_SHOWN]
    if all(isinstance(value, float) and isfinite(value) for value in shown):
        texts = list(units.numbers(*shown))
    else:
        texts = [_number(value) for value in shown]
    more = ", …" if size > len(shown) else ""
    return f"[{', '.join(texts)}{more}]"


def _number(value: Any) -> str:
    if isinstance(value, complex):
        real, imaginary = units.numbers(value.real, value.imag)
        return f"{real}{'' if imaginary.startswith('-') else '+'}{imaginary}j"
    return units.numbers(value)[0] if isinstance(value, float) else str(value)


def data_frame(rows: Sequence[Any], names: Sequence[str]) -> Any:
    """Return a pandas DataFrame of the rows' attributes, one column a name."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series([getattr(row, name) for row in rows]) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Record(ABC):
    """A record that shows itself in a terminal and in a notebook."""

    SORTABLE: ClassVar[tuple[str, ...]] = ()
    """The columns that its rows can be sorted by."""

    view: View = field(default=View(), compare=False, repr=False)

    def __reduce__(self) -> Any:
        """Pickle all fields but the live ones, such as a network or an output."""
        kept = (each.name for each in fields(self) if each.metadata != LIVE)
        return partial(type(self), **{name: getattr(self, name) for name in kept}), ()

    @abstractmethod
    def table(self) -> Table:
        """Return the table with every row that the display options ask for."""

    def drawn(self, table: Table | None = None, *, text: bool) -> Table:
        """Return the part of the table that text or HTML draws.

        Args:
            table: the table, where it is there already.
            text: whether the medium is text, which cannot be unfolded and shows fewer levels.
        """
        table = self.table() if table is None else table
        depth = self.view.open_depth if text and not table.flat else self.view.depth
        return shortened(table, depth=depth, text=text, limit=MOST_ROWS)

    @abstractmethod
    def brief(self) -> str:
        """Return a few words that name the record."""

    @abstractmethod
    def to_frame(self) -> Any:
        """Return the whole record as a pandas DataFrame."""

    def show(self, **options: Unpack[Options]) -> Self:
        """Return the same record with other display options.

        Args:
            **options: attributes of `View`, such as depth, layers, sort, values, step, classes.

        Raises:
            TypeError: for an option that does not exist.
            ValueError: for a column to sort by that does not exist.
        """
        names = sorted(each.name for each in fields(View))
        for name in options:
            if name not in names:
                raise TypeError(f"no display option {name!r}; there are {', '.join(names)}")
        changed: dict[str, Any] = dict(options)
        for name in {"layers", "classes"} & set(options):
            value = changed[name]
            changed[name] = (value,) if isinstance(value, str) else tuple(value)
        view = replace(self.view, **changed)
        if view.sort is not None and view.sort not in self.SORTABLE:
            columns = ", ".join(self.SORTABLE) or "none"
            raise ValueError(f"no column {view.sort!r} to sort by; there are {columns}")
        return replace(self, view=view)

    def save(self, path: str | Path) -> None:
        """Write the record to a safetensors file, which `nnmagic.load` reads.

        A file of that name is replaced.

        Raises:
            OSError: if the file cannot be written.
        """
        from nnmagic.records.saving.file import write

        write(self, path)

    def to_html(self, path: str | Path) -> None:
        """Write a page of its own: table, search and panels as in a notebook, without a kernel.

        It needs no network. A reader without scripts sees the table alone.

        Args:
            path: the file to write.
        """
        page_of: Any = import_module(PAGES).page_of
        Path(path).write_text(page_of(self), encoding="utf-8")

    def to_markdown(self) -> str:
        """Return the heading, a Markdown table and the notes; all text in them is escaped."""
        return table_markdown(self.drawn(text=False))

    def __repr__(self) -> str:
        """Return a few words; a subclass with a repr of its own would be shown by it."""
        return self.brief()

    def __str__(self) -> str:
        """Return the table as text, as wide as the terminal."""
        return table_text(self.drawn(text=True), text_width())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        is_brief = is_in_kernel()
        text = brief_text(self.drawn(text=True), text_width()) if is_brief else str(self)
        printer.text(text)

    def _repr_html_(self) -> str:
        return table_html(self.drawn(text=False))


def text_width() -> int:
    """Return how many characters a line of a display's text may have."""
    return shutil.get_terminal_size((120, 24)).columns


def is_in_kernel() -> bool:
    """Tell whether a display goes to a front end, which shows its HTML or its widget."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def filtered(rows: Sequence[Row], names: Sequence[str], view: View) -> Sequence[Row]:
    """Return the rows whose names the view asks for, the flagged ones, and what leads to them."""
    if not view.layers:
        return rows
    wanted = {
        i
        for i, row in enumerate(rows)
        if row.state & (State.FLAGGED | State.FAILED) or view.matches(names[i])
    }
    return [
        row if i in wanted else row._replace(state=row.state | State.CONTEXT | State.DIMMED)
        for i in sorted(with_ancestors(parents_of([row.level for row in rows]), wanted))
        for row in [rows[i]]
    ]


def ranked(
    rows: Sequence[Any], names: Sequence[str], view: View, notes: list[str]
) -> Sequence[int]:
    """Return the numbers of the rows that a view asks for, sorted as it says, the first ones.

    A note says what was left out.
    """
    found = [i for i, name in enumerate(names) if view.matches(name)]
    key = view.sort
    if key is not None:
        found.sort(key=lambda i: _largest_first(getattr(rows[i], key)))
    if view.top is not None and view.top < len(found):
        notes.append(f"{view.top:,} of {len(found):,} shown; see them all with to_frame()")
    return found[: view.top]


def _largest_first(value: float | None) -> float:
    """Return what sorts the largest first, NaN before all numbers and None after them."""
    if value is None:
        return inf
    return -inf if isnan(value) else -value
