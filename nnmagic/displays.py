"""Showing a record in a notebook: its static table first, then the widget that hides it."""

from typing import Any

from IPython.display import display

from nnmagic.html import table_html
from nnmagic.records import Record


class NotebookDisplay:
    """Shows a record as two outputs: a page without widgets keeps the first.

    A display_data with the static table, then the widget, whose script hides the table while it
    lives. `Out[n]` still holds the record.

    Args:
        shell: the shell of a kernel.
    """

    def __init__(self, shell: Any) -> None:
        self.shell = shell

    def __call__(self, record: Record) -> None:
        """Show a record."""
        widget = None if record.view.static else self._widget(record)
        mark = "" if widget is None else widget.mark
        html = table_html(record.table(text=False), mark)
        bundle = {"text/plain": str(record), "text/html": html}
        self.shell.display_pub.publish(bundle)
        if widget is not None:
            display(widget)

    def _widget(self, record: Record) -> Any:
        from nnmagic.trace_records import Trace
        from nnmagic.watching import subject_of, watching
        from nnmagic.widget import NetworkWidget

        if not isinstance(record, Trace):
            return NetworkWidget(record, static=True)
        network = None if record.root is None else record.root()
        if record.view.live and network is not None:
            return watching(network, record, static=True)
        return NetworkWidget(record, live_of=subject_of, static=True)


RECORDS = (
    ("nnmagic.trace_records", "Trace"),
    ("nnmagic.summary_records", "Summary"),
    ("nnmagic.params_records", "Params"),
)


def show_widgets(shell: Any) -> None:
    """Let a kernel's shell show records as widgets; a terminal's shell shows text as before."""
    if is_kernel(shell):
        formatter = shell.display_formatter.ipython_display_formatter
        for module, name in RECORDS:
            formatter.for_type_by_name(module, name, NotebookDisplay(shell))


def show_no_widgets(shell: Any) -> None:
    """Take the display of records away again, and close the widgets that are alive."""
    import sys

    if is_kernel(shell):
        formatter = shell.display_formatter.ipython_display_formatter
        for module, name in RECORDS:
            formatter.pop(f"{module}.{name}", None)
    widget = sys.modules.get("nnmagic.widget")
    if widget is not None:
        widget.close_all()


def is_kernel(shell: Any) -> bool:
    """Tell whether a shell is a kernel's, whose front end may show widgets."""
    return getattr(shell, "kernel", None) is not None
