"""Showing a magic that stands as a statement of its own, wherever it stands."""

import ast
from typing import Any

from nnmagic.expression import is_silenced


class ShownStatements(ast.NodeTransformer):
    """Wraps `%nn...` statements in `display`, and leaves a cell's last expression to IPython.

    An assignment, an argument or a condition is no statement, and shows nothing.

    Args:
        magics: the names of the line magics.
    """

    def __init__(self, magics: frozenset[str]) -> None:
        self.magics = magics

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Change all but the last statement of a cell."""
        for i, statement in enumerate(node.body):
            if i < len(node.body) - 1 or not isinstance(statement, ast.Expr):
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
