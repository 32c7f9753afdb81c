"""Writing the tensors of accelerators into a log, without waiting for their values."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import torch

from nnmagic.records.tensor import NOTHING_KNOWN, Picture, Samples, Statistics
from nnmagic.records.tensor_log import TensorLog
from nnmagic.tensors import devices
from nnmagic.tensors.device_statistics import pieces, row_of, statistics_of_rows, widest
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import form_of, unseen
from nnmagic.tensors.samples import DRAWN, WHOLE, corner_of, grid_of, real_sample, sample, step_of
from nnmagic.tensors.statistics import statistics_of
from nnmagic.tensors.values import (
    Reading,
    Values,
    as_array,
    in_memory_order,
    part_here,
    read,
    why_unreadable,
)

COPIED = DRAWN
"""A tensor of at most this many values is copied on its device, and measured once it is read."""

Known = tuple[Statistics, Samples, str]
"""What `measure` returns."""

Begun = tuple[list[torch.Tensor], Callable[[list[torch.Tensor]], Known]]
"""What is kept of a tensor on its device, and what makes its numbers of that on the host."""


class Wanted(NamedTuple):
    """What is wanted of a tensor: the arguments of `measure`."""

    keep: str = "sample"
    rows: int | None = None
    drawn: bool = False
    at_most: int | None = None


class DeviceWriter:
    """Has a tensor measured by the device that it is on, at the moment at which it is seen.

    The operations go to the device's current stream, behind those that made the tensor and before
    those that may change it, and the host goes on. What is kept on the device is small, and is read
    together with that of other tensors. A layer that returns what another stream still computes has
    to wait for that stream itself, as for any other use.

    Attributes:
        unread: what waits on the devices.
    """

    def __init__(self) -> None:
        self.unread = devices.Unread()
        self._undrawn: set[int] = set()

    def write(self, log: TensorLog, tensor: torch.Tensor, wanted: Wanted) -> int | None:
        """Write a tensor; return its number, None where it has to be read at once.

        That is so of all tensors on the host; of those on a device, of sparse, nested and quantised
        ones, of those that cannot be read at all, and of each that is to be kept in full.
        """
        with unseen(tensor):
            if not devices.on_accelerator(tensor):
                return None
            capturing = devices.is_capturing(tensor)
            if not capturing and (wanted.keep == "all" or not _is_dense(tensor)):
                return None
            form = form_of(tensor)
            index = log.add_unmeasured(log.form_index(form))
            if wanted.at_most is not None and wanted.at_most < form.numel:
                log.measured[index] = wanted.at_most
            try:
                if capturing:
                    raise RuntimeError(devices.CAPTURING)
                with torch._C._DisableAutocast(), torch._C._AutoDispatchBelowAutograd():
                    self._begin(log, index, part_here(tensor), wanted)
            except Exception as error:  # noqa: BLE001 - an observer observes: no error gets out
                reason = devices.reason_of(error)
                _put(log, index, NOTHING_KNOWN, Samples(None, None), reason)
            return index

    def _begin(self, log: TensorLog, index: int, tensor: torch.Tensor, wanted: Wanted) -> None:
        picture = None
        if tensor.numel() <= COPIED:
            kept, finish = _begin_copy(tensor, wanted)
        elif wanted.at_most is not None and wanted.at_most < tensor.numel():
            kept, finish = _begin_thinly(tensor, wanted.at_most, wanted.rows)
        else:
            kept, finish = _begin_in_full(tensor, wanted)
            if wanted.drawn and wanted.keep == "sample":
                cut, steps = grid_of(tuple(tensor.shape))
                picture = tensor[cut].clone()
        self.unread.add(index, kept, partial(self._finish, log, index, finish))
        if picture is not None:
            self.unread.add((index, "picture"), [picture], partial(_draw, log, index, steps))

    def _finish(
        self,
        log: TensorLog,
        index: int,
        finish: Callable[[list[torch.Tensor]], Known],
        values: list[torch.Tensor],
        reason: str,
    ) -> None:
        numbers, samples = NOTHING_KNOWN, Samples(None, None)
        if not reason:
            try:
                numbers, samples, reason = finish(values)
            except Exception as error:  # noqa: BLE001 - an observer observes: no error gets out
                reason = devices.reason_of(error)
        if index in self._undrawn:
            samples = samples._replace(picture=None)
        _put(log, index, numbers, samples, reason)

    def drop_picture(self, index: int) -> None:
        """Keep no picture of a tensor that still waits."""
        self.unread.drop((index, "picture"))
        self._undrawn.add(index)

    def read(self) -> None:
        """Write the numbers and samples of all that waits."""
        self.unread.read()
        self._undrawn.clear()

    def clear(self) -> None:
        """Let go of all that waits."""
        self.unread.clear()
        self._undrawn.clear()


def _is_dense(tensor: torch.Tensor) -> bool:
    return (
        not why_unreadable(tensor)
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.is_quantized
    )


def _put(log: TensorLog, index: int, numbers: Statistics, samples: Samples, reason: str) -> None:
    log.set_numbers(index, numbers)
    log.samples[index] = samples
    if reason:
        log.unknown[index] = reason


def _begin_copy(tensor: torch.Tensor, wanted: Wanted) -> Begun:
    return [tensor.clone()], lambda values: measure(values[0], **wanted._asdict())


class _Spread:
    """Takes values, evenly spread, of pieces that come one after the other."""

    def __init__(self, numel: int, at_most: int) -> None:
        self._step = step_of(numel, at_most)
        self._seen = 0
        self._parts: list[torch.Tensor] = []

    def add(self, piece: torch.Tensor) -> None:
        part = piece[-self._seen % self._step :: self._step]
        self._parts.append(part.clone())  # a view would keep all of the piece
        self._seen += len(piece)

    def values(self) -> torch.Tensor:
        return self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts)


def _begin_thinly(tensor: torch.Tensor, at_most: int, rows: int | None) -> Begun:
    ordered, times = in_memory_order(tensor, tensor.stride())
    spread = _Spread(ordered.numel(), at_most)
    for piece in pieces(ordered):
        spread.add(piece)
    kept = [spread.values()]
    if rows is not None:
        kept.append(tensor[:rows].clone())

    def finish(values: list[torch.Tensor]) -> Known:
        flat = as_array(_values(values[0]))
        leading = None if rows is None else sample(_values(values[1]))
        numbers = statistics_of(Reading(None, flat).pieces(), times=times)
        return numbers, Samples(leading, real_sample(flat)), ""

    return kept, finish


def _begin_in_full(tensor: torch.Tensor, wanted: Wanted) -> Begun:
    dtype, wide = tensor.dtype, widest(tensor.device)
    ordered, times = in_memory_order(tensor, tensor.stride())
    spread = _Spread(ordered.numel(), WHOLE)
    rows, sizes = [], []
    for piece in pieces(ordered):
        rows.append(row_of(piece, wide))
        sizes.append(len(piece))
        spread.add(piece)
    kept = rows
    if wanted.keep != "none":
        cut = corner_of(tuple(tensor.shape)) if wanted.rows is None else slice(wanted.rows)
        kept = [*rows, tensor[cut].clone(), spread.values()]

    def finish(values: list[torch.Tensor]) -> Known:
        rows, cuts = values[: len(sizes)], values[len(sizes) :]
        samples = Samples(None, None)
        if cuts:
            samples = Samples(sample(_values(cuts[0])), real_sample(_values(cuts[1])))
        return statistics_of_rows(rows, sizes, dtype, wide, times), samples, ""

    return kept, finish


def _draw(
    log: TensorLog,
    index: int,
    steps: tuple[int, ...],
    values: list[torch.Tensor],
    reason: str,
) -> None:
    with suppress(Exception):  # the numbers say why
        if not reason:
            picture = Picture(sample(_values(values[0])), steps)
            log.samples[index] = log.samples_of(index)._replace(picture=picture)


def _values(tensor: torch.Tensor) -> Values:
    whole = read(tensor).whole
    assert whole is not None
    return whole
