"""Results on the meta device by rule, else from memory, else by torch's own kernels."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from nnmagic.structure.meta_rules import (
    BEYOND_META,
    META,
    ONE_DTYPE,
    RULES,
    is_dense,
    refuse_several_dtypes,
)
from nnmagic.torch_private import (
    DisableTorchFunction,
    TorchDispatchMode,
    schema_of,
    storage_id,
    tree_leaves,
    tree_map_only,
)

PLAIN = frozenset(
    {int, float, bool, complex, str, type(None)}
    | {torch.dtype, torch.device, torch.layout, torch.memory_format}
)
"""The types of the arguments that say all there is to know of them."""

STRIDED = torch.strided

MOST_CACHED = 4096
"""So many results are remembered of each operation, then all of them are forgotten."""

FIRST_ARGUMENT = 0
"""The layout of a result that is the first argument itself."""


class LightMode(TorchDispatchMode):
    """A dispatch mode that has nothing to do with `torch.compile`.

    By default torch keeps dynamo out of a mode's handler, for which it imports `torch._dynamo`:
    that takes a second, and a microsecond for each operation from then on. A run under our modes is
    never compiled.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


Kernel = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Gives the result of one operation for plain tensors on the meta device."""


class MetaCache:
    """Gives the results of operations on meta tensors faster than torch does.

    By a rule where there is one, else from memory: arguments of the same shapes, strides and dtypes
    give a result of the same. All else is left to torch, errors included.
    """

    def __init__(self) -> None:
        # by identity, which the operation in the value keeps: to hash one takes a Python call
        self._kernels: dict[int, tuple[Any, Kernel | None]] = {}

    def clear(self) -> None:
        """Forget all results."""
        self._kernels.clear()

    def kernel_of(self, func: Any) -> Kernel | None:
        """Return what gives an operation's results for arguments without a tensor subclass.

        None for an operation that is always left to torch, such as one that returns a view.
        """
        found = self._kernels.get(id(func))
        if found is None:
            found = self._kernels[id(func)] = func, _kernel_for(func)
        return found[1]


META_CACHE = MetaCache()
"""Remembers from one summary to the next, for the whole process."""


class MetaMode(LightMode):
    """Lets what runs on the meta device have its results from a cache.

    Args:
        cache: gives the results.
        count: gets each operation with its arguments and its result.
    """

    def __init__(self, cache: MetaCache, count: Callable[..., None] | None = None) -> None:
        super().__init__()
        self.kernel_of = cache.kernel_of
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        kernel = None if types else self.kernel_of(func)
        if types:  # fake tensors
            refuse_several_dtypes(func, args)
        try:
            output = func(*args, **kwargs) if kernel is None else kernel(args, kwargs)
        except RuntimeError:
            together = _without_values(args, kwargs)
            if together is None:
                raise
            output = func(*together[0], **together[1])
        if self.count is not None:
            self.count(func, args, kwargs, output)
        return output


def _without_values(args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    """Return arguments of which some have values without them; None if all have, or none.

    A forward may keep tensors in a cache outside the network, from a run with values.
    """
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    if len({each.is_meta for each in tensors}) < 2:
        return None
    return tree_map_only(Tensor, lambda each: each.to(META), (args, kwargs))


def _kernel_for(func: Any) -> Kernel | None:
    rule = RULES.get(func) or BEYOND_META.get(func) or (_no_rule if func in ONE_DTYPE else None)
    otherwise = _cached(func) if _can_be_cached(func) else None
    if rule is None:
        return otherwise

    def kernel(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        # modes make every look at a tensor ten times slower
        with DisableTorchFunction():
            output = rule(*args, **kwargs)
        if output is not NotImplemented:
            return output
        refuse_several_dtypes(func, args)
        return func(*args, **kwargs) if otherwise is None else otherwise(args, kwargs)

    return kernel


def _no_rule(*args: Any, **kwargs: Any) -> Any:
    return NotImplemented


def _cached(func: Any) -> Kernel:
    layouts: dict[Any, Any] = {}

    def kernel(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        with DisableTorchFunction():
            key = _key(args, kwargs)
            layout = layouts.get(key)
            if layout is not None:
                return _made(layout, args)
        output = func(*args, **kwargs)
        if key is not None:
            with DisableTorchFunction():
                layout = _layout(output, args)
            if layout is not None:
                if len(layouts) >= MOST_CACHED:
                    layouts.clear()
                layouts[key] = layout
        return output

    return kernel


def _can_be_cached(func: Any) -> bool:
    """Tell whether an operation gives new tensors only, or changes its first one's values only."""
    if func.namespace not in ("aten", "prims"):
        return False
    changed = [i for i, each in enumerate(schema_of(func).arguments) if each.alias_info is not None]
    if schema_of(func).is_mutable:
        return changed == [0] and torch.Tag.pointwise in func.tags
    return not any(each.alias_info is not None for each in schema_of(func).returns)


def _key(args: Iterable[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return what is equal for arguments that give equal layouts, None if it cannot be told."""
    key = [torch.get_default_dtype()]
    return tuple(key) if _adds(key, args) and (not kwargs or _adds(key, kwargs.items())) else None


def _adds(key: list[Any], values: Iterable[Any]) -> bool:
    """Add values to a key, a tensor by its layout, each with its type; False if one cannot be."""
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


def _layout(output: Any, args: tuple[Any, ...]) -> Any:
    """Return the layout of an operation's result: shape, strides and dtype of a new tensor.

    A list of them for several tensors, `FIRST_ARGUMENT` for that; None if it shares memory with an
    argument, or is no tensor.
    """
    if args and output is args[0]:
        return FIRST_ARGUMENT
    outputs = output if type(output) is tuple else (output,)
    taken = {storage_id(each) for each in _tensors_in(args)}
    for each in outputs:
        if not (type(each) is Tensor and each.is_meta and is_dense(each)):
            return None
        if each.storage_offset() or storage_id(each) in taken:
            return None
    layouts = [(each.shape, each.stride(), each.dtype) for each in outputs]
    return layouts if type(output) is tuple else layouts[0]


def _made(layout: Any, args: tuple[Any, ...]) -> Any:
    """Return a result of this layout for these arguments."""
    if layout == FIRST_ARGUMENT:
        return args[0]
    if type(layout) is tuple:
        return _empty(*layout)
    return tuple([_empty(*each) for each in layout])


def _empty(shape: torch.Size, strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, strides, dtype=dtype, device=META)


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors_in(value)
