"""Proving that a run left the parameters and buffers of a network as they were."""

import weakref
import zlib
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from nnmagic.network.naming import Network
from nnmagic.tensors import devices
from nnmagic.tensors.metadata import HiddenFromUserCode, hidden_from_user_code
from nnmagic.tensors.values import as_numpy
from nnmagic.torch_private import DisableTorchFunction, buffers_of, parameters_of, raw_version

COPIED = 1 << 20
"""Buffers of up to this many bytes are compared with a copy, larger ones by a checksum."""

ONLY_PARAMETERS, ONLY_TENSORS = frozenset({nn.Parameter}), frozenset({Tensor})
ONLY_TUPLES = frozenset({tuple})

Held = dict[tuple[str, str], Any]
"""What tells whether tensors are the same, by the names of the layer and of the tensor in it."""


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

    def _now(self) -> tuple[Held, Held]:
        parameters: dict[tuple[str, str], Tensor] = {}
        buffers: dict[tuple[str, str], Tensor] = {}
        for name, reference in self.layers:
            layer = reference()
            if layer is not None:
                for key, parameter in parameters_of(layer).items():
                    if parameter is not None:
                        parameters[name, key] = parameter
                for key, buffer in buffers_of(layer).items():
                    if buffer is not None:
                        buffers[name, key] = buffer
        if not ONLY_PARAMETERS.issuperset(map(type, parameters.values())):
            self.whole &= all(isinstance(each, nn.Parameter) for each in parameters.values())
        if any(map(devices.is_capturing, buffers.values())):
            self.whole = False
        marks, values = _marks([*parameters.values()]), _values([*buffers.values()])
        return dict(zip(parameters, marks, strict=True)), dict(zip(buffers, values, strict=True))

    def changes(self) -> list[str] | None:
        """Return the names of what is not as it was.

        None where that cannot be told: the parameters are replaced for a while, as
        `torch.func.functional_call` does, a CUDA graph is captured, or a device has failed.
        """
        parameters, buffers = self._now()
        if not self.whole:
            return None
        before = self.parameters
        changed: list[tuple[str, str]] = []
        if parameters != before:
            changed += [n for n in before | parameters if before.get(n) != parameters.get(n)]
        before = self.buffers
        if not ONLY_TUPLES.issuperset(map(type, buffers.values())) or buffers != before:
            try:
                with HiddenFromUserCode():
                    differ = {n: _differ(before.get(n), buffers.get(n)) for n in before | buffers}
                    there = {n: flag for n, flag in differ.items() if isinstance(flag, Tensor)}
                    if there:
                        flags = devices.read_together([*there.values()])
                        differ |= zip(there, map(bool, flags), strict=True)
            except RuntimeError:
                return None
            changed += [n for n, differs in differ.items() if differs]
        return [".".join(filter(None, names)) for names in changed]


def _marks(tensors: list[Tensor]) -> list[Any]:
    """Return the identities of tensors, where their memory is, and their version counters."""
    try:
        with DisableTorchFunction():
            marks = map(id, tensors), map(Tensor.data_ptr, tensors), map(raw_version, tensors)
            return [*zip(*marks, strict=True)]
    except (RuntimeError, ValueError, NotImplementedError):
        return [*map(_mark, tensors)]


def _mark(tensor: Tensor) -> Any:
    try:
        return id(tensor), tensor.data_ptr(), raw_version(tensor)
    except (RuntimeError, ValueError, NotImplementedError):
        return id(tensor)  # an inference tensor, or one without a storage


def _values(buffers: list[Tensor]) -> list[Any]:
    if not buffers:
        return []
    if ONLY_TENSORS.issuperset(map(type, buffers)) and not any(
        map(devices.on_accelerator, buffers)
    ):
        # NumPy may not be able to read them where they are
        with suppress(BufferError, RuntimeError), DisableTorchFunction():
            return list(map(_copied, map(as_numpy, buffers)))
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
            with hidden_from_user_code(tensor):
                return tensor.clone()
        if type(tensor) is not Tensor or tensor.is_quantized:
            return tensor.clone()
        try:
            return _copied(as_numpy(tensor))
        except (BufferError, RuntimeError):  # a dtype that NumPy lacks
            return _copied(as_numpy(tensor.contiguous().view(-1).view(torch.uint8)))
    except (RuntimeError, ValueError, NotImplementedError):
        return _mark(buffer)


def is_same(before: Any, now: Any) -> bool:
    """Tell whether two values of a buffer are equal; NaN equals NaN."""
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


class NetworkChanges:
    """What a run changes on the networks that it calls."""

    def __init__(self) -> None:
        self._before: list[tuple[Network, Fingerprint]] = []

    def note(self, network: Network) -> None:
        """Take the fingerprint of a network before its first call."""
        if network.module() is not None:
            self._before.append((network, Fingerprint(network.layers())))

    def lines(self) -> list[str]:
        """Return lines that say what the run changed; none where that cannot be told."""
        changes = {
            network.label: before.changes()
            for network, before in self._before
            if network.module() is not None
        }
        if len(self._before) < 2:
            return [change_text(changed) for changed in changes.values() if changed is not None]
        if not any(changes.values()):
            return [] if None in changes.values() else ["networks unchanged"]
        return [f"{label}: {change_text(changed)}" for label, changed in changes.items() if changed]
