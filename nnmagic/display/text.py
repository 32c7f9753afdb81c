"""A table as plain text for a terminal: no colour codes, no wrapped rows, no trailing spaces."""

import textwrap
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from nnmagic.display.lines import aligned, clipped, width_of
from nnmagic.display.table import State, Table, bounded
from nnmagic.display.units import printable

MOST_CHARACTERS = 6000
"""How long a display's text is in a kernel: notebook servers and assistants read nothing else."""

LEAST_LINE = 8
"""No row takes fewer characters."""

SEE_ALL = "print the record or call to_frame() for the rest"


def table_text(table: Table, width: int | None = None) -> str:
    """Return the table as lines of at most `width` places; None is as wide as needed."""
    lines = _wrapped(table.heading, width)
    if table.rows:
        drawn = aligned(table, None if width is None else width - 1)
        lines.append(f" {drawn.header}")
        for row, line, stem in zip(table.rows, drawn.lines, drawn.stems, strict=True):
            lines.append(f" {line}")
            if table.show_details:
                lines += (
                    clipped(f" {stem}{printable(detail)}".rstrip(), width)
                    for detail in table.details(row.subject)
                )
        if drawn.left:
            lines += _wrapped(f" no room for: {', '.join(drawn.left)}", width)
    for note in table.notes:
        lines += _wrapped(f" {note}", width)
    return "\n".join(lines)


def brief_text(table: Table, width: int | None = None) -> str:
    """Return the table as at most so many characters as assistants and servers read of a display.

    Where it is longer, it keeps the heading, the failed and flagged rows with those that lead to
    them, as many others as there is room for, the top levels first, and says how to see the rest.
    """
    most = MOST_CHARACTERS // LEAST_LINE
    if len(table.rows) <= most and len(text := table_text(table, width)) <= MOST_CHARACTERS:
        return text
    levels = [row.level for row in table.rows]
    urgent = [i for i, row in enumerate(table.rows) if row.state & (State.FLAGGED | State.FAILED)]
    notes = _brief(table.notes)

    def text_of(limit: int) -> str:
        rows = [table.rows[i] for i in bounded(levels, urgent, limit)]
        left = f"{len(levels) - limit:,} of {len(levels):,} rows not shown here; {SEE_ALL}"
        return table_text(replace(table, rows=rows, notes=(left, *notes)), width)

    limits = range(min(len(levels), most))
    limit = bisect_right(limits, MOST_CHARACTERS, key=lambda limit: len(text_of(limit + 1)))
    return clipped(text_of(limit), MOST_CHARACTERS)


def _brief(notes: Sequence[str]) -> list[str]:
    """Return the first notes, and how many there are besides where they are very long."""
    room, kept = MOST_CHARACTERS // 3, list[str]()
    for note in notes:
        room -= len(note)
        if room < 0:
            return [*kept, f"{len(notes) - len(kept):,} further lines; {SEE_ALL}"]
        kept.append(note)
    return kept


def _wrapped(text: str, width: int | None) -> list[str]:
    text = printable(text)
    places = width_of(text)
    if width is None or places <= width:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    characters = max(len(indent) + 1, width * len(text) // places)  # wide ones take two places
    lines = textwrap.wrap(
        text.strip(), characters, initial_indent=indent[2:], subsequent_indent=indent
    )
    return [clipped(line, width) for line in lines]
