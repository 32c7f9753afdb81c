"""What a network holds before and after a run: proving it the same, and putting it back."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

COPIED = 1 << 20
"""Buffers of up to this many bytes are compared with a copy, larger ones by a checksum."""

CONTAINERS = (dict, list, set)


class Fingerprint:
    """A network's parameters by identity, storage and version counter, its buffers by value.

    It keeps neither the network nor its tensors alive. A write through `.data` that leaves the
    version counter alone is not seen in a parameter.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parameters: dict[str, Any] = {}
        self.buffers: dict[str, Any] = {}
        for name, module in network.named_modules():
            for key, parameter in module._parameters.items():
                self.parameters[f"{name}.{key}" if name else key] = _mark(parameter)
            for key, buffer in module._buffers.items():
                self.buffers[f"{name}.{key}" if name else key] = _value(buffer)

    def changes(self, network: nn.Module) -> list[str]:
        """Return the names of the parameters and buffers that are not what they were."""
        after = Fingerprint(network)
        names = [
            *self.parameters,
            *(name for name in after.parameters if name not in self.parameters),
        ]
        changed = [
            name for name in names if self.parameters.get(name) != after.parameters.get(name)
        ]
        names = [*self.buffers, *(name for name in after.buffers if name not in self.buffers)]
        for name in names:
            before, now = self.buffers.get(name), after.buffers.get(name)
            if not _same(before, now):
                changed.append(name)
        return changed


def _mark(tensor: torch.Tensor | None) -> Any:
    if tensor is None:
        return None
    try:
        return id(tensor), tensor.data_ptr(), tensor._version
    except (RuntimeError, ValueError, NotImplementedError):
        return id(tensor)  # an inference tensor, or one without a storage


def _value(buffer: torch.Tensor | None) -> Any:
    if buffer is None:
        return None
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
    if before.is_meta:
        return True
    return torch.equal(before, now) or _equal_with_nan(before, now)


def _equal_with_nan(before: torch.Tensor, now: torch.Tensor) -> bool:
    return before.is_floating_point() and bool(
        torch.allclose(before, now, rtol=0, atol=0, equal_nan=True)
    )


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
    they were; the values of buffers too, unless `buffers` is false.
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
    ]
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


def _note_contents(value: Any, contents: dict[int, tuple[Any, Any]]) -> None:
    if not isinstance(value, CONTAINERS) or id(value) in contents:
        return
    contents[id(value)] = value, value.copy()
    for each in value.values() if isinstance(value, dict) else value:
        _note_contents(each, contents)


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)
