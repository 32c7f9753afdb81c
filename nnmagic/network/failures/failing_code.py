"""The code of the user's that raised, with the shapes of what it worked on."""

import ast
import inspect
import linecache
import operator
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, ModuleType
from typing import Any

import torch
from torch import nn

from nnmagic.display.units import printable
from nnmagic.network.places import raised_at
from nnmagic.torch_private import (
    DisableTorchFunction,
    buffers_of,
    children_of,
    no_dispatch,
    parameters_of,
)

LONGEST_CODE = 120
"""How much of a line of code an explanation quotes."""

UNKNOWN = object()
"""What an expression gives that cannot be told without running it again."""

ShapeOfLayer = Callable[[nn.Module], tuple[int, ...] | None]
"""Gives the shape of what a layer returned last."""

PURE = {each.__name__: each for each in (len, int, float, min, max, sum, range)}
"""The functions of Python that may be called again."""

MADE = ("zeros", "ones", "full", "empty", "arange", "tensor", "rand", "randn", "randint", "eye")
"""The functions of torch that make a tensor of none."""

PLAIN = (torch.Tensor, int, float, str, tuple, list)
"""What operators are applied to again."""

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
}


class FailingCode:
    """The innermost piece of the user's code that an exception passed through.

    Its operands are worked out again on tensors without values, by functions of torch alone: no
    code of the user's runs twice, and nothing is computed.

    Args:
        error: the exception.
        shape_of_layer: gives the shape of what a layer returned last.

    Attributes:
        source: the piece of code, `""` where there is none.
        node: the same as a syntax tree; None where it is no expression.
    """

    def __init__(self, error: BaseException, shape_of_layer: ShapeOfLayer) -> None:
        self.source = ""
        self.node: ast.AST | None = None
        self.shape_of_layer = shape_of_layer
        innermost = raised_at(error)
        if innermost is None:
            return
        frame: FrameType = innermost.tb_frame
        self.names: Mapping[str, Any] = {**PURE, **frame.f_globals, **frame.f_locals}
        positions = list(frame.f_code.co_positions())[innermost.tb_lasti // 2]
        path = frame.f_code.co_filename
        self.source = _source(path, positions)
        self.node = _parsed(self.source)
        if isinstance(self.node, ast.Tuple):  # names that a value was to be unpacked into
            self.source = linecache.getline(path, innermost.tb_lineno).strip()
            self.node = _parsed(self.source)

    def operands(self) -> list[tuple[str, Any]]:
        """Return the values that the code works on, with their source; tensors without values."""
        found: list[tuple[str, Any]] = []
        for node in _operands(self.node) if self.node is not None else ():
            self._add(node, found)
        return found

    def _add(self, node: ast.AST, found: list[tuple[str, Any]]) -> None:
        if isinstance(node, ast.List | ast.Tuple):
            for each in node.elts:
                self._add(each, found)
            return
        value = self.value(node)
        if value is not UNKNOWN:
            found.append((ast.unparse(node), value))
            return
        for name in ast.walk(node):  # what it is made of, where that is all there is to tell
            if isinstance(name, ast.Name) and name is not node:
                self._add(name, found)

    def layer_made_of_tensor(self) -> type[nn.Module] | None:
        """Return the class of a layer that the code makes of a tensor, in place of applying it."""
        for node in ast.walk(self.node) if self.node is not None else ():
            if isinstance(node, ast.Call):
                kind = self.value(node.func)
                if isinstance(kind, type) and issubclass(kind, nn.Module):
                    values = [*node.args, *(each.value for each in node.keywords)]
                    if any(isinstance(self.value(each), torch.Tensor) for each in values):
                        return kind
        return None

    def value(self, node: ast.AST) -> Any:
        """Return the value of an expression, `UNKNOWN` where code of the user's would run."""
        try:
            with no_dispatch(), DisableTorchFunction(), torch.no_grad():
                return self._value(node)
        except Exception:  # noqa: BLE001 - what cannot be told again is left out
            return UNKNOWN

    def _value(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return _emptied(self.names[node.id])
            case ast.Attribute():
                return _emptied(_attribute(self._value(node.value), node.attr))
            case ast.Subscript():
                return _emptied(_item(self._value(node.value), self._value(node.slice)))
            case ast.Slice():
                parts = (node.lower, node.upper, node.step)
                return slice(*(None if each is None else self._value(each) for each in parts))
            case ast.Tuple() | ast.List():
                values = [self._value(each) for each in node.elts]
                return tuple(values) if isinstance(node, ast.Tuple) else values
            case ast.UnaryOp():
                return self._applied(node.op, node.operand)
            case ast.BinOp():
                return self._applied(node.op, node.left, node.right)
            case ast.Call():
                return self._returned(node)
        raise LookupError(node)

    def _applied(self, operation: ast.AST, *nodes: ast.AST) -> Any:
        values = [self._value(each) for each in nodes]
        if not all(isinstance(each, PLAIN) for each in values):
            raise LookupError(operation)
        return OPERATORS[type(operation)](*values)

    def _returned(self, node: ast.Call) -> Any:
        function = self._value(node.func)
        if isinstance(function, nn.Module):
            shape = self.shape_of_layer(function)
            if shape is None:
                raise LookupError(node)
            return torch.empty(shape, device="meta")
        args = [self._value(each) for each in node.args]
        kwargs = {each.arg: self._value(each.value) for each in node.keywords if each.arg}
        if any(function is getattr(torch, name) for name in MADE):
            return function(*args, **{**kwargs, "device": "meta"})
        if function in PURE.values() or _is_torchs(function, (*args, *kwargs.values())):
            return function(*args, **kwargs)
        raise LookupError(node)


def _is_torchs(function: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether this is a function of torch that gets tensors, none of them with values."""
    owner = getattr(function, "__self__", None)
    home = getattr(function, "__module__", None) or ""
    if isinstance(owner, torch.Tensor):
        return type(owner) is torch.Tensor and hasattr(torch.Tensor, function.__name__)
    values = [each for arg in args for each in (arg if isinstance(arg, list | tuple) else (arg,))]
    gets_tensors = any(isinstance(each, torch.Tensor) for each in values)
    return gets_tensors and home.partition(".")[0] == "torch" and not isinstance(function, type)


def _emptied(value: Any) -> Any:
    """Return a tensor of the same shape without values; anything else as it is."""
    if not isinstance(value, torch.Tensor) or value.is_meta:
        return value
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


def _attribute(owner: Any, name: str) -> Any:
    """Return an attribute, without running a property of the user's."""
    if isinstance(owner, torch.Tensor | ModuleType):
        return getattr(owner, name)
    if isinstance(owner, nn.Module):
        for held in (vars(owner), parameters_of(owner), buffers_of(owner), children_of(owner)):
            if name in held:
                return held[name]
    value = inspect.getattr_static(owner, name)
    if hasattr(type(value), "__get__"):
        raise LookupError(name)
    return value


def _item(container: Any, index: Any) -> Any:
    if isinstance(container, torch.Tensor) or type(container) in (list, tuple, dict, torch.Size):
        return container[index]
    if isinstance(container, nn.ModuleList | nn.Sequential | nn.ModuleDict):
        held: Any = children_of(container)
        return list(held.values())[index] if isinstance(index, int) else held[index]
    raise LookupError(index)


def _parsed(source: str) -> ast.AST | None:
    """Return an expression, or a statement, as a syntax tree; None where it is neither."""
    try:
        statement = ast.parse(source.strip()).body[0]
    except (SyntaxError, ValueError, IndexError):
        return None
    return statement.value if isinstance(statement, ast.Expr) else statement


def _operands(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions that a piece of code works on."""
    match node:
        case ast.BinOp():
            yield from (node.left, node.right)
        case ast.AugAssign():
            yield from (node.target, node.value)
        case ast.Compare():
            yield from (node.left, *node.comparators)
        case ast.Subscript():
            yield from (node.value, node.slice)
        case ast.UnaryOp():
            yield node.operand
        case ast.Call():
            if isinstance(node.func, ast.Attribute):
                yield node.func.value
            yield from (*node.args, *(each.value for each in node.keywords))
        case ast.Attribute():
            yield node.value
        case ast.Assign():
            yield from _operands(node.value)
        case _:
            yield from (each for each in ast.walk(node) if isinstance(each, ast.Name))


def _source(path: str, positions: tuple[int | None, int | None, int | None, int | None]) -> str:
    first, last, start, end = positions
    if first is None or last is None or start is None or end is None:
        return ""
    lines = [linecache.getline(path, number).encode() for number in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return " ".join(b"".join(lines).decode(errors="replace").split())


def quoted(source: str) -> str:
    """Return a piece of code between quotation marks, cut where it is long."""
    text = source if len(source) <= LONGEST_CODE else f"{source[:LONGEST_CODE]}…"
    return f"“{printable(text)}”"
