"""Showing a record in a notebook: its static table first, then the widget that hides it."""

import ast
import sys
from typing import TYPE_CHECKING, Any

from IPython.display import display

from nnmagic.display.html import table_html
from nnmagic.display.table import Table
from nnmagic.display.text import brief_text
from nnmagic.magics.line import is_silenced
from nnmagic.records.record import Record, text_width

if TYPE_CHECKING:
    from nnmagic.widget.widget import NetworkWidget


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
        table = record.table()
        widget = None if record.view.static else self._widget(record, table)
        mark = "" if widget is None else widget.mark
        bundle = {
            "text/plain": brief_text(record.drawn(table, text=True), text_width()),
            "text/html": table_html(record.drawn(table, text=False), mark),
        }
        self.shell.display_pub.publish(bundle)
        if widget is not None:
            display(widget)

    def _widget(self, record: Record, table: Table) -> "NetworkWidget":
        # what only loads the extension does not wait for the widget's packages
        from nnmagic.records.trace import Trace
        from nnmagic.widget.watching import live_network_of, watching
        from nnmagic.widget.widget import NetworkWidget

        if not isinstance(record, Trace):
            return NetworkWidget(record, static=True, table=table)
        network = None if record.root is None else record.root()
        if record.view.live and network is not None:
            return watching(network, record, static=True)
        return NetworkWidget(record, live_of=live_network_of, static=True, table=table)


RECORDS = (
    ("nnmagic.records.trace", "Trace"),
    ("nnmagic.records.summary", "Summary"),
    ("nnmagic.records.params", "Params"),
)


def show_widgets(shell: Any) -> None:
    """Let a kernel's shell show records as widgets; a terminal's shell shows text as before."""
    if is_kernel(shell):
        formatter = shell.display_formatter.ipython_display_formatter
        for module, name in RECORDS:
            formatter.for_type_by_name(module, name, NotebookDisplay(shell))


def show_no_widgets(shell: Any) -> None:
    """Take the display of records away again, and close the widgets that are alive."""
    if is_kernel(shell):
        formatter = shell.display_formatter.ipython_display_formatter
        for module, name in RECORDS:
            formatter.pop(f"{module}.{name}", None)
    widget = sys.modules.get("nnmagic.widget.widget")
    if widget is not None:
        widget.close_all()


def is_kernel(shell: Any) -> bool:
    """Tell whether a shell is a kernel's, whose front end may show widgets."""
    return getattr(shell, "kernel", None) is not None


class ShownStatements(ast.NodeTransformer):
    """Wraps `%nn...` statements in `display`, and leaves a cell's last expression to IPython.

    An assignment, an argument or a condition is no statement, and shows nothing. Of a silent cell,
    such as those of a file in `%run`, IPython shows no last expression: it is wrapped too.

    Args:
        magics: the names of the line magics.
    """

    def __init__(self, magics: frozenset[str]) -> None:
        self.magics = magics
        self.is_silent = False
        # every cell is executed, and between those two events only one that is not silent is run
        self.events = {
            "pre_execute": lambda: self._take_for(silent=True),
            "pre_run_cell": lambda info: self._take_for(silent=False),
            "post_execute": lambda: self._take_for(silent=False),
        }

    def _take_for(self, *, silent: bool) -> None:
        self.is_silent = silent

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Change the statements of a cell, its last expression only where nothing else shows it."""
        for i, statement in enumerate(node.body):
            is_last = i == len(node.body) - 1 and isinstance(statement, ast.Expr)
            if not is_last or self.is_silent:
                node.body[i] = self.visit(statement)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        """Wrap one statement."""
        if not self._is_magic(node.value):
            return node
        show: Any = ast.parse("__import__('IPython').display.display()", mode="eval").body
        show.args.append(node.value)
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(show), node))

    def _is_magic(self, node: ast.AST) -> bool:
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Name(id="get_ipython")), attr="run_line_magic"
                ),
                args=[ast.Constant(value=name), ast.Constant(value=str(line))],
            ):
                return name in self.magics and not is_silenced(line)
        return False
