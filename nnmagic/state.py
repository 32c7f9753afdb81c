"""What a network holds before and after a run: proving it the same, and putting it back."""

import random
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

COPIED = 1 << 20
"""Buffers of up to this many bytes are compared with a copy, larger ones by a checksum."""

CONTAINERS = (dict, list, set, deque)

CONTENTS_DEPTH = 4
"""How deep containers and objects within an attribute are put back."""


class Fingerprint:
    """A network's parameters by identity, storage and version counter, its buffers by value.

    It keeps neither the network nor its tensors alive. A write through `.data` that leaves the
    version counter alone is not seen in a parameter. A network whose parameters are replaced while
    it is met (`torch.func.functional_call`) has none.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters: dict[str, Any] = {}
        self.buffers: dict[str, Any] = {}
        self.whole = True
        for name, module in network.named_modules():
            for key, parameter in module._parameters.items():
                self.whole &= parameter is None or isinstance(parameter, nn.Parameter)
                self.parameters[f"{name}.{key}" if name else key] = _mark(parameter)
            for key, buffer in module._buffers.items():
                self.buffers[f"{name}.{key}" if name else key] = _value(buffer)

    def changes(self, network: nn.Module) -> list[str] | None:
        """Return the names of what is not as it was; None where that cannot be told."""
        after = Fingerprint(network)
        if not (self.whole and after.whole):
            return None
        parameters = {**self.parameters, **after.parameters}
        buffers = {**self.buffers, **after.buffers}
        return [
            *(n for n in parameters if self.parameters.get(n) != after.parameters.get(n)),
            *(n for n in buffers if not _same(self.buffers.get(n), after.buffers.get(n))),
        ]


def _mark(tensor: torch.Tensor | None) -> Any:
    if tensor is None:
        return None
    try:
        return id(tensor), tensor.data_ptr(), tensor._version
    except (RuntimeError, ValueError, NotImplementedError):
        return id(tensor)  # an inference tensor, or one without a storage


def _value(buffer: torch.Tensor | None) -> Any:
    if buffer is None or buffer.layout is not torch.strided:
        return _mark(buffer)  # torch cannot compare sparse tensors
    try:
        tensor = buffer.detach()
        if tensor.numel() * tensor.element_size() <= COPIED or tensor.device.type != "cpu":
            return tensor.clone()
        raw: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        return id(buffer), zlib.crc32(raw)
    except (RuntimeError, ValueError, NotImplementedError):
        return _mark(buffer)


def _same(before: Any, now: Any) -> bool:
    if not isinstance(before, torch.Tensor) or not isinstance(now, torch.Tensor):
        return type(before) is type(now) and before == now
    if before.shape != now.shape or before.dtype != now.dtype or before.device != now.device:
        return False
    if before.is_meta or torch.equal(before, now):
        return True
    unequal = before != now
    return not bool((unequal & ~(before.isnan() & now.isnan())).any())


def change_text(changed: list[str]) -> str:
    """Return a line that says what a run changed on its network."""
    if not changed:
        return "network unchanged"
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    if all(name.endswith(statistics) for name in changed):
        return f"the run changed {len(changed)} batch-norm statistics (train mode)"
    shown = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
    return f"the run changed {len(changed)} of its tensors: {shown}"


@contextmanager
def preserved(network: nn.Module, *, buffers: bool = True) -> Iterator[None]:
    """Put back everything that the modules of a network hold, on every way out of the block.

    Attributes, submodules, parameters, hooks, modes and the contents of plain containers are what
    they were, lazy layers still lazy; the values of buffers too, unless `buffers` is false.
    """
    modules = list(network.modules())
    held = [(module, type(module), dict(module.__dict__)) for module in modules]
    contents: dict[int, tuple[Any, Any]] = {}
    for _, _, attributes in held:
        for value in attributes.values():
            _note_contents(value, contents)
    values = [
        (buffer, buffer.detach().clone())
        for buffer in (network.buffers() if buffers else ())
        if not buffer.is_meta and not isinstance(buffer, nn.UninitializedBuffer)
        if buffer.layout is torch.strided
    ]
    lazy: dict[int, Any] = {}
    for module in modules:
        for registry in (module._parameters, module._buffers):
            for name, tensor in registry.items():
                if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
                    registry[name] = lazy.setdefault(id(tensor), _another(tensor))
    try:
        yield
    finally:
        for module, cls, attributes in held:
            if type(module) is not cls:
                module.__class__ = cls  # a lazy module becomes its full self in a run
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for container, content in contents.values():
            _refill(container, content)
        with torch.no_grad():
            for buffer, value in values:
                if not _same(buffer.detach(), value):
                    buffer.copy_(value)


def _another(lazy: Any) -> torch.Tensor:
    """Return an uninitialized tensor for a run to fill: it becomes a full one in place."""
    return type(lazy)(requires_grad=lazy.requires_grad, device=lazy.device, dtype=lazy.dtype)


def _note_contents(
    value: Any, contents: dict[int, tuple[Any, Any]], depth: int = CONTENTS_DEPTH
) -> None:
    if depth == 0 or id(value) in contents or isinstance(value, nn.Module | torch.Tensor | type):
        return
    if isinstance(value, CONTAINERS):
        contents[id(value)] = value, value.copy()
        inside: Any = value.values() if isinstance(value, dict) else value
    elif isinstance(value, tuple):
        inside = value
    elif type(value).__module__ not in ("builtins", "torch") and hasattr(value, "__dict__"):
        inside = [vars(value)]  # an object of the user's: its attributes are a container too
    else:
        return
    for each in inside:
        _note_contents(each, contents, depth - 1)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list | deque):
        container.extend(content)
    else:
        container.update(content)


@contextmanager
def random_state_kept(seed: int | None = None) -> Iterator[None]:
    """Put the random state of torch's CPU generator and of Python back after the block.

    Args:
        seed: what torch's generator starts from in the block; None leaves it as it is.
    """
    python = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
