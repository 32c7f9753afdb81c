"""Proving that a run left the parameters and buffers of a network as they were."""

import weakref
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from nnmagic.display import units
from nnmagic.network.layers import layer_at, layers_of
from nnmagic.network.naming import Network
from nnmagic.tensors import devices
from nnmagic.tensors.marks import NO_VALUES, Marks, marks_of
from nnmagic.tensors.metadata import HiddenFromUserCode, hidden_from_user_code, version_of
from nnmagic.tensors.shards import is_spread, part_here
from nnmagic.tensors.values import as_numpy
from nnmagic.torch_private import BatchNorm, DisableTorchFunction, buffers_of, parameters_of

COPIED = 1 << 20
"""Buffers of up to this many bytes are compared with a copy, larger ones by a checksum."""

ONLY_PARAMETERS, ONLY_TENSORS = frozenset({nn.Parameter}), frozenset({Tensor})
ON_HOST = frozenset({int, bytes, tuple})
"""The types of the values that the host has."""

NONE = type(None)

COUNT = "num_batches_tracked"


class Fingerprint:
    """Parameters by identity, address, version counter and some values, buffers by value.

    It keeps neither the layers nor their tensors alive.

    Args:
        network: the network.
        layers: its layers by their names, where they are known.
        before: an earlier fingerprint, with which this one is to be compared.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, nn.Module] | None = None,
        before: "Fingerprint | None" = None,
    ) -> None:
        self.network = weakref.ref(network)
        layers = layers_of(network) if layers is None else layers
        self.layers = [*layers]
        parameters, names, counts = _own([*map(parameters_of, layers.values())])
        buffers, buffer_names, buffer_counts = _own([*map(buffers_of, layers.values())])
        self.own = (names, counts), (buffer_names, buffer_counts)
        self.is_whole = ONLY_PARAMETERS.issuperset(map(type, parameters)) or all(
            isinstance(each, nn.Parameter) for each in parameters
        )
        if any(map(devices.is_capturing, buffers)):
            self.is_whole = False
        is_plain = ONLY_PARAMETERS.issuperset(map(type, parameters))
        self.spread = [] if is_plain else [each for each in map(is_spread, parameters) if each]
        self.identities = [*map(id, parameters)]
        self.marks: Marks = marks_of(parameters, None if before is None else before.marks)
        self.buffers = _values(buffers)

    def changes(self, written: Collection[int] = ()) -> list[str] | None:
        """Return the names of what is not as it was.

        None where that cannot be told: the parameters are replaced for a while, as
        `torch.func.functional_call` does, and FSDP2 by those that it has gathered, values cannot be
        read, a CUDA graph is captured, or a device has failed.

        Args:
            written: the identities of parameters that are known to have been written to.
        """
        network = self.network()
        if network is None:
            return None
        now = Fingerprint(network, before=self)
        if not (self.is_whole and now.is_whole) or self.spread != now.spread:
            return None
        if not written and now.is_on_host and self.is_on_host and self._same_as(now):
            return []
        try:
            with HiddenFromUserCode():
                return _changed(self._by_name(), now._by_name(), written)
        except RuntimeError:
            return None

    def _same_as(self, now: "Fingerprint") -> bool:
        is_same = self.identities == now.identities and self.marks == now.marks
        return is_same and self.buffers == now.buffers

    @property
    def is_on_host(self) -> bool:
        """Whether all values are known, and none is on an accelerator."""
        return ON_HOST.issuperset(map(type, chain(self.buffers, self.marks.values)))

    @property
    def without_values(self) -> list[str]:
        """The names of the parameters that have no values, as those of a lazy layer."""
        found = self._by_name().items()
        return [name for name, (identity, values) in found if identity and values is NO_VALUES]

    def _by_name(self) -> dict[str, tuple[Any, Any]]:
        """Return by its dotted name what tells of each tensor whether it is as it was."""
        identities = zip(self.identities, self.marks.versions, self.marks.addresses, strict=True)
        held = chain[Any](
            zip(identities, self.marks.values, strict=True), ((None, each) for each in self.buffers)
        )
        found = {}
        for names, counts in self.own:
            each = iter(names)
            for layer, count in zip(self.layers, counts, strict=True):
                for name in islice(each, count):
                    found[f"{layer}.{name}" if layer else name] = next(held)
        return found


def _own(held: list[Any]) -> tuple[list[Tensor], list[str], list[int]]:
    """Return the tensors that layers hold, the name of each, and how many each layer holds."""
    if not any(held):
        return [], [], [0] * len(held)
    try:
        tensors = [*chain.from_iterable(map(dict.values, held))]
    except TypeError:  # a ScriptModule has no dicts
        return _own([dict(own.items()) for own in held])
    if NONE in map(type, tensors):
        return _own([{name: t for name, t in own.items() if t is not None} for own in held])
    return tensors, [*chain.from_iterable(held)], [*map(len, held)]


def _changed(
    before: dict[str, tuple[Any, Any]], now: dict[str, tuple[Any, Any]], written: Collection[int]
) -> list[str] | None:
    """Return the names of what differs; None where nothing does, as far as can be told.

    Raises:
        RuntimeError: if values cannot be compared any more.
    """
    differ: dict[str, bool | Tensor] = {}
    for name in before | now:
        if name not in before or name not in now:
            differ[name] = True
            continue
        (was, values), (identity, values_now) = before[name], now[name]
        if was != identity or (identity is not None and identity[0] in written):
            differ[name] = True
        elif values is not None and values_now is not None:
            differ[name] = _differ(values, values_now)
    there = {name: flag for name, flag in differ.items() if isinstance(flag, Tensor)}
    if there:
        flags = devices.read_together([*there.values()])
        differ |= zip(there, map(bool, flags), strict=True)
    changed = [name for name, differs in differ.items() if differs]
    return changed if changed or len(differ) == len(before | now) else None


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
    buffer = part_here(buffer)
    if buffer.layout is not torch.strided or buffer.is_meta:
        return _identity(buffer)  # torch cannot compare sparse tensors
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
        return _identity(buffer)


def _identity(buffer: Tensor) -> tuple[int, int]:
    return id(buffer), version_of(buffer)


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


def change_text(
    changed: list[str], network: nn.Module, without_values: Collection[str] = ()
) -> str:
    """Return a line that says what a run changed on its network.

    Args:
        changed: the names of what is not as it was, at least one.
        network: the network after the run.
        without_values: the names of what had no values before it.
    """
    shown = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
    if set(changed) <= set(without_values):
        return f"the run made {units.plural(len(changed), 'parameter')} that had no values: {shown}"
    statistics = ("running_mean", "running_var", COUNT)
    if all(name.endswith(statistics) for name in changed):
        has_trained = all(
            _has_trained(network, name.rpartition(".")[0], changed) for name in changed
        )
        what = units.plural(len(changed), "batch-norm statistic")
        return f"the run changed {what}{' (train mode)' if has_trained else ''}"
    return f"the run changed {len(changed)} of its tensors: {shown}"


def _has_trained(network: nn.Module, name: str, changed: Collection[str]) -> bool:
    """Tell whether a layer with statistics ran in train mode: a BatchNorm counts its batches."""
    layer = layer_at(network, name)
    if isinstance(layer, BatchNorm):
        return f"{name}.{COUNT}".removeprefix(".") in changed
    return layer is not None and layer.training


def _taken(module: nn.Module, layers: Mapping[str, nn.Module] | None = None) -> Fingerprint | None:
    """Return the fingerprint of a network, None of one in disorder."""
    try:
        return Fingerprint(module, layers)
    except Exception:  # noqa: BLE001 - an observer observes: no error of ours gets out
        return None


class NetworkChanges:
    """What a run changes on the networks that it calls.

    Args:
        watched: the networks that are watched from now on, since code may change them before it
            calls them; any other one is from its first call on. None where the run begins with
            that call.
    """

    def __init__(self, watched: Iterable[nn.Module] | None = None) -> None:
        self._starts_with_call = watched is None
        self._early = {id(each): _taken(each) for each in watched or ()}
        self._before: list[tuple[Network, Fingerprint, bool]] = []
        self._written: dict[int, weakref.ref[Tensor]] = {}

    def note(self, network: Network) -> None:
        """Take the fingerprint of a network before its first call, unless it is watched."""
        module = network.module()
        if module is None:
            return
        early = self._early.get(id(module))
        if early is not None and early.network() is module:
            self._before.append((network, early, True))
            return
        named = {name: layer for name, alive in network.layers() if (layer := alive()) is not None}
        late = _taken(module, named)
        if late is not None:
            self._before.append((network, late, self._starts_with_call))

    def note_written(self, parameters: Iterable[Tensor]) -> None:
        """Note the parameters that an optimizer writes to."""
        self._written |= {id(each): weakref.ref(each) for each in parameters}

    def lines(self) -> list[str]:
        """Return lines that say what the run changed; none where that cannot be told."""
        written = {identity for identity, alive in self._written.items() if alive() is not None}
        changes, texts = dict[str, list[str] | None](), dict[str, str]()
        for network, before, _ in self._before:
            module = network.module()
            if module is not None:
                changed = changes[network.label] = before.changes(written)
                if changed:
                    texts[network.label] = change_text(changed, module, before.without_values)
        is_all = all(from_start for _, _, from_start in self._before)
        since = "" if is_all else " since the first call"
        if len(self._before) < 2:
            known = [label for label, changed in changes.items() if changed is not None]
            return [texts.get(label, f"network unchanged{since}") for label in known]
        if not texts:
            return [] if None in changes.values() else [f"networks unchanged{since}"]
        return [f"{label}: {text}" for label, text in texts.items()]
