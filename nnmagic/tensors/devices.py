"""Tensors on accelerators: what is computed there is read once, so that nothing waits for it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import RLock

import torch

from nnmagic.tensors.measure import reason_of
from nnmagic.tensors.metadata import HiddenFromUserCode, bytes_of

PIECE = 1 << 21
"""So many values are looked at at once: what that takes for a moment is below 128 MiB."""

MOST = 4096
"""So many tensors may wait to be read."""

MOST_BYTES = 64 << 20
"""So many bytes of a device's memory may they take."""

CAPTURING = "inside the capture of a CUDA graph"
"""The reason for blank statistics of what is only recorded into a graph, and computed later."""

Then = Callable[[list[torch.Tensor], str], None]
"""What to do with tensors that were read, or with the reason why they cannot be."""


def on_accelerator(tensor: torch.Tensor) -> bool:
    """Tell whether the host would have to wait for a tensor's values."""
    return not (tensor.is_cpu or tensor.is_meta)


def is_capturing(tensor: torch.Tensor) -> bool:
    """Tell whether what is done to a tensor becomes part of a CUDA graph in place of being done."""
    try:
        return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
    except RuntimeError:  # a fake tensor where there is no GPU
        return False


def read_together(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors on the host, all those of one device by one copy.

    The copy waits for all that a device still does, on whichever stream it was begun.

    Args:
        tensors: dense ones, on any devices.
    """
    by_device: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_device.setdefault(tensor.device, []).append(tensor)
    copies = {device: iter(_read(device, those)) for device, those in by_device.items()}
    return [next(copies[tensor.device]) for tensor in tensors]


def _read(device: torch.device, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    if device.type != "cpu":
        with suppress(RuntimeError, ValueError):  # some have no streams to wait for
            torch.accelerator.synchronize(device)
    try:
        flat = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
        together = torch.cat(flat).cpu().split([len(each) for each in flat])
    except (RuntimeError, TypeError):  # a device that cannot join them as bytes
        return [tensor.cpu() for tensor in tensors]
    # each a copy: a view of another dtype must begin at a multiple of its size
    return [
        part.clone().view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(together, tensors, strict=True)
    ]


class PendingReads:
    """Small tensors on devices that wait to be read by the host, together.

    One thread may add tensors while another one reads.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Sequence[torch.Tensor], Then]] = {}
        self._added = 0
        self._bytes = 0
        self._lock = RLock()

    def add(self, tensors: Sequence[torch.Tensor], then: Then) -> int:
        """Let tensors wait; when too many do, all are read. Return what `forget` takes.

        Args:
            tensors: what is to be read; nothing else may write to them.
            then: gets their values on the host and an empty text, or nothing and a reason.
        """
        with HiddenFromUserCode(), self._lock:
            self._added += 1
            self._entries[self._added] = tensors, then
            self._bytes += sum(map(bytes_of, tensors))
            added = self._added
            if self._bytes > MOST_BYTES or len(self._entries) >= MOST:
                self.read()
            return added

    def forget(self, added: int) -> None:
        """Let go of tensors that nobody waits for any more, unless they were read."""
        with HiddenFromUserCode(), self._lock:
            tensors, _ = self._entries.pop(added, ((), None))
            self._bytes -= sum(map(bytes_of, tensors))

    def read(self) -> None:
        """Read all that waits, in the order in which it came."""
        with HiddenFromUserCode(), self._lock:  # who comes second finds everything read
            entries, self._bytes = list(self._entries.values()), 0
            self._entries.clear()
            waiting = [tensor for tensors, _ in entries for tensor in tensors]
            reason = ""
            try:
                if any(map(is_capturing, {each.device: each for each in waiting}.values())):
                    reason = CAPTURING
                else:
                    values = iter(read_together(waiting))
            except Exception as error:  # noqa: BLE001 - an observer observes: no error gets out
                reason = reason_of(error)
            for tensors, then in entries:
                then([] if reason else [next(values) for _ in tensors], reason)
