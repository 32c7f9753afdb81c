"""What a network holds before and after a run: proving it the same, and putting it back."""

import gc
import random
import weakref
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from nnmagic.contexts import block
from nnmagic.network.layers import ATOMS, EVERY_MODULES, Layers
from nnmagic.tensors import devices
from nnmagic.tensors.metadata import Unseen, unseen

P = ParamSpec("P")
T = TypeVar("T")

COPIED = 1 << 20
"""Buffers of up to this many bytes are compared with a copy, larger ones by a checksum."""

CONTAINERS = (dict, OrderedDict, list, set, deque)

CLOSED = ATOMS | {Tensor, nn.Parameter}
"""The types of the values that hold nothing to be put back."""

PLAIN_CONTAINERS = frozenset({dict, OrderedDict, set})

CONTAINERS_OF_EVERY_MODULE = itemgetter(
    *(name for name, value in EVERY_MODULES.items() if type(value) in PLAIN_CONTAINERS)
)

ONLY_PARAMETERS, ONLY_TENSORS = frozenset({nn.Parameter}), frozenset({Tensor})
ONLY_TUPLES = frozenset({tuple})

DATA_PTR, NUMPY, VERSION = Tensor.data_ptr, Tensor.numpy, attrgetter("_version")

MISSING = (None,)

CONTENTS_DEPTH = 4
"""How deep containers and objects within an attribute are put back."""


@dataclass(slots=True)
class _Held:
    """The tensors of one kind that the layers of a network hold.

    Attributes:
        layers: for each the name of its layer.
        names: its own name there.
        columns: what tells whether it is the same, in one list or several.
    """

    layers: list[str]
    names: list[str]
    columns: tuple[list[Any], ...]

    def by_name(self) -> dict[str, tuple[Any, ...]]:
        """Return what tells whether each is the same, by its dotted name."""
        return {
            f"{layer}.{name}" if layer else name: (*marks,)
            for layer, name, *marks in zip(self.layers, self.names, *self.columns, strict=True)
        }


class _Tensors(NamedTuple):
    """The same with the tensors themselves, for the moment."""

    layers: list[str]
    names: list[str]
    tensors: list[Tensor]

    def add(self, layer: str, registry: Mapping[str, Tensor | None]) -> None:
        """Add what a layer holds."""
        layers, names, tensors = self
        for name, tensor in registry.items():
            if tensor is not None:
                layers.append(layer)
                names.append(name)
                tensors.append(tensor)


class Fingerprint:
    """Parameters by identity, storage and version counter, buffers by value.

    It keeps neither the layers nor their tensors alive. A write through `.data` that leaves the
    version counter alone is not seen in a parameter.

    Args:
        layers: weak references to the layers of a network, with their names.
    """

    def __init__(self, layers: list[tuple[str, weakref.ref[nn.Module]]]) -> None:
        self.layers = layers
        self.whole = True
        self.parameters, self.buffers = self._now()

    def _now(self) -> tuple[_Held, _Held]:
        parameters, buffers = _Tensors([], [], []), _Tensors([], [], [])
        for name, reference in self.layers:
            layer = reference()
            if layer is not None:
                if layer._parameters:
                    parameters.add(name, layer._parameters)
                if layer._buffers:
                    buffers.add(name, layer._buffers)
        if not ONLY_PARAMETERS.issuperset(map(type, parameters.tensors)):
            self.whole &= all(isinstance(each, nn.Parameter) for each in parameters.tensors)
        if any(map(devices.is_capturing, buffers.tensors)):
            self.whole = False
        return (
            _Held(parameters.layers, parameters.names, _marks(parameters.tensors)),
            _Held(buffers.layers, buffers.names, (_values(buffers.tensors),)),
        )

    def changes(self) -> list[str] | None:
        """Return the names of what is not as it was.

        None where that cannot be told: the parameters are replaced for a while, as
        `torch.func.functional_call` does, a CUDA graph is captured, or a device has failed.
        """
        parameters, buffers = self._now()
        if not self.whole:
            return None
        changed = []
        if parameters != self.parameters:
            before, now = self.parameters.by_name(), parameters.by_name()
            changed += [n for n in before | now if before.get(n) != now.get(n)]
        if ONLY_TUPLES.issuperset(map(type, *buffers.columns)) and buffers == self.buffers:
            return changed
        before, now = self.buffers.by_name(), buffers.by_name()
        try:
            with Unseen():
                differ = {
                    n: _differ(*before.get(n, MISSING), *now.get(n, MISSING)) for n in before | now
                }
                there = {n: flag for n, flag in differ.items() if isinstance(flag, Tensor)}
                if there:
                    flags = devices.read_together([*there.values()])
                    differ |= zip(there, map(bool, flags), strict=True)
        except RuntimeError:
            return None
        return changed + [n for n, differs in differ.items() if differs]


