"""The body of a cell, run as IPython runs a cell."""

import ast
from typing import Any

from IPython.core.error import UsageError

from nnmagic.expression import cell_number, is_silenced, names_in, without_comment


class CellBody:
    """The body of a cell, run as IPython runs a cell.

    Attributes:
        names: the plain names in it.
        silenced: whether its last expression is followed by a semicolon.

    Raises:
        UsageError: for `await` outside a function.
        SyntaxError: if the body is not Python.
    """

    def __init__(self, cell: str, shell: Any) -> None:
        __tracebackhide__ = True
        self.shell = shell
        source = shell.transform_cell(cell)
        compiler = shell.compile
        # one line down, so that tracebacks count the magic's own line
        self.file = compiler.cache("\n" + source, cell_number(shell), raw_code="\n" + cell)
        tree = shell.transform_ast(compiler.ast_parse("\n" + source, filename=self.file))
        _refuse_await(tree)
        self.names = names_in(tree)
        lines = [line for line in cell.splitlines() if without_comment(line).strip()]
        self.silenced = bool(lines) and is_silenced(lines[-1])
        self.last: ast.Expression | None = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            self.last = ast.Expression(tree.body.pop().value)
        self.tree = tree

    def run(self) -> Any:
        """Run the body in the notebook's namespace and return the value of its last expression."""
        __tracebackhide__ = True
        namespace = self.shell.user_ns
        exec(self.shell.compile(self.tree, self.file, "exec"), namespace)
        if self.last is None:
            return None
        return eval(self.shell.compile(self.last, self.file, "eval"), namespace)


def _refuse_await(tree: ast.AST) -> None:
    pending = [tree]
    while pending:
        node = pending.pop()
        is_async = isinstance(node, ast.comprehension) and node.is_async
        if is_async or isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            raise UsageError("a traced cell cannot await; run the coroutine in a cell of its own")
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
