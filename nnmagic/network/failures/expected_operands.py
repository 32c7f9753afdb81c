"""What an operation in the user's own code expects of its operands."""

import ast
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import torch
from torch import nn

from nnmagic.network.failures.earlier_calls import Given
from nnmagic.network.failures.expected_targets import LOSSES

PRODUCTS = ("matmul", "mm", "bmm", "mv")
FILLED = ("view", "reshape")
JOINED = ("cat", "concat", "stack")
BROADCAST = ("add", "sub", "mul", "div", "where", "masked_fill", "masked_fill_")


def unfit_operands(node: ast.AST | None, operands: Sequence[tuple[str, Any]]) -> str:
    """Say which operands of an operation do not fit each other, `""` where that is not seen.

    Args:
        node: the operation as a syntax tree.
        operands: its operands, each with its source.
    """
    tensors = {name: each for name, each in operands if isinstance(each, torch.Tensor)}
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        is_shape = isinstance(node.value, ast.Attribute) or _called(node.value) == "size"
        return _unpacked(len(node.targets[0].elts), tensors) if is_shape else ""
    name = _called(node)
    operator = node.op if isinstance(node, ast.BinOp | ast.AugAssign) else None
    if name in PRODUCTS or isinstance(operator, ast.MatMult):
        return _product(tensors)
    if name in BROADCAST or operator is not None:
        return _broadcast(tensors)
    if name in FILLED:
        return _filled(operands)
    if name in JOINED:
        return _joined(node, tensors)
    if name == "backward":
        return _started(*tensors.values())
    return _loss(name, tensors)