def _marks(tensors: list[Tensor]) -> tuple[list[Any], ...]:
    """Return the identities of tensors, where their memory is, and their version counters."""
    try:
        with torch._C.DisableTorchFunction():
            return [*map(id, tensors)], [*map(DATA_PTR, tensors)], [*map(VERSION, tensors)]
    except (RuntimeError, ValueError, NotImplementedError):
        return ([*map(_mark, tensors)],)


def _mark(tensor: Tensor) -> Any:
    try:
        return id(tensor), tensor.data_ptr(), tensor._version
    except (RuntimeError, ValueError, NotImplementedError):
        return id(tensor)  # an inference tensor, or one without a storage


def _values(buffers: list[Tensor]) -> list[Any]:
    if not buffers:
        return []
    if ONLY_TENSORS.issuperset(map(type, buffers)) and not any(
        map(devices.on_accelerator, buffers)
    ):
        # NumPy may not be able to read them where they are
        with suppress(TypeError, RuntimeError), torch._C.DisableTorchFunction():
            return list(map(_copied, map(NUMPY, buffers)))
    return list(map(_value, buffers))


def _copied(values: Any) -> tuple[str, tuple[int, ...], bytes | int]:
    if values.nbytes <= COPIED:
        return values.dtype.char, values.shape, values.tobytes()
    whole = values if values.flags.c_contiguous else values.tobytes()
    return values.dtype.char, values.shape, zlib.crc32(whole)


