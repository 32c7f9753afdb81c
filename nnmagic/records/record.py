"""What all records share: tensor records, display options, and how a record shows itself."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from math import hypot, isfinite, isnan, nan
from typing import Any, ClassVar, Self

from nnmagic.display import units
from nnmagic.display.html import page_html, table_html
from nnmagic.display.table import Row, Table, with_ancestors
from nnmagic.display.text import table_text

TEXT_DEPTH = 3
"""How many levels of nesting a terminal shows, and HTML opens, where no depth was asked for."""

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
        step: the step to show; None is the last.
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

    @property
    def values_shown(self) -> int:
        """How many leading rows of values a row's details hold."""
        return VALUES_SHOWN if self.values is None else self.values

    def depth_in(self, *, text: bool) -> int | None:
        """Return how many levels a medium shows at all; None is all of them."""
        return self.open_depth if text else self.depth

    @property
    def open_depth(self) -> int:
        """The number of levels that are open at first."""
        return TEXT_DEPTH if self.depth is None else self.depth


def joint_norm(norms: Iterable[float | None]) -> float | None:
    """Return the Euclidean norm of all tensors together; None if that of one, or of all, is."""
    known = list(norms)
    if not known or None in known:
        return None
    finite = [norm for norm in known if norm is not None]
    return nan if any(map(isnan, finite)) else hypot(*finite)


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

    @abstractmethod
    def table(self, *, text: bool) -> Table:
        """Return the table that a medium draws; text cannot be unfolded, and shows fewer levels."""

    @abstractmethod
    def brief(self) -> str:
        """Return a few words that name the record."""

    @abstractmethod
    def to_frame(self) -> Any:
        """Return the whole record as a pandas DataFrame."""

    def show(self, **options: Any) -> Self:
        """Return the same record with other display options.

        Args:
            **options: attributes of `View`, such as depth, layers, sort, values, step, classes.

        Raises:
            TypeError: for an option that does not exist.
            ValueError: for a column to sort by that does not exist.
        """
        known = {each.name for each in fields(View)}
        for name in options:
            if name not in known:
                raise TypeError(f"no display option {name!r}; there are {', '.join(sorted(known))}")
        for name in ("layers", "classes"):
            if isinstance(options.get(name), str):
                options[name] = (options[name],)
            elif name in options:
                options[name] = tuple(options[name])
        view = replace(self.view, **options)
        if view.sort is not None and view.sort not in self.SORTABLE:
            columns = ", ".join(self.SORTABLE) or "none"
            raise ValueError(f"no column {view.sort!r} to sort by; there are {columns}")
        return replace(self, view=view)

    def to_html(self, path: Any) -> None:
        """Write a page of its own that needs no network."""
        from pathlib import Path

        table = self.table(text=False)
        Path(path).write_text(page_html(table, table.heading), encoding="utf-8")

    def __repr__(self) -> str:
        """Return a few words; a subclass with a repr of its own would be shown by it."""
        return self.brief()

    def __str__(self) -> str:
        """Return the table as text, as wide as the terminal."""
        width = shutil.get_terminal_size((120, 24)).columns
        return table_text(self.table(text=True), width)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return table_html(self.table(text=False))


def left_out(shown: int, rows: int) -> str:
    """Return the line that says how many rows a display left out, and how to see them."""
    return (
        f"{rows - shown:,} of {rows:,} rows not shown; narrow the display with --layers or "
        f"--depth, or see every call with to_frame()"
    )


def filtered(
    rows: Sequence[Row], names: Sequence[str], view: View, always: Callable[[int], bool]
) -> tuple[Row, ...]:
    """Return the rows whose names the view asks for, with the ancestors that lead to them."""
    if not view.layers:
        return tuple(rows)
    return with_ancestors(rows, lambda i: view.matches(names[i]), always=always)
