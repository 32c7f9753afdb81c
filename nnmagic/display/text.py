"""A table as plain text for a terminal: no colour codes, no wrapped rows, no trailing spaces."""

import textwrap

from nnmagic.display.lines import aligned, clipped, width_of
from nnmagic.display.table import Table
from nnmagic.display.units import printable


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
