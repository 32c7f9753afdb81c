"""Results on the meta device from memory, else by rule, else by torch's own kernels."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from nnmagic.structure.meta_rules import BEYOND_META, META, RULES, is_dense

PLAIN = frozenset(
    {int, float, bool, complex, str, type(None)}
    | {torch.dtype, torch.device, torch.layout, torch.memory_format}
)
"""The types of the arguments that say all there is to know of them."""


STRIDED = torch.strided

NOT_WORTH = frozenset({torch.ops.aten.empty.memory_format})
"""Operations whose results are made faster than they are remembered."""


class Known:
    """What is remembered of an operation on arguments of the same forms.

    Attributes:
        form: shape, strides and dtype of the new tensor that it gives; a list of them where it
            gives several; 0 where it gives its first argument.
        flops: its floating-point operations, as whoever counts them has found.
    """

    __slots__ = ("flops", "form")

    def __init__(self, form: Any) -> None:
        self.form = form
        self.flops: int | None = None

    def made(self, args: tuple[Any, ...]) -> Any:
        """Return what the operation gives for arguments of these forms."""
        form = self.form
        if type(form) is tuple:
            shape, strides, dtype = form
            return torch.empty_strided(shape, strides, dtype=dtype, device=META)
        if form == 0:
            return args[0]
        return tuple(
            [
                torch.empty_strided(shape, strides, dtype=dtype, device=META)
                for shape, strides, dtype in form
            ]
        )


MOST = 4096
"""So many forms are remembered of each operation, then all of them are forgotten."""

Kernel = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, Known | None]]
"""Gives the result of one operation, and what is remembered of it, for plain tensors."""


class MetaKernels:
    """Gives the results of operations on meta tensors at once where they are known.

    First from memory: an operation whose arguments have the same forms gives a result of the same
    form. Then by a rule. All else is left to torch, errors included.
    """

    def __init__(self) -> None:
        self._kernels: dict[Any, Kernel | None] = {}

    def kernel_of(self, func: Any) -> Kernel | None:
        """Return what gives an operation's results for arguments without a tensor subclass.

        None if they are never known, as those of a view.
        """
        if func not in self._kernels:
            self._kernels[func] = self._kernel_of(func)
        return self._kernels[func]

    def _kernel_of(self, func: Any) -> Kernel | None:
        rule = RULES.get(func) or BEYOND_META.get(func)
        can_be_known = _can_be_known(func) and func not in NOT_WORTH
        if rule is None and not can_be_known:
            return None
        memory: dict[Any, Known] = {}

        def kernel(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Known | None]:
            __tracebackhide__ = True
            # modes make every look at a tensor ten times slower
            with torch._C.DisableTorchFunction():
                key = _key(args, kwargs) if can_be_known else None
                known = memory.get(key)
                if known is not None:
                    return known.made(args), known
                output = NotImplemented if rule is None else rule(*args, **kwargs)
                by_rule = output is not NotImplemented
            if not by_rule:
                output = func(*args, **kwargs)
            if key is not None:
                with torch._C.DisableTorchFunction():
                    form = _form(output, args, is_new=by_rule)
                if form is not None:
                    if len(memory) >= MOST:
                        memory.clear()
                    known = memory[key] = Known(form)
            return output, known

        return kernel


@lru_cache(maxsize=1)
def meta_kernels(formulas: int) -> MetaKernels:
    """Return the kernels that remember from one run to the next.

    Args:
        formulas: how many there are to count operations by: what is remembered of those may be
            another number with more of them.
    """
    return MetaKernels()


@cache
def _can_be_known(func: Any) -> bool:
    """Tell whether an operation gives new tensors only, or changes its first one's values only."""
    if func.namespace not in ("aten", "prims"):
        return False
    changed = [i for i, each in enumerate(func._schema.arguments) if each.alias_info is not None]
    if func._schema.is_mutable:
        return changed == [0] and torch.Tag.pointwise in func.tags
    return not any(each.alias_info is not None for each in func._schema.returns)


def _key(args: Iterable[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return what is equal for arguments of the same forms, None if it cannot be told."""
    key = [torch.get_default_dtype()]
    return tuple(key) if _adds(key, args) and (not kwargs or _adds(key, kwargs.items())) else None


def _adds(key: list[Any], values: Iterable[Any]) -> bool:
    """Add the forms of values to a key, each behind what tells its kind; False if it cannot be."""
    for value in values:
        kind = type(value)
        if kind is Tensor or kind is Parameter or issubclass(kind, Tensor):
            if not value.is_meta or value.layout is not STRIDED or value.is_nested:
                return False
            key += (value.shape, value.stride(), value.dtype)
        elif kind in PLAIN:
            key += (kind, value)  # 1, 1.0 and True are equal, but give other dtypes
        elif kind is not list and kind is not tuple:
            return False
        elif PLAIN.issuperset(map(type, value)):
            key += (kind, tuple(map(type, value)), tuple(value))
        else:
            key += (kind, len(value))
            if not _adds(key, value):
                return False
    return True


def _form(output: Any, args: tuple[Any, ...], *, is_new: bool) -> Any:
    """Return the form of what an operation gives; None where that is no new tensor.

    Args:
        output: what it gave.
        args: its arguments.
        is_new: whether it is known to have memory of its own, unless it is the first argument.
    """
    if args and output is args[0]:
        return 0
    outputs = output if type(output) is tuple else (output,)
    if not is_new:
        given = {each.untyped_storage()._cdata for each in _tensors_in(args)}
        for each in outputs:
            if not (type(each) is Tensor and each.is_meta and is_dense(each)):
                return None
            if each.storage_offset() or each.untyped_storage()._cdata in given:
                return None
    forms = [(each.shape, each.stride(), each.dtype) for each in outputs]
    return forms if type(output) is tuple else forms[0]


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors_in(value)
