"""The typed line: its options, its expression, and the one evaluation of it."""

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError
from torch import nn

OPENING, CLOSING = "([{", ")]}"
QUOTES = re.compile(r"""^(['"])(.*)\1$""", re.DOTALL)
UNKNOWN_OPTION = re.compile(r"--[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Line:
    """A line cut in two.

    Attributes:
        options: the words of the options, each value a word of its own, without its quotes.
        expression: the Python that is left, as it was typed.
        silenced: whether the line ends in a semicolon.
    """

    options: tuple[str, ...]
    expression: str
    silenced: bool = False


def split_line(line: str, takes_value: Mapping[str, bool]) -> Line:
    """Cut a line into the options before and after its expression, and the expression.

    A word is an option if it stands outside all brackets and quotes and is one of those that are
    known, or begins with `--` and a letter.

    Args:
        line: what was typed after the magic's name.
        takes_value: the options, each with whether a value follows it.

    Raises:
        UsageError: for an option that is unknown, lacks its value, or stands inside the expression.
    """
    text = without_comment(line).strip()
    silenced = is_silenced(line)
    if silenced:
        text = text[:-1].rstrip()
    words = _words(text)
    options: list[str] = []
    python: list[tuple[int, int]] = []
    ended = False
    i = 0
    while i < len(words):
        start, end = words[i]
        word = text[start:end]
        name, equals, value = word.partition("=")
        if name not in takes_value:
            if UNKNOWN_OPTION.match(name):
                known = ", ".join(sorted(o for o in takes_value if o.startswith("--")))
                raise UsageError(f"unknown option {name}; there are {known}")
            if ended:
                raise UsageError(
                    f"options stand before or after the expression, not inside it: "
                    f"{word!r} follows {options[-1]!r}"
                )
            python.append((start, end))
            i += 1
            continue
        ended = bool(python)
        if takes_value[name]:
            if not equals:
                i += 1
                if i == len(words):
                    raise UsageError(f"option {name} needs a value")
                value = text[slice(*words[i])]
            value = _unquoted(value)
            options += [f"{name}={value}"] if name.startswith("--") else [name, value]
        elif equals:
            raise UsageError(f"option {name} takes no value")
        else:
            options.append(name)
        i += 1
    expression = text[python[0][0] : python[-1][1]] if python else ""
    return Line(tuple(options), expression, silenced)


def is_silenced(line: str) -> bool:
    """Tell whether a line ends in a semicolon, a comment aside."""
    return without_comment(line).rstrip().endswith(";")


def without_comment(line: str) -> str:
    """Return the line without a trailing `# comment`; a `#` in quotes stays."""
    for i, depth in enumerate(_nesting(line)):
        if line[i] == "#" and depth is not None:
            return line[:i]
    return line


def _words(text: str) -> list[tuple[int, int]]:
    """Return where the words lie that spaces outside all brackets and quotes separate."""
    nesting = _nesting(text)
    spaces = [i for i, c in enumerate(text) if c.isspace() and nesting[i] == 0]
    bounds = zip([-1, *spaces], [*spaces, len(text)], strict=True)
    return [(before + 1, after) for before, after in bounds if after > before + 1]


def _nesting(text: str) -> list[int | None]:
    """Return for each character how many brackets are open around it; None within quotes.

    The standard `tokenize` cannot do this: a pattern such as `layer?.*` is no Python.
    """
    nesting: list[int | None] = []
    depth, quote = 0, ""
    while len(nesting) < len(text):
        rest = text[len(nesting) : len(nesting) + 3]
        c = rest[0]
        if quote:
            length = 2 if c == "\\" else len(quote) if rest.startswith(quote) else 1
            quote = "" if rest.startswith(quote) else quote
            nesting += [None] * length
        elif c in "\"'":
            quote = c * 3 if rest == c * 3 else c
            nesting += [None] * len(quote)
        else:
            depth = max(0, depth + (c in OPENING) - (c in CLOSING))
            nesting.append(depth)
    return nesting[: len(text)]


def _unquoted(value: str) -> str:
    quoted = QUOTES.match(value)
    return quoted[2] if quoted else value


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

    def look_up(self, name: str) -> Any:
        """Return what a name is bound to, None where it is not."""
        return self.local.get(name, self.shell.user_ns.get(name))


def _parsed(source: str) -> ast.Expression:
    try:
        tree = ast.parse(source, mode="eval")
        compile(tree, "<expression>", "eval")  # finds what the parser lets through
    except (SyntaxError, ValueError) as error:
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


def described(value: Any) -> str:
    """Return what an expression gave, in a few words."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
