"""What to type in place of a line that gives no network, and no call of one."""

import ast
import inspect
from collections.abc import Generator
from typing import Any

import torch
from IPython.core.error import UsageError
from torch import nn

from nnmagic.display.units import with_article
from nnmagic.network.layers import is_initialised

CALL = "a network or a call of one, such as net(x)"


def described(value: Any) -> str:
    """Return what an expression gave, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return with_article(type(value).__name__)


def require_init(value: Any) -> None:
    """Refuse a network that holds nothing, since its `__init__` did not run `nn.Module`'s.

    Raises:
        UsageError: if it is such a network.
    """
    if isinstance(value, nn.Module) and not is_initialised(value):
        kind = type(value).__name__
        raise UsageError(
            f"{kind} lacks super().__init__() in its __init__: add that as the first line"
        )


def remedy(source: str, value: Any, wanted: str = CALL) -> str:
    """Return what to type in place of an expression that gave no network.

    Args:
        source: the expression.
        value: what it gave.
        wanted: what can be typed, where nothing more is known.
    """
    if isinstance(value, tuple) and value and isinstance(value[0], nn.Module):
        return _beside_network(source, value, may_call=wanted is CALL)
    if isinstance(value, type) and issubclass(value, nn.Module):
        return f"make a network of it first: {source}({_parameters(value)})"
    if isinstance(value, torch.Tensor):
        return f"type the call that makes it, such as net({source})"
    if isinstance(value, list | tuple) and value and isinstance(value[0], nn.Module):
        return f"make a network of them: nn.Sequential(*{source})"
    if isinstance(value, Generator) and source.endswith("parameters()"):
        return f"type the network alone: {source.rpartition('.')[0]}"
    if callable(value) and not isinstance(value, type):
        is_lambda = isinstance(ast.parse(source, mode="eval").body, ast.Lambda)
        function = f"({source})" if is_lambda else source
        return f"call it: {function}({_parameters(value)})"
    held = [name for name, each in _attributes(value).items() if isinstance(each, nn.Module)]
    if held:
        return f"it holds a network, type {source}.{held[0]}"
    return f"type {wanted}"


def _beside_network(source: str, value: tuple[Any, ...], *, may_call: bool) -> str:
    """Say how a network goes with what stands beside it, after a comma."""
    tree = ast.parse(source, mode="eval").body
    if not isinstance(tree, ast.Tuple):
        return f"type its network alone: {source}[0]"
    network, *others = map(ast.unparse, tree.elts)
    if not may_call:
        return f"type the network alone: {network}"
    if all(isinstance(each, torch.Tensor) for each in value[1:]):
        return f"type the call: {network}({', '.join(others)})"
    if all(isinstance(each, tuple | list | torch.Size) for each in value[1:]):
        sizes = " ".join(f"--input-size {','.join(map(str, each))}" for each in value[1:])
        return f"type the size as an option: {network} {sizes}"
    return f"type the network alone: {network}"


def _parameters(function: Any) -> str:
    """Return `…` where a call needs arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "…"
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return "…" * any(p.default is p.empty and p.kind not in variable for p in parameters)


def _attributes(value: Any) -> dict[str, Any]:
    attributes = getattr(value, "__dict__", {})
    return dict(attributes) if isinstance(attributes, dict) else {}


def remedy_for_statement(source: str) -> str:
    """Return what to type in place of a statement, `""` where the source is none."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return ""
    match statements:
        case [ast.Assign(targets=[ast.Name(id=name)], value=value)]:
            return (
                f"an assignment; to keep the record as {name} type {ast.unparse(value)} -o {name}"
            )
    return "a statement, not an expression; it goes into a cell that begins with %%nntrace"
