"""Writing the tensors of a run into its log, each once."""

import weakref
from collections.abc import Callable
from ctypes import Array, c_char
from functools import lru_cache
from math import isfinite, prod
from struct import calcsize
from typing import Any, NamedTuple

import numpy as np
import torch

from nnmagic.records.tensor import NOTHING_KNOWN, Form
from nnmagic.records.tensor_log import TensorLog
from nnmagic.tensors import devices
from nnmagic.tensors.device_writer import DeviceWriter, Wanted
from nnmagic.tensors.devices import Then
from nnmagic.tensors.kernel import MOST, Batch, Kernel, kernel_of, readers
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import form_of, is_watched, version_of
from nnmagic.tensors.samples import WHOLE, Kept, Kind, offsets_of
from nnmagic.tensors.statistics import statistics_of
from nnmagic.tensors.values import lacks_memory, read

SCORES = 4096
"""How many values of a network's large output are kept in whole rows, but at least one row."""

LONGEST_SCORES = 32_768
"""How long such a row may be."""

MOST_PICTURES = 2000
"""Of how many large tensors of the last step a picture is kept: 4,096 values each at most."""

LETTERS = {torch.float32: "f", torch.float64: "d"}
"""The formats of the values that are read where they are."""

TOGETHER = 1 << 18
"""How many bytes of small tensors are measured together: more would leave the processor's cache."""

is_functional = torch._is_functional_tensor


class Usual(NamedTuple):
    """What dense floats of one shape and dtype on the CPU have in common.

    Attributes:
        form: their form; none of its sizes is unknown.
        letter: the format of one value.
        itemsize: how many bytes one value has.
        bytes: how many each tensor has.
        view: what gives those at an address.
        drawn: what they are where a picture is kept, None where all values are.
        kernel: what measures them.
    """

    form: Any
    letter: str
    itemsize: int
    bytes: int
    view: Callable[[int], Array[c_char]]
    drawn: Kind | None
    kernel: Kernel


@lru_cache(maxsize=4096)
def usual(shape: torch.Size, dtype: torch.dtype) -> Usual | None:
    """Return what such tensors have in common, None where they cannot be read where they are."""
    letter, size = LETTERS.get(dtype, ""), prod(shape)
    kernel = kernel_of(letter)
    if kernel is None or not 0 < size < MOST:
        return None
    sizes, itemsize = tuple(shape), calcsize(letter)
    form = Form(sizes, str(dtype).removeprefix("torch."), "cpu", size)
    drawn = None if size <= WHOLE else Kind(letter, sizes, None, drawn=True)
    view = (c_char * (size * itemsize)).from_address
    return Usual(form, letter, itemsize, size * itemsize, view, drawn, kernel)


