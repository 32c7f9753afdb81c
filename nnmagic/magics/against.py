"""What stands behind `--against`: an expression of the notebook, or the path of a file."""

import ast
import builtins
import os
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError

from nnmagic.magics.expression import Expression, names_in
from nnmagic.magics.remedies import described, require_init
from nnmagic.magics.request import Request
from nnmagic.structure.tensor_files import BY_PICKLE

FILES = (*BY_PICKLE, ".safetensors", ".json")
"""How a text ends that can only be a path."""


def other_side(request: Request, kinds: tuple[type, ...], wanted: str) -> Any:
    """Return the value of the expression behind `--against`, or a path.

    A name of the notebook comes first, then a file or folder that is there, then an expression.

    Args:
        request: the line.
        kinds: what the value may be besides a path.
        wanted: what can be typed.

    Raises:
        UsageError: if it is none of them.
    """
    __tracebackhide__ = True
    source = request.options.against
    path = Path(source).expanduser()
    is_name = source.isidentifier() and request.look_up(source) is not None
    if not is_name and (source.endswith(FILES) or _exists(path)):
        return path
    if not _is_known(request, source):
        raise UsageError(f"--against {source!r} is no name here and no file; type {wanted}")
    value = Expression(source, request.shell, request.local).value()
    if not isinstance(value, (*kinds, str, os.PathLike)):
        raise UsageError(f"--against {source!r} gives {described(value)}; type {wanted}")
    require_init(value)
    return value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return False


def _is_known(request: Request, source: str) -> bool:
    """Tell whether a text is an expression of which all names are known."""
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError):
        return False
    nodes = list(ast.walk(tree))
    inside = {node.arg for node in nodes if isinstance(node, ast.arg)}
    inside |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    known = (inside, vars(builtins), request.local, request.shell.user_ns)
    return all(any(name in each for each in known) for name in names_in(tree))
