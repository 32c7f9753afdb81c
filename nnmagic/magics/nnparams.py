"""What `%nnparams` is answered with: parameters, or with `--against` those of two sides."""

import ast
import builtins
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from torch import nn

from nnmagic.magics.expression import Expression, names_in
from nnmagic.magics.remedies import described, remedy, require_init
from nnmagic.magics.request import Request
from nnmagic.network.calls import CallCounter, observed
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.params import Params
from nnmagic.records.record import VALUES_SHOWN
from nnmagic.structure.parameter_comparison import compare_parameters
from nnmagic.structure.parameters import params
from nnmagic.structure.tensor_files import BY_PICKLE

WANTED = "a network, a state dict, a record of %nnparams, or the path of a file"

FILES = (*BY_PICKLE, ".safetensors", ".json")
"""How a text ends that can only be a path."""


def params_of(request: Request) -> Params | ParamsComparison:
    """Return the parameters that a line asks for, beside others where it asks for that."""
    __tracebackhide__ = True
    if request.options.against is not None:
        return _compared_with(request, _params_subject(request))
    values = VALUES_SHOWN if request.options.values is None else request.options.values
    grad = request.options.grad
    value = _params_subject(request)
    try:
        return params(value, values=values, grad=grad, title=request.expression or "NeuralNetwork")
    except TypeError as error:
        raise UsageError(
            f"{request.expression!r}: {error}; type a network or a state dict"
        ) from None


def _params_subject(request: Request) -> nn.Module | Mapping[str, Any]:
    """Return the network or the state dict of a line, the default network where it names none."""
    __tracebackhide__ = True
    if not request.expression:
        return request.default_network()
    expression = request.python()
    call = expression.parts()
    if call is not None and isinstance(call.function, nn.Module):
        function = request.expression.partition("(")[0]
        raise UsageError(f"{request.expression!r} is a call; type the network alone: {function}")
    counter = CallCounter()
    with observed(counter):
        value = expression.value() if call is None else call()
    if counter.calls or not isinstance(value, nn.Module | Mapping):
        wanted = remedy(request.expression, value, "a network or a state dict")
        raise UsageError(f"{request.expression!r} gives {described(value)}; {wanted}")
    require_init(value)
    return value


def _compared_with(request: Request, mine: nn.Module | Mapping[str, Any]) -> ParamsComparison:
    """Return the parameters of a line beside those of what it holds them against.

    Raises:
        UsageError: if that has no parameters; the text says what to type.
    """
    __tracebackhide__ = True
    if request.options.grad:
        raise UsageError("--against compares values, not gradients; leave out --grad")
    source = request.options.against
    other = _other_side(request, source)
    titles = request.expression or "NeuralNetwork", source
    try:
        return compare_parameters(mine, other, titles=titles)
    except FileNotFoundError:
        raise UsageError(f"there is no file {os.fspath(other)!r}; type {WANTED}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{error}") from None


def _other_side(request: Request, source: str) -> Any:
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