class TensorWriter:
    """Writes tensors as they are at the moment at which a layer gets or returns them.

    A later change in place cannot rewrite them. A tensor that comes by again unchanged, by identity
    and version counter, is not written again. Of a small one all values are copied, which is what
    is kept of it anyway; the statistics of all those are computed together.

    Args:
        log: the columns to fill.
        keep: what to keep of the values: `"none"`, `"sample"` or `"all"`.

    Attributes:
        at_most: how many values of a tensor are measured, spread evenly; None is all.
    """

    def __init__(self, log: TensorLog, keep: str) -> None:
        self.log = log
        self.keep = keep
        self.at_most: int | None = None
        self._seen: dict[int, tuple[Callable[[], Any], int, int]] = {}
        self._pictures: dict[int, int] = {}
        self._forms: dict[Any, tuple[Usual | None, int]] = {}
        kernel_of("f")  # compiled now, not within the first layer
        self._small = {letter: Batch(letter) for letter in LETTERS.values()}
        self._on_devices = DeviceWriter()
        log.settle = self.settle

    def write(
        self, tensor: torch.Tensor, network: int, *, new: bool = False, scores: bool = False
    ) -> int:
        """Write a tensor of a network, unless it is there; return its number.

        Args:
            tensor: any tensor.
            network: the index of the network that it belongs to.
            new: whether to write it also where it seems to be there.
            scores: whether it may be class scores, of which whole rows are kept.
        """
        plain = not is_watched(tensor)
        if plain:
            version = -1 if tensor.is_inference() else tensor._version
        else:
            version = version_of(tensor)
        known = None if new else self._seen.get(id(tensor))
        if known is not None and known[1] == version >= 0 and known[0]() is tensor:
            in_rows = scores and _rows_of(self.log.form_of(known[2]))
            if not in_rows:
                return known[2]
        index = self._write_plain(tensor, network, scores) if plain else None
        if index is None:
            rows = _rows_of(form_of(tensor)) if scores else None
            drawn = len(self._pictures) < MOST_PICTURES
            index = self.write_alone(tensor, rows, drawn=drawn)
            if drawn and self.log.form_of(index).numel > WHOLE:
                self._pictures[index] = network
        self._seen[id(tensor)] = weakref.ref(tensor), version, index
        return index

    def write_alone(
        self, tensor: torch.Tensor, rows: int | None = None, *, drawn: bool = False
    ) -> int:
        """Measure a tensor and write it; return its number.

        Args:
            tensor: any tensor.
            rows: how many rows the leading sample has, each whole; None takes a corner.
            drawn: whether to keep a picture of a large one.
        """
        wanted = Wanted(self.keep, rows, drawn, self.at_most)
        index = self._on_devices.write(self.log, tensor, wanted)
        if index is not None:
            return index
        statistics, samples, unknown = measure(
            tensor, self.keep, rows=rows, drawn=drawn, at_most=self.at_most
        )
        form = form_of(tensor)
        thinned = None
        if self.at_most is not None and self.at_most < form.numel:
            thinned = self.at_most
        return self.log.add(form, statistics, samples, unknown, thinned)

    def _write_plain(self, tensor: torch.Tensor, network: int, scores: bool) -> int | None:
        """Write a tensor of the usual kind and return its number, None for any other tensor."""
        if self.keep != "sample" or is_functional(tensor) or devices.on_accelerator(tensor):
            return None  # the memory of a functional tensor holds anything but its values
        try:
            key = tensor.shape, tensor.dtype
            found = self._forms.get(key)
            if found is None:
                found = self._forms[key] = self._form(*key)
            known, form = found
            if known is None or tensor.is_neg():
                return None
            if not tensor.is_contiguous():
                if known.drawn is not None or lacks_memory(tensor):
                    return None
                tensor = tensor.detach().contiguous()
            address = tensor.data_ptr()
            skipped = tensor.storage_offset() * known.itemsize
            if not address or tensor.untyped_storage().nbytes() < skipped + known.bytes:
                return None  # its memory was given back, or is none
            if known.drawn is None:
                values = known.view(address).raw
                index = self.log.add_whole(form, values)
                if self._small[known.letter].add(index, values) > TOGETHER:
                    self._settle_small()
                return index
            if self.at_most is not None and self.at_most < known.form.numel:
                return None
            kind = known.drawn
            rows = _rows_of(known.form) if scores else None
            drawn = len(self._pictures) < MOST_PICTURES
            if rows is not None or not drawn:
                kind = kind._replace(rows=rows, drawn=drawn)
            index = self._write_large(tensor, address, known, form, kind)
            if drawn:
                self._pictures[index] = network
            return index
        except Exception:  # noqa: BLE001 - what refuses is measured in the way that says why
            return None

    def _form(self, shape: torch.Size, dtype: torch.dtype) -> tuple[Usual | None, int]:
        known = usual(shape, dtype)
        return known, -1 if known is None else self.log.form_index(known.form)

    def _write_large(
        self, tensor: torch.Tensor, address: int, known: Usual, form: int, kind: Kind
    ) -> int:
        log, kept = self.log, offsets_of(kind)
        values = kept.room()
        index = log.add_unmeasured(form, Kept(kind, values))
        refused = known.kernel.one_and_some(
            address,
            known.form.numel,
            log.address_of(index),
            kept.address,
            kept.number,
            values,
            readers(),
        )
        if refused:
            log.set_numbers(index, statistics_of(read(tensor).pieces()))
        return index

    def settle(self) -> None:
        """Write the numbers of all tensors that came since the last time."""
        with self.log.lock:  # the kernel is given an address, which must stay what it is
            self._on_devices.read()
            self._settle_small()

    def _settle_small(self) -> None:
        for batch in self._small.values():
            if batch.bytes:
                for index, values in batch.measure(self.log.unsettled()).items():
                    found = statistics_of([np.frombuffer(values, dtype=batch.letter)])
                    self.log.set_numbers(index, found)

    def read_later(self, tensors: list[torch.Tensor], then: Then) -> None:
        """Let small tensors on devices be read together with all else that waits there."""
        self._on_devices.unread.add(object(), tensors, then)

    def is_finite(self, index: int) -> bool | None:
        """Tell whether no value of a tensor of the log is NaN or Inf; None before it is read."""
        values = self.log.samples[index]
        if values is None:
            return None
        if isinstance(values, bytes):
            view: Any = memoryview(values)
            return isfinite(sum(view.cast(self.log.letter(index))))
        start = index * len(NOTHING_KNOWN) + 5
        nan, inf = self.log.unsettled()[start : start + 2]  # what is on devices stays there
        return not (nan > 0 or inf > 0)

    def forget_all(self) -> None:
        """Write every tensor again when it comes by."""
        self._seen.clear()

    def drop_pictures(self, network: int) -> None:
        """Forget the pictures of the network's step before: only the last one is drawn in full."""
        old = [index for index, home in self._pictures.items() if home == network]
        for index in old:
            del self._pictures[index]
            pictured: Any = self.log.samples[index]
            if pictured is None:
                self._on_devices.drop_picture(index)
                continue
            self.log.samples[index] = pictured.without_picture()

    def begin(self, log: TensorLog) -> None:
        """Go on with another log."""
        self.log = log
        self._pictures.clear()
        self._forms.clear()
        for batch in self._small.values():
            batch.clear()
        self._on_devices.clear()
        log.settle = self.settle

    def conclude(self) -> None:
        """Leave the log complete, and let go of everything."""
        self.forget_all()
        self.settle()
        self.log.settle = None


def _rows_of(form: Form) -> int | None:
    """Return how many whole rows to keep of what may be a large matrix of scores."""
    match form.shape:
        case (int(), int(length)) if form.numel > WHOLE and length <= LONGEST_SCORES:
            return max(1, SCORES // length)
    return None
