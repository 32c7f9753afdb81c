"""Writing the tensors of a run into its log, each once."""

import weakref
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from nnmagic.records.kept_slices import PICTURE_VALUES, WHOLE, slices_of, step_of
from nnmagic.records.tensor import Metadata, Sample, Samples, Statistics
from nnmagic.records.tensor_log import UNKNOWN, TensorLog
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors import devices
from nnmagic.tensors.device_measure import begin, begin_picture, is_dense
from nnmagic.tensors.devices import PendingReads, Then
from nnmagic.tensors.digest import begin_digest, digest_of, whole_digest
from nnmagic.tensors.kernel import kernel_of
from nnmagic.tensors.layouts import Layout, layout_of
from nnmagic.tensors.measure import measure, not_measured, picture_of, reason_of
from nnmagic.tensors.metadata import (
    has_observers,
    hidden_from_user_code,
    metadata_of,
    version_of,
)
from nnmagic.tensors.pictures import Pictures
from nnmagic.tensors.shards import part_here
from nnmagic.torch_private import BelowAutograd, DisableAutocast, is_functional, raw_version

SCORES = 4096
"""How many values of a network's large output are kept in whole rows, but at least one row."""

LONGEST_SCORES = 32_768
"""How long such a row may be."""

MOST_RETURNED = 100
"""How many tensors that root calls returned are known by later ones that get them."""


