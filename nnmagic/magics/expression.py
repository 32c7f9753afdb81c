"""The typed line: its options, its expression, and the one evaluation of it."""

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError
from torch import nn

from nnmagic.magics.line import is_silenced, without_comment
from nnmagic.magics.remedies import remedy_for_statement


@dataclass(frozen=True, slots=True)
class Call:
    """An expression that is a call, taken apart: each part evaluated, the call not yet made."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> Any:
        """Make the call."""
        return self.function(*self.args, **self.kwargs)

    @property
    def network(self) -> nn.Module | None:
        """The module that is called, or whose own method is; methods of every module are not."""
        if isinstance(self.function, nn.Module):
            return self.function
        owner = getattr(self.function, "__self__", None)
        name = getattr(self.function, "__name__", "")
        if not isinstance(owner, nn.Module):
            return None
        inherited = hasattr(nn.Module, name) and name not in ("forward", "__call__")
        return None if inherited else owner


class Expression:
    """A Python expression and the namespace that it is evaluated in, once.

    Args:
        source: the expression.
        shell: the IPython shell, whose cache shows the source in tracebacks.
        local: the local names of the function that the magic is called in; the notebook's own
            namespace elsewhere.

    Raises:
        UsageError: if the source is not an expression.
    """

    def __init__(self, source: str, shell: Any, local: dict[str, Any]) -> None:
        self.source = source
        self.shell = shell
        self.local = local
        self.tree = _parsed(source)
        self.names = names_in(self.tree)

    def value(self) -> Any:
        """Evaluate the expression."""
        __tracebackhide__ = True
        return self._evaluated(self.tree)

    def parts(self) -> Call | None:
        """Evaluate the function and the arguments of a call; None if it is no call."""
        __tracebackhide__ = True
        call = self.tree.body
        if not isinstance(call, ast.Call):
            return None
        parts = ast.Tuple(
            elts=[
                call.func,
                ast.Tuple(elts=call.args, ctx=ast.Load()),
                ast.Dict(
                    keys=[None if k.arg is None else ast.Constant(k.arg) for k in call.keywords],
                    values=[k.value for k in call.keywords],
                ),
            ],
            ctx=ast.Load(),
        )
        tree = ast.Expression(ast.copy_location(parts, call))
        return Call(*self._evaluated(ast.fix_missing_locations(tree)))

    def _evaluated(self, tree: ast.Expression) -> Any:
        __tracebackhide__ = True
        compiler = self.shell.compile
        name = compiler.cache(self.source, cell_number(self.shell))
        code = compile(tree, name, "eval", flags=compiler.flags, dont_inherit=True)
        everywhere = self.shell.user_ns
        if self.local is everywhere:
            return eval(code, everywhere)
        # what is nested in the expression sees only global names, so the local ones become such
        return eval(code, {**everywhere, **self.local})


def _parsed(source: str) -> ast.Expression:
    try:
        tree = ast.parse(source, mode="eval")
        compile(tree, "<expression>", "eval")  # finds what the parser lets through
    except (SyntaxError, ValueError) as error:
        if why := remedy_for_statement(source):
            raise UsageError(f"{source!r} is {why}") from None
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(f"{source!r} is not a Python expression: {why}") from None
    return tree


def cell_number(shell: Any) -> int:
    """Return the number of the cell that is running; the shell's own count may be ahead."""
    numbers = getattr(shell.compile, "_filename_map", {})
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename not in numbers:
        frame = frame.f_back
    return shell.execution_count if frame is None else numbers[frame.f_code.co_filename]


def names_in(tree: ast.AST) -> tuple[str, ...]:
    """Return the plain names in a piece of Python, each once."""
    return tuple(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def networks_named(names: Iterable[str], look_up: Any) -> list[tuple[str, nn.Module]]:
    """Return the networks that names are bound to now, with those names."""
    found = ((name, look_up(name)) for name in names)
    return [(name, value) for name, value in found if isinstance(value, nn.Module)]


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
