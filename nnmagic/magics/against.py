"""What stands behind `--against`: an expression of the notebook, or the path of a file."""

import ast
import builtins
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from torch import nn

from nnmagic.magics.expression import Expression, names_in
from nnmagic.magics.remedies import described, require_init
from nnmagic.magics.request import Request
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.params import Params
from nnmagic.structure.parameter_comparison import compare_parameters
from nnmagic.structure.tensor_files import BY_PICKLE

WANTED = "a network, a state dict, a record of %nnparams, or the path of a file"

FILES = (*BY_PICKLE, ".safetensors", ".json")
"""How a text ends that can only be a path."""


def compared_with(request: Request, mine: nn.Module | Mapping[str, Any]) -> ParamsComparison:
    """Return the parameters of a line beside those of what it holds them against.

    Raises:
        UsageError: if that has no parameters; the text says what to type.
    """
    __tracebackhide__ = True
    if request.options.grad:
        raise UsageError("--against compares values, not gradients; leave out --grad")
    source = request.options.against
    other = other_side(request, source)
    titles = request.expression or "NeuralNetwork", source
    try:
        return compare_parameters(mine, other, titles=titles)
    except FileNotFoundError:
        raise UsageError(f"there is no file {os.fspath(other)!r}; type {WANTED}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{error}") from None


def other_side(request: Request, source: str) -> Any:
    """Return the value of an expression, or a path.

    A name of the notebook comes first, then a file or folder that is there, then an expression.

    Raises:
        UsageError: if it is none of them, or what it gives has no parameters.
    """
    __tracebackhide__ = True
    path = Path(source).expanduser()
    is_name = source.isidentifier() and request.look_up(source) is not None
    is_file = source.endswith(FILES) or _exists(path)
    if is_file and not is_name:
        return path
    if not _is_known(request, source):
        raise UsageError(f"--against {source!r} is no name here and no file; type {WANTED}")
    value = Expression(source, request.shell, request.local).value()
    if not isinstance(value, nn.Module | Mapping | Params | str | os.PathLike):
        raise UsageError(f"--against {source!r} gives {described(value)}; type {WANTED}")
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