class TensorWriter:
    """Writes tensors as they are at the moment at which a layer gets or returns them.

    A later change in place cannot rewrite them. A tensor that comes by again unchanged, by identity
    and version counter, is not written again.

    Args:
        log: the columns to fill.
        keep: what to keep of the values: `"none"`, `"sample"` or `"all"`.

    Attributes:
        max_values: how many values of a tensor are measured, spread evenly; None is all.
        digests: whether the digest of each tensor that is measured in full is noted too.
        pending: what waits on accelerators to be read.
        pictures: keeps the values to draw tensors by within a budget.
    """

    def __init__(self, log: TensorLog, keep: str) -> None:
        self.log = log
        self.keep = keep
        self.max_values: int | None = None
        self.digests = False
        self.pending = PendingReads()
        self._seen: dict[int, tuple[Callable[[], Any], int, int]] = {}
        self._returned: dict[int, tuple[Callable[[], Any], int, int]] = {}
        self.pictures = Pictures(log, self.pending)
        self._layouts: dict[Any, tuple[int, Layout]] = {}
        self._row = UNKNOWN[:]
        self._row_address = self._row.buffer_info()[0]
        kernel_of("f")  # compiled now, not within the first layer

    def write(
        self,
        tensor: torch.Tensor,
        series: int | None,
        *,
        new: bool = False,
        screen: bool = False,
        scores: bool = False,
    ) -> int:
        """Write a tensor, unless it is there; return its number.

        Args:
            tensor: any tensor.
            series: what the iteration that it is of is counted of; None keeps no values to draw.
            new: whether to write it also where it seems to be there.
            screen: whether it may be drawn as large as a screen, as the network's own input.
            scores: whether it may be class scores, of which whole rows are kept.
        """
        log, observed = self.log, has_observers(tensor)
        if observed:
            version = version_of(tensor)
        else:
            version = -1 if tensor.is_inference() else raw_version(tensor)
        written = before = None
        seen = self._seen.get(id(tensor))
        if seen is not None and seen[1] == version and seen[0]() is tensor:
            before = seen[2]
        if before is not None and version >= 0 and not new:
            written = before
            if not scores or _score_rows(log.metadata_of(written)) is None:
                if screen and series is not None:
                    self._draw_larger(tensor, written, series)
                return written
        rows = _score_rows(metadata_of(tensor)) if scores else None
        index = None
        if not observed and written is None:
            index = self._write_floats(tensor, rows, series, screen=screen)
            if self.digests and index is not None:
                self._note_digest(index, tensor)
        if index is None:
            index = self.write_alone(tensor, rows, series, written, screen=screen)
        if before is not None and index != before:
            log.same_as[index] = before
        self._seen[id(tensor)] = weakref.ref(tensor), version, index
        return index

    def write_alone(
        self,
        tensor: torch.Tensor,
        whole_rows: int | None = None,
        series: int | None = None,
        written: int | None = None,
        *,
        screen: bool = False,
    ) -> int:
        """Measure a tensor and write it; return its number.

        Args:
            tensor: any tensor.
            whole_rows: how many rows the leading sample has, each whole; None takes a corner.
            series: keeps values to draw the tensor by, if it is large, until the next iteration
                of this series; None keeps none.
            written: the entry to write again; None writes a new one.
            screen: whether it may be drawn as large as a screen.
        """
        log, metadata = self.log, metadata_of(tensor)
        index = log.add(log.add_metadata(metadata)) if written is None else written
        if self.max_values is not None and self.max_values < metadata.numel:
            log.measured[index] = self.max_values
        drawn = self._room_for(index, series, screen=screen)
        options: dict[str, Any] = {
            "keep": self.keep,
            "whole_rows": whole_rows,
            "picture_values": drawn,
            "max_values": self.max_values,
        }
        if not self._begin_on_device(index, tensor, options):
            log.set(index, *measure(tensor, **options))
        if self.digests:
            self._note_digest(index, tensor)
        return index

    def _note_digest(self, index: int, tensor: torch.Tensor) -> None:
        """Note the digest of a tensor, once it is read where a device has to sum it up."""
        if index in self.log.measured:
            return
        with suppress(Exception), hidden_from_user_code(tensor):
            held = part_here(tensor)
            if not devices.on_accelerator(held):
                self.log.set_digest(index, digest_of(held))
            elif not devices.is_capturing(held) and is_dense(held):
                with DisableAutocast(), BelowAutograd():
                    total, size = begin_digest(held), held.nbytes

                def finish(copies: list[torch.Tensor], reason: str) -> None:
                    digest = None if reason else whole_digest(int(copies[0]), size)
                    self.log.set_digest(index, digest)

                self.read_later([total], finish)

    def _room_for(self, index: int, series: int | None, *, screen: bool) -> int:
        """Return how many values to draw a tensor by, and note that so many are kept."""
        metadata = self.log.metadata_of(index)
        shape = tuple(size for size in metadata.shape if size is not None)
        if series is None or self.keep != "sample" or index in self.log.measured:
            return 0
        if metadata.numel <= WHOLE or len(shape) < len(metadata.shape):
            return 0
        width = 16 if "complex" in metadata.dtype else 8 if "64" in metadata.dtype else 4
        drawn = self.pictures.values_for(metadata.numel, width, screen=screen)
        if drawn:
            self.pictures.note(index, series, slices_of(shape, None, drawn).drawn * width)
        return drawn

    def _draw_larger(self, tensor: torch.Tensor, index: int, series: int) -> None:
        """Let a tensor that was written as any other be drawn as large as a screen."""
        if self.log.metadata_of(index).numel <= PICTURE_VALUES:
            return
        drawn = self._room_for(index, series, screen=True)
        try:
            if drawn and devices.on_accelerator(tensor):
                with hidden_from_user_code(tensor):
                    self._begin_picture(index, tensor, drawn)
            elif drawn:
                finite = self.log.is_finite(index) is not False
                self.log.set_picture(index, picture_of(tensor, drawn, is_finite=finite))
        except Exception:  # noqa: BLE001 - an observer observes: no error gets out
            self.log.drop_picture(index)

    def _begin_on_device(self, index: int, tensor: torch.Tensor, options: dict[str, Any]) -> bool:
        """Have a tensor measured by its device, to be read later; return whether that is done.

        It is not for tensors of the host, for sparse, nested and quantised ones, for those that
        cannot be read at all, and for each that is to be kept in full.
        """
        with hidden_from_user_code(tensor):
            if not devices.on_accelerator(tensor):
                return False
            capturing = devices.is_capturing(tensor)
            if not capturing and (self.keep == "all" or not is_dense(tensor)):
                return False
            log = self.log

            def finish(copies: list[torch.Tensor], reason: str) -> None:
                try:
                    measured = not_measured(reason) if reason else begun.finish(*copies)
                except Exception as error:  # noqa: BLE001 - an observer observes
                    measured = not_measured(reason_of(error))
                log.set(index, *measured)
                if index not in self.pictures:
                    log.drop_picture(index)

            try:
                if capturing:
                    raise RuntimeError(devices.CAPTURING)
                with DisableAutocast(), BelowAutograd():
                    begun = begin(tensor, **options)
            except Exception as error:  # noqa: BLE001 - an observer observes: no error gets out
                log.set(index, *not_measured(reason_of(error)))
            else:
                self.read_later(begun.tensors, finish)
                self._begin_picture(index, tensor, options["picture_values"])
            return True

    def _begin_picture(self, index: int, tensor: torch.Tensor, at_most: int) -> None:
        """Have a device cut out the values to draw a tensor by; a next iteration drops them."""

        def finish(copies: list[torch.Tensor], reason: str) -> None:
            if not reason and begun is not None:
                self.log.set_picture(index, begun.finish(*copies))

        with DisableAutocast(), BelowAutograd():
            begun = begin_picture(tensor, at_most)
        if begun is not None:
            self.pictures.waits(index, self.read_later([begun.values], finish))

    def _write_floats(
        self, tensor: torch.Tensor, whole_rows: int | None, series: int | None, *, screen: bool
    ) -> int | None:
        """Write a dense float32 or float64 tensor of the CPU; return its number.

        This is `write_alone` for the tensors of nearly all layers, in a fifth of the time; any
        other tensor is left to that, and None is returned.
        """
        try:
            key = tensor.shape, tensor.dtype
            entry = self._layouts.get(key)
            if entry is None:
                layout = layout_of(*key) if self.keep == "sample" else None
                if layout is None:
                    return None
                entry = self._layouts[key] = self.log.add_metadata(layout.metadata), layout
            if devices.on_accelerator(tensor) or tensor.is_neg():
                return None
            if is_functional(tensor):  # its memory holds anything but its values
                return None
            metadata, (_, numel, nbytes, step, code, bytes_at, measure_at) = entry
            address = tensor.data_ptr() if tensor.is_contiguous() else 0
            start = tensor.storage_offset() * (nbytes // numel)
            if not address or tensor.untyped_storage().nbytes() < start + nbytes:
                return None  # its storage was freed
            if self.max_values is not None and max(WHOLE, self.max_values) < numel:
                flat = np.frombuffer(bytes_at(address), code)
                return self._write_thinned(tensor, flat, entry, self.max_values, whole_rows)
            statistics = self._row
            if measure_at(address, numel, self._row_address):
                statistics = array("d", measure(tensor, "none").statistics)
            if numel <= WHOLE:
                return self.log.add(metadata, statistics, bytes_at(address).raw)
            width, drawn = nbytes // numel, 0
            if series is not None:
                drawn = self.pictures.values_for(numel, width, screen=screen)
            if series is not None and numel <= drawn and whole_rows is None:
                index = self.log.add(metadata, statistics, bytes_at(address).raw)
                self.pictures.note(index, series, nbytes)
                return index
            flat = np.frombuffer(bytes_at(address), code)
            slices = slices_of(tensor.shape, whole_rows, drawn)
            finite = Statistics(*statistics).is_finite
            samples = slices.samples_of_floats(
                flat.reshape(tensor.shape), flat, step, is_finite=finite
            )
            index = self.log.add(metadata, statistics, samples)
            if series is not None and drawn:
                self.pictures.note(index, series, slices.drawn * width)
            return index
        except Exception:  # noqa: BLE001 - what refuses is measured in the way that says why
            return None

    def _write_thinned(
        self,
        tensor: torch.Tensor,
        flat: np.ndarray,
        entry: tuple[int, Layout],
        at_most: int,
        whole_rows: int | None,
    ) -> int:
        """Write such a tensor by so many of its values; return its number."""
        metadata, layout = entry
        spread = flat[:: step_of(layout.numel, at_most)]
        values, statistics = spread.tobytes(), self._row
        if layout.measure(values, spread.size, self._row_address):
            statistics = array("d", measure(tensor, max_values=at_most).statistics)
        leading = None
        if whole_rows is not None:
            rows = flat.reshape(tensor.shape)[:whole_rows]
            leading = Sample(layout.code, rows.shape, rows.tobytes())
        samples = Samples(leading, Sample(layout.code, spread.shape, values))
        index = self.log.add(metadata, statistics, samples)
        self.log.measured[index] = at_most
        return index

    def read_later(self, tensors: list[torch.Tensor], then: Then) -> int:
        """Let small tensors on devices be read together with all else that waits there.

        Returns:
            What `pending.forget` takes.
        """
        self.log.read_pending = self.pending.read
        return self.pending.add(tensors, then)

    def note_returned(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note what a root call returned, to know it where a later root call gets it."""
        returned = self._returned
        for each in tensors:
            entry = self._seen.get(id(each))
            if entry is not None:
                returned[id(each)] = entry
        while len(returned) > MOST_RETURNED:
            del returned[next(iter(returned))]

    def note_received(self, tensors: Iterable[torch.Tensor], indices: Iterable[int]) -> None:
        """Note which of the tensors that a root call got earlier root calls returned."""
        for each, index in zip(tensors, indices, strict=True):
            entry = self._returned.get(id(each))
            if entry is not None and entry[0]() is each and entry[1] == version_of(each):
                self.log.same_as[index] = entry[2]

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the tensors in the log."""
        for known in (self._seen, self._returned):
            for key, (alive, version, index) in list(known.items()):
                if index in numbers.tensors:
                    known[key] = alive, version, numbers.tensors[index]
                else:
                    del known[key]
        self.pictures.renumber(numbers.tensors)

    def forget_all(self) -> None:
        """Write every tensor again when it comes by."""
        self._seen.clear()

    def finish(self) -> None:
        """Leave the log complete, and let go of everything."""
        self.forget_all()
        self._returned.clear()
        if self.log.read_pending is not None:
            self.pending.read()
            self.log.read_pending = None


def _score_rows(metadata: Metadata) -> int | None:
    """Return how many whole rows to keep of what may be a large matrix of scores."""
    match metadata.shape:
        case (int(), int(length)) if metadata.numel > WHOLE and length <= LONGEST_SCORES:
            return max(1, SCORES // length)
    return None
