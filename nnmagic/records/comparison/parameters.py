"""The record of the parameters of two networks, or files, side by side."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from nnmagic.display import units
from nnmagic.display.table import Table
from nnmagic.records.comparison.parameter_rows import (
    CHANGED,
    VERDICTS,
    ComparedParameter,
    described,
)
from nnmagic.records.comparison.parameters_table import table_of
from nnmagic.records.comparison.verdicts import EQUAL, UNKNOWN
from nnmagic.records.record import Record, data_frame

FRAME_COLUMNS = (
    *("name", "other_name", "kind", "shape", "other_shape", "dtype", "other_dtype", "count"),
    *("verdict", "error", "max_abs", "max_at", "cosine", "compared"),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ParamsComparison(Record):
    """The parameters and buffers of two sides: a row for each, in this side's order.

    Attributes:
        title: what this side is.
        other_title: what the other side is.
        rows: one for each parameter, however many names it has; those of the other alone last.
        notes: the lines below the table.
    """

    SORTABLE: ClassVar = ("count", "error", "max_abs", "cosine")

    title: str
    other_title: str
    rows: tuple[ComparedParameter, ...]
    notes: tuple[str, ...] = ()

    def brief(self) -> str:
        """Return a few words that name the record."""
        mine, other = self.titles
        return f"<ParamsComparison of {mine} and {other}: {self.summary}>"

    @property
    def titles(self) -> tuple[str, str]:
        """What this side and the other one are called."""
        return units.told_apart(self.title, self.other_title)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[ComparedParameter]:
        """Yield the rows."""
        return iter(self.rows)

    def __getitem__(self, name: str) -> ComparedParameter:
        """Return the row of a parameter, by any of its names.

        Raises:
            KeyError: if no side has one of that name.
        """
        for row in self.rows:
            if name in (row.name, *row.also):
                return row
        raise KeyError(f"neither side has a parameter named {name!r}")

    @property
    def counts(self) -> dict[str, int]:
        """How many parameters there are of each verdict that there is, the gravest first."""
        counts = Counter(row.verdict for row in self.rows)
        return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}

    @property
    def summary(self) -> str:
        """The verdict: `"2 missing, 1 changed (most in fc.weight, by 0.4), 58 equal"`."""
        parts = [f"{count:,} {verdict}" for verdict, count in self.counts.items()]
        errors = [(row.error, row.name) for row in self.rows if row.verdict == CHANGED]
        known = [(error, name) for error, name in errors if error is not None]
        if known:
            error, name = max(known, key=lambda each: each[0])
            changed = f"{len(errors):,} {CHANGED}"
            parts[parts.index(changed)] = f"{changed} (most in {name}, by {error:.2g})"
        return ", ".join(parts) or "nothing to compare"

    @property
    def first_difference(self) -> ComparedParameter | None:
        """The first parameter that only one side has, or that is not equal; None for none."""
        rows = (row for row in self.rows if row.verdict not in (EQUAL, UNKNOWN))
        return next(rows, None)

    def raise_if_different(self) -> None:
        """Raise if one side has a parameter that the other lacks, or one is not equal.

        A parameter whose values could not be compared, or that has the same values in another
        dtype, is none.

        Raises:
            AssertionError: that names them.
        """
        __tracebackhide__ = True
        if self.first_difference is None:
            return
        parts = []
        for verdict in (v for v in self.counts if v not in (EQUAL, UNKNOWN)):
            names = [described(row) for row in self.rows if row.verdict == verdict]
            parts.append(f"{verdict}: {units.listed(names)}")
        raise AssertionError(f"{' against '.join(self.titles)}: {'; '.join(parts)}")

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row a parameter."""
        return data_frame(self.rows, FRAME_COLUMNS)

    @property
    def heading(self) -> str:
        """The line above the table: the two sides, and the verdict."""
        return f"{' against '.join(self.titles)} · {self.summary}"

    def table(self) -> Table:
        """Return the table of the parameters below the layers that hold them, or sorted."""
        return table_of(self)