def _value(buffer: Tensor) -> Any:
    if buffer.layout is not torch.strided or buffer.is_meta:
        return _mark(buffer)  # torch cannot compare sparse tensors
    try:
        tensor = buffer.detach() if buffer.requires_grad else buffer
        if devices.on_accelerator(tensor):
            with unseen(tensor):
                return tensor.clone()
        if type(tensor) is not Tensor or tensor.is_quantized:
            return tensor.clone()
        try:
            return _copied(tensor.numpy())
        except TypeError:  # a dtype that NumPy lacks
            return _copied(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    except (RuntimeError, ValueError, NotImplementedError):
        return _mark(buffer)


def _same(before: Any, now: Any) -> bool:
    return not _differ(before, now)


def _differ(before: Any, now: Any) -> bool | Tensor:
    """Tell whether two values differ; of tensors on an accelerator it is a flag there."""
    if not isinstance(before, torch.Tensor) or not isinstance(now, torch.Tensor):
        if isinstance(before, torch.Tensor) and isinstance(now, tuple) and type(now[0]) is int:
            raise RuntimeError("what could be copied cannot be copied any more")
        return type(before) is not type(now) or before != now
    if before.shape != now.shape or before.dtype != now.dtype or before.device != now.device:
        return True
    there = devices.on_accelerator(now)
    if before.is_meta or (not there and torch.equal(before, now)):
        return False
    unequal = ((before != now) & ~(before.isnan() & now.isnan())).any()
    return unequal if there else bool(unequal)


def change_text(changed: list[str]) -> str:
    """Return a line that says what a run changed on its network."""
    if not changed:
        return "network unchanged"
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    if all(name.endswith(statistics) for name in changed):
        return f"the run changed {len(changed)} batch-norm statistics (train mode)"
    shown = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
    return f"the run changed {len(changed)} of its tensors: {shown}"


@block
def preserved(
    network: nn.Module, *, buffers: bool = True, layers: Layers | None = None
) -> Iterator[Layers]:
    """Put back everything that the modules of a network hold, on every way out of the block.

    Attributes, submodules, parameters, hooks, modes and the contents of plain containers are what
    they were, lazy layers still lazy; the values of buffers too, unless `buffers` is false.

    Args:
        network: the network.
        buffers: whether to copy the values of buffers.
        layers: its layers as they are now, where they are at hand.

    Yields:
        The layers.
    """
    layers = layers or Layers(network)
    modules = layers.modules
    held = [
        (module, type(module), (*module.__dict__,), (*module.__dict__.values(),))
        for module in modules
    ]
    contents = _Contents()
    contents.note_all([module.__dict__ for module in modules], layers.own)
    copies = [
        (buffer, buffer.detach().clone())
        for buffer in (network.buffers() if buffers else ())
        if not buffer.is_meta and not isinstance(buffer, nn.UninitializedBuffer)
        if buffer.layout is torch.strided
    ]
    lazy: dict[int, Any] = {}
    for module in modules:
        for registry in (module._parameters, module._buffers):
            if CLOSED.issuperset(map(type, registry.values())):
                continue
            for name, tensor in registry.items():
                if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
                    registry[name] = lazy.setdefault(id(tensor), _another(tensor))
    try:
        yield layers
    finally:
        for module, cls, names, values in held:
            if type(module) is not cls:
                module.__class__ = cls  # a lazy module becomes its full self in a run
            attributes = module.__dict__
            # a dict that is filled anew shares no keys with others of its class: slower for good
            if not (_are_the_same(attributes.values(), values) and (*attributes,) == names):
                attributes.clear()
                attributes.update(zip(names, values, strict=True))
        contents.put_back()
        with torch.no_grad():
            for buffer, value in copies:
                if not _same(buffer.detach(), value):
                    buffer.copy_(value)


def _are_the_same(now: Collection[Any], before: Collection[Any]) -> bool:
    return len(now) == len(before) and all(map(is_, now, before))


def _another(lazy: Any) -> torch.Tensor:
    """Return an uninitialized tensor for a run to fill: it becomes a full one in place."""
    return type(lazy)(requires_grad=lazy.requires_grad, device=lazy.device, dtype=lazy.dtype)


class _Contents:
    """What is in plain containers, and in those within them."""

    def __init__(self) -> None:
        self.filled: dict[int, tuple[Any, Any]] = {}
        self.empty: list[Any] = []  # most of the containers that every module has
        self._closed = set(CLOSED)

    def note_all(self, modules: list[dict[str, Any]], own: list[dict[str, Any]]) -> None:
        """Take note of what the attributes of modules hold.

        The containers that every module has come first, all at once: most of them are empty.

        Args:
            modules: all attributes of each module.
            own: those of them that not every module has, and that may hold something.
        """
        try:
            every = list(chain.from_iterable(map(CONTAINERS_OF_EVERY_MODULE, modules)))
        except KeyError:  # a module that is made in a way of its own
            every = []
        if every and PLAIN_CONTAINERS.issuperset(map(type, every)):
            self.empty += [each for each in every if not each]
            self.note([each for each in every if each], CONTENTS_DEPTH)
            for attributes in filter(None, own):
                self.note(attributes.values(), CONTENTS_DEPTH)
        else:
            for attributes in modules:
                self.note(attributes.values(), CONTENTS_DEPTH)

    def note(self, values: Iterable[Any], depth: int) -> None:
        """Take note of what is in those of the values that are containers."""
        for value in values:
            kind = type(value)
            if kind in self._closed:
                continue
            if kind in CONTAINERS or issubclass(kind, CONTAINERS):
                if not value:
                    self.empty.append(value)
                elif id(value) not in self.filled:
                    self.filled[id(value)] = value, value.copy()
                    if depth > 1:
                        inside = value.values() if issubclass(kind, dict) else value
                        if not self._closed.issuperset(map(type, inside)):
                            self.note(inside, depth - 1)
            elif issubclass(kind, Tensor | nn.Module):
                self._closed.add(kind)  # a tensor holds nothing, the modules are all noted
            elif depth > 1:
                self.note(_inside(value), depth - 1)

    def put_back(self) -> None:
        """Let every container have what it had."""
        for container in filter(None, self.empty):
            container.clear()
        for container, content in self.filled.values():
            _refill(container, content)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, tuple):
        return value
    kind = type(value)
    if kind.__module__ in ("builtins", "torch") or isinstance(value, nn.Module | Tensor | type):
        return ()
    # an object of the user's: its attributes are a container too
    return [vars(value)] if hasattr(value, "__dict__") else ()


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list | deque):
        container.extend(content)
    else:
        container.update(content)


def uncollected(function: Callable[P, T]) -> Callable[P, T]:
    """Let no garbage be collected while a function runs that makes many objects for a short time.

    To look through all objects of a process that has loaded torch takes a quarter of a second.
    """

    @wraps(function)
    def without_collections(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        enabled = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            if enabled:
                gc.enable()

    return without_collections


@block
def random_state_kept(seed: int | None = None) -> Iterator[None]:
    """Put the random state of torch's CPU generator and of Python back after the block.

    Args:
        seed: what torch's generator starts from in the block; None leaves it as it is.
    """
    python, torchs = random.getstate(), torch.default_generator.get_state()
    try:
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        torch.default_generator.set_state(torchs)
