"""A table as HTML that needs no script and no style sheet, and reads with every style stripped.

Rows are lines of fixed-width text whose spaces do not collapse, so that the columns stand where
they stand in a terminal also on a code host that removes styles. Nesting is ``<details>``.
"""

from html import escape

from nnmagic.display.lines import Aligned, aligned
from nnmagic.display.table import Row, State, Table, parents_of, with_ancestors
from nnmagic.display.units import printable

BLOCK = "font:12px/1.45 monospace;white-space:nowrap;overflow-x:auto"
QUIET = ' style="opacity:.6"'
PLAIN = ' style="font:inherit"'
BOLD = ' style="font-weight:bold"'


MARKER = "  "
"""As wide as the triangle that opens a row."""


def table_html(table: Table, mark: str = "", lines: int = 0) -> str:
    """Return the table as one ``<div>``; all text in it is escaped.

    Args:
        table: the table.
        mark: what the widget that stands for the table finds it by.
        lines: how many lines are in view, whatever there is to show; 0 are all.
    """
    marked = f' data-nnmagic="{escape(mark)}"' if mark else ""
    heading = f'<div style="white-space:normal"><b>{_escaped(table.heading)}</b></div>'
    height = f";height:{1.45 * lines:.4g}em;overflow-y:auto" if lines else ""
    parts = [f'<div{marked} style="{BLOCK}{height}">{heading}']
    if table.rows:
        drawn = aligned(table)
        columns = [column for column in table.columns if not column.extra]
        meanings = [f"{column.title}: {column.meaning}" for column in columns if column.meaning]
        if table.meaning:
            meanings.insert(0, f"{table.title}: {table.meaning}")
        parts.append(_opening(drawn.header, BOLD, opened=False))
        parts += (f"<div>{_unbroken(MARKER)}{escape(meaning)}</div>" for meaning in meanings)
        parts.append("</details>")
        parts.append(_rows(table, drawn))
    parts += (f'<div style="white-space:normal">{_escaped(note)}</div>' for note in table.notes)
    parts.append("</div>")
    return "".join(parts)


def _rows(table: Table, drawn: Aligned) -> str:
    parts: list[str] = []
    open_rows: list[Row] = []

    def close_down_to(level: int) -> None:
        while open_rows and open_rows[-1].level >= level:
            parts.append("</details>")
            open_rows.pop()

    levels = [row.level for row in table.rows]
    first = [i for i, row in enumerate(table.rows) if row.state & State.FIRST]
    around_first = with_ancestors(parents_of(levels), first) - {*first}
    for i, row in enumerate(table.rows):
        close_down_to(row.level)
        has_children = i + 1 < len(levels) and levels[i + 1] > row.level
        style = BOLD if row.state & State.STRONG else QUIET if row.state & State.DIMMED else ""
        is_open = row.level < table.open_levels and not row.state & State.MANY_CALLS
        is_open = is_open or i in around_first
        parts.append(
            _opening(drawn.lines[i], style, opened=is_open if has_children else table.show_details)
        )
        if table.show_details or not has_children:
            stem = MARKER + drawn.stems[i]
            details = table.details(row.subject)
            text = "<br>".join(_unbroken(stem + detail) for detail in details)
            parts.append(f"<samp{PLAIN}>{text}</samp>" if details else "")
        open_rows.append(row)
    close_down_to(0)
    return "".join(parts)


def _opening(line: str, style: str, *, opened: bool) -> str:
    state = " open" if opened else ""
    return f"<details{state}><summary{style}><samp{PLAIN}>{_unbroken(line)}</samp></summary>"


def _unbroken(text: str) -> str:
    return _escaped(text).replace(" ", "\N{NO-BREAK SPACE}")


def _escaped(text: str) -> str:
    return escape(printable(text))
