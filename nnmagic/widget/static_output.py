"""The static table of a widget: an output of its own, updated by its display id."""

from contextlib import suppress
from dataclasses import replace
from time import monotonic
from uuid import uuid4

from IPython.display import display, update_display

from nnmagic.display.html import table_html
from nnmagic.display.table import Table
from nnmagic.display.text import brief_text
from nnmagic.records.record import Record, text_width

SECONDS = 1.0
"""How far apart updates are at least while a network or a loop is followed."""

SHARE = 0.02
"""How much of the time they may take at most."""

MOST_LINES = 30
"""So many lines of a followed network are in view; the others are scrolled to."""

WITHOUT_MODEL = (
    '<style>.jp-OutputArea-child:has([data-nnmagic="{mark}"])+.jp-OutputArea-child'
    ">.jp-OutputArea-output:not(:has(*)){{display:none}}</style>"
)
"""Hides what JupyterLab says below the table where a notebook is opened again without its kernel.

"Error displaying widget: model not found" is a text without any element around it.
"""


class ShownAfterItsTable:
    """A widget whose static table is shown before it: by this class a kernel's shell knows it.

    anywidget makes a class for each instance, all of one name: none of those can be what it knows.
    """


class StaticOutput:
    """What a page shows of a widget that does not live in it: the record's table.

    Attributes:
        mark: what the widget finds the table by, and the display id.
        is_shown: whether it is on the page.
    """

    def __init__(self) -> None:
        self.mark = uuid4().hex
        self.is_shown = False
        self._lines = 0
        self._updated = 0.0
        self._spent = 0.0

    def show(self, record: Record, table: Table | None = None, *, live: bool = False) -> None:
        """Show a record's table.

        Args:
            record: the record.
            table: its table, where it is there already.
            live: whether it is going to change: its height stays.
        """
        begin = monotonic()
        display(self._bundle(record, table, "", live=live), raw=True, display_id=self.mark)
        self.is_shown = True
        self._took(begin)

    def update(self, record: Record, note: str = "", *, live: bool = True) -> None:
        """Show another record in the place of the one before.

        Args:
            record: the record.
            note: a line to add below its table.
            live: whether it is going to change again.
        """
        if not self.is_shown:
            return
        begin = monotonic()
        with suppress(Exception):  # at the interpreter's exit there may be no page any more
            update_display(
                self._bundle(record, None, note, live=live), raw=True, display_id=self.mark
            )
        self._took(begin)

    def _took(self, begin: float) -> None:
        self._updated = monotonic()
        self._spent = self._updated - begin

    @property
    def is_due(self) -> bool:
        """Whether it was brought up to date a second ago; longer ago where that takes long."""
        wait = max(SECONDS, self._spent / SHARE)
        return self.is_shown and monotonic() - self._updated >= wait

    def _bundle(
        self, record: Record, table: Table | None, note: str, *, live: bool
    ) -> dict[str, str]:
        table = record.table() if table is None else table
        if note:
            table = replace(table, notes=(*table.notes, note))
        if live and table.rows and not self._lines:
            self._lines = min(MOST_LINES, len(table.rows) + len(table.notes) + 3)
        return bundle_of(record, table, self.mark, lines=self._lines if live else 0)


def bundle_of(record: Record, table: Table, mark: str = "", *, lines: int = 0) -> dict[str, str]:
    """Return a record as text and as HTML.

    Args:
        record: the record.
        table: its table.
        mark: what the widget that stands for the table finds it by.
        lines: how many lines of the HTML are in view; 0 are all.
    """
    style = WITHOUT_MODEL.format(mark=mark) if mark else ""
    return {
        "text/plain": brief_text(record.drawn(table, text=True), text_width()),
        "text/html": style + table_html(record.drawn(table, text=False), mark, lines),
    }