def _called(node: ast.AST | None) -> str:
    """Return the name of the function or the method that is called."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _axis(tensors: Mapping[str, torch.Tensor], axis: int) -> str:
    """Say how large an axis is in each tensor, `""` where it is the same in all."""
    sizes = {name: each.shape[axis] for name, each in tensors.items() if -axis <= each.dim()}
    if len(set(sizes.values())) < 2:
        return ""
    return f"axis {axis} is {' and '.join(f'{size} in {name}' for name, size in sizes.items())}"


def _broadcast(tensors: Mapping[str, torch.Tensor]) -> str:
    most = max((each.dim() for each in tensors.values()), default=0)
    one_number = all(each.dim() == most for each in tensors.values())
    differing = []
    for axis in range(most) if one_number else range(-1, -most - 1, -1):
        wide = {n: t for n, t in tensors.items() if -axis <= t.dim() and t.shape[axis] != 1}
        if text := _axis(wide, axis):
            differing.append((axis, text, wide))
    if not differing:
        return ""
    text = f"{', '.join(text for _, text, _ in differing)}: "
    text += "it must be the same" if len(differing) == 1 else "they must be the same"
    axis, _, wide = differing[0]
    if hint := _with_an_axis(tensors):
        return text + hint
    if kept := next((name for name in wide if _is_kept(name)), ""):
        return text + _cut_or_made_anew(kept, axis, wide)
    return text + _projected([axis for axis, _, _ in differing], tensors)


def _cut_or_made_anew(kept: str, axis: int, tensors: Mapping[str, torch.Tensor]) -> str:
    """Say what to do where an attribute of the network is of another size than the input."""
    size, own = min(each.shape[axis] for each in tensors.values()), tensors[kept].shape[axis]
    if own == size or "[" in kept:
        return f"; {kept} was made for inputs of another size"
    cut = ", ".join([":"] * (axis % tensors[kept].dim()) + [f":{size}"])
    return f"; {kept} was made for {own}: take as much of it as there is, {kept}[{cut}]"


def _projected(axes: list[int], tensors: Mapping[str, torch.Tensor]) -> str:
    """Name the layer that makes one operand as the other is, as on the way around a block."""
    if len(tensors) != 2 or any(":" in name for name in tensors):
        return ""
    (name, x), (_, y) = tensors.items()
    if x.dim() != y.dim() or x.dim() < 2 or x.shape[0] != y.shape[0]:
        return ""
    if axes in ([x.dim() - 1], [-1]) and x.dim() < 4:
        return f"; {name} becomes so by nn.Linear({x.shape[-1]}, {y.shape[-1]})"
    steps = {a / b for a, b in zip(x.shape[2:], y.shape[2:], strict=True)}
    step = steps.pop() if len(steps) == 1 else 0
    if x.dim() != 4 or step < 1 or step % 1:
        return ""
    stride = f", stride={step:.0f}" if step > 1 else ""
    return f"; {name} becomes so by nn.Conv2d({x.shape[1]}, {y.shape[1]}, 1{stride})"


def _started(loss: torch.Tensor) -> str:
    """Say why a backward does not start from a tensor."""
    if loss.numel() != 1:
        return "it starts from one number: a loss, or .sum()"
    if loss.is_meta or loss.requires_grad:
        return ""
    return "no parameter that can be trained made it: under no_grad, detached, or all are frozen?"


def _unpacked(names: int, tensors: Mapping[str, torch.Tensor]) -> str:
    (name, tensor), *_ = tensors.items()
    one_less = tensor.dim() == names - 1
    hint = "; one item becomes a batch with .unsqueeze(0)" if one_less else ""
    return f"{name} has {tensor.dim()} axes for {names} names{hint}"


def _with_an_axis(tensors: Mapping[str, torch.Tensor]) -> str:
    """Say which tensor fits the others with one axis more, as a mask for all queries does."""
    most = max(each.dim() for each in tensors.values())
    for name, tensor in tensors.items():
        if 1 < tensor.dim() == most - 1:
            shapes = [each.shape for key, each in tensors.items() if key != name]
            with suppress(RuntimeError):
                torch.broadcast_shapes(tensor.unsqueeze(1).shape, *shapes)
                return f"; {name}.unsqueeze(1) fits"
    return ""


def _is_kept(name: str) -> bool:
    """Tell whether a name is an attribute of the network, such as `self.positions`."""
    return name.startswith("self.") and "(" not in name


def _product(tensors: Mapping[str, torch.Tensor]) -> str:
    if len(tensors) != 2 or not all(each.dim() for each in tensors.values()):
        return ""
    (left, a), (right, b) = tensors.items()
    rows = -2 if b.dim() > 1 else -1
    if a.shape[-1] == b.shape[rows]:
        differ = a.dtype != b.dtype
        return f"they must have one dtype; convert {right} with .to({left}.dtype)" * differ
    turned = f"; turn it, {right}.mT" if b.dim() > 1 and a.shape[-1] == b.shape[-1] else ""
    return (
        f"axis -1 of {left} is {a.shape[-1]}, axis {rows} of {right} is {b.shape[rows]}: "
        f"they must be the same{turned}"
    )


def _filled(operands: Sequence[tuple[str, Any]]) -> str:
    (name, tensor), *others = operands
    sizes: list[Any] = []
    for _, size in others:
        sizes += size if isinstance(size, tuple | list) else [size]
    if not isinstance(tensor, torch.Tensor) or not all(type(size) is int for size in sizes):
        return ""
    values, needed = tensor.numel(), prod(size for size in sizes if size != -1)
    fits = values % needed == 0 if -1 in sizes and needed else values == needed
    if fits:
        return ""
    text = f"{name} holds {values:,} values, {tuple(sizes)} takes "
    if -1 in sizes:
        return f"{text}a multiple of {needed:,}; .flatten(1) keeps the items apart"
    return f"{text}{needed:,}"


def _joined(node: Any, tensors: Mapping[str, torch.Tensor]) -> str:
    if len({each.dim() for each in tensors.values()}) != 1:
        return "they must have the same number of axes; .unsqueeze(1) adds one" if tensors else ""
    most = next(iter(tensors.values())).dim()
    given = [each.value for each in node.keywords if each.arg in ("dim", "axis")] or node.args[1:]
    joined = ast.literal_eval(given[0]) % most if given else 0
    is_stack = _called(node) == "stack"
    for axis in range(most):
        text = _axis(tensors, axis)
        if text and (is_stack or axis != joined):
            if is_stack:
                return f"{text}: it must be the same; torch.cat joins along an axis that differs"
            return f"{text}: only axis {joined} may differ; crop or pad one of them"
    return ""


def _loss(name: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Say what the layer of the same loss would say of a function such as `F.cross_entropy`."""
    wanted = {name.replace("_", "") + more for more in ("", "loss")}
    for kinds, explain in LOSSES:
        for kind in kinds:
            if kind.__name__.lower() in wanted and len(tensors) > 1:
                scores, target = list(tensors.values())[:2]
                loss: nn.Module = kind()
                return explain(loss, scores, Given({"input": scores, "target": target}))
    return ""
