"""A table as Markdown, to be pasted where people write."""

import re

from nnmagic.display.lines import cell_text
from nnmagic.display.table import TEXT_KINDS, Column, Table
from nnmagic.display.units import printable

SPECIAL = re.compile(r"[\\\\`*_~$&<>|\[\]]")
"""The characters that would be more than themselves in a cell of a table."""


def table_markdown(table: Table) -> str:
    """Return the heading, a table with a line a row and full names, and the notes."""
    columns = [column for column in table.columns if not column.extra and column.kind != "lanes"]
    texts = {
        column.key: [cell_text(column, cell).strip() for cell in table.cells(column.key)]
        for column in columns
    }
    columns = [column for column in columns if any(texts[column.key])]
    parts = [f"**{escaped(table.heading)}**"]
    if table.rows:
        lines = [_line([table.title, *(column.title for column in columns)])]
        lines.append(_line(["---", *map(_rule, columns)], is_escaped=True))
        for i, row in enumerate(table.rows):
            cells = [texts[column.key][i] for column in columns]
            if row.message:
                always = [cell for cell, each in zip(cells, columns, strict=True) if each.always]
                cells = [*always, row.message] + [""] * (len(cells) - len(always) - 1)
            lines.append(_line([row.flat_name, *cells]))
        parts.append("\n".join(lines))
    parts += map(escaped, table.notes)
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Return the text so that Markdown shows it as it is."""
    return SPECIAL.sub(r"\\\g<0>", printable(text))


def _rule(column: Column) -> str:
    return "---" if column.kind in (*TEXT_KINDS, "histogram") else "---:"


def _line(cells: list[str], *, is_escaped: bool = False) -> str:
    return f"| {' | '.join(cells if is_escaped else map(escaped, cells))} |"
