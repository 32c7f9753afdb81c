"""Showing a record in a notebook: its static table first, then the widget that hides it."""

import ast
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nnmagic.display.table import Table
from nnmagic.magics.line import is_silenced
from nnmagic.records.record import Record

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
        from nnmagic.widget.static_output import bundle_of

        table = record.table()
        if record.view.static:
            self.shell.display_pub.publish(bundle_of(record, table))
        else:
            self._widget(record, table).show(table)

    def _widget(self, record: Record, table: Table) -> "NetworkWidget":
        # what only loads the extension does not wait for the widget's packages
        from nnmagic.records.trace import Trace
        from nnmagic.widget.watching import watching
        from nnmagic.widget.widget import NetworkWidget

        if isinstance(record, Trace) and record.view.live and record.root is not None:
            network = record.root()
            if network is not None:
                return watching(network, record)
        return NetworkWidget(record, table=table)


def show_widget(widget: "NetworkWidget") -> None:
    """Show a widget, its static table first; of a closed one that table alone."""
    widget.show()


def update_static_tables(*_: Any) -> None:
    """Let the static tables say what was followed until now: it is what a saved notebook holds."""
    widgets = sys.modules.get("nnmagic.widget.widget")
    if widgets is not None:
        for widget in widgets.NetworkWidget.open_ones():
            widget.update_static()


RECORDS = (
    ("nnmagic.records.trace", "Trace"),
    ("nnmagic.records.summary", "Summary"),
    ("nnmagic.records.params", "Params"),
    ("nnmagic.records.comparison.comparison", "Comparison"),
    ("nnmagic.records.comparison.parameters", "ParamsComparison"),
)

WIDGET = ("nnmagic.widget.static_output", "ShownAfterItsTable")


def show_widgets(shell: Any) -> None:
    """Let a kernel's shell show records as widgets; a terminal's shell shows text as before."""
    if is_kernel(shell):
        formatter = shell.display_formatter.ipython_display_formatter
        for module, name in RECORDS:
            formatter.for_type_by_name(module, name, NotebookDisplay(shell))
        formatter.for_type_by_name(*WIDGET, show_widget)
        shell.events.register("post_run_cell", update_static_tables)


def show_no_widgets(shell: Any) -> None:
    """Take the display of records away again, and close the widgets that are alive."""
    if is_kernel(shell):
        formatter = shell.display_formatter.ipython_display_formatter
        for module, name in RECORDS:
            formatter.pop(f"{module}.{name}", None)
        formatter.pop(".".join(WIDGET), None)
        with suppress(ValueError):
            shell.events.unregister("post_run_cell", update_static_tables)
    widget = sys.modules.get("nnmagic.widget.widget")
    if widget is not None:
        widget.close_all("the extension was unloaded")


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
