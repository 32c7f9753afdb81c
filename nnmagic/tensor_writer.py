"""Writing the tensors of a run into its log, each once."""

import weakref
from collections.abc import Callable
from typing import Any

import torch

from nnmagic import devices
from nnmagic.batches import put, statistics_of_many
from nnmagic.device_writer import DeviceWriter, Wanted
from nnmagic.devices import Then
from nnmagic.measuring import measure
from nnmagic.samples import WHOLE, restored
from nnmagic.tensors import form_of, is_watched, version_of
from nnmagic.trace_log import Form, TraceLog

SCORES = 4096
"""How many values of a network's large output are kept in whole rows, but at least one row."""

LONGEST_SCORES = 32_768
"""How long such a row may be."""

MOST_PICTURES = 2000
"""Of how many large tensors of the last step a picture is kept: 4,096 values each at most."""

BATCHED = {"float32": "f", "float64": "d"}
"""The types whose small tensors are copied at once and measured together later."""


TOGETHER = 1 << 18
"""How many bytes of small tensors are measured together: more would leave the processor's cache."""


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

    def __init__(self, log: TraceLog, keep: str) -> None:
        self.log = log
        self.keep = keep
        self.at_most: int | None = None
        self._seen: dict[int, tuple[Callable[[], Any], int, int]] = {}
        self._pictures: dict[int, int] = {}
        self._forms: dict[tuple[Any, ...], tuple[int, list[int]] | None] = {}
        self._small: dict[str, list[int]] = {letter: [] for letter in BATCHED.values()}
        self._waiting = 0
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
        version = version_of(tensor)
        known = None if new else self._seen.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == version >= 0:
            in_rows = scores and _rows_of(self.log.form_of(known[2]))
            if not in_rows:
                return known[2]
        index = self._write_small(tensor)
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
        measured = None
        if self.at_most is not None and self.at_most < form.numel:
            measured = self.at_most
        return self.log.add_tensor(form, statistics, samples, unknown, measured)

    def _write_small(self, tensor: torch.Tensor) -> int | None:
        """Copy the values of a small tensor and return its number, None for any other tensor."""
        if self.keep != "sample" or is_watched(tensor):
            return None
        if torch._is_functional_tensor(tensor) or devices.on_accelerator(tensor):
            return None  # its memory holds anything but its values, or is not ours to read
        try:
            key = tensor.shape, tensor.dtype, tensor.device
            if key not in self._forms:
                self._forms[key] = self._form(tensor)
            known = self._forms[key]
            if known is None:
                return None
            values = (tensor.detach() if tensor.requires_grad else tensor).numpy().tobytes()
        except Exception:  # noqa: BLE001 - what refuses is measured in the way that says why
            return None
        form, others = known
        index = self.log.add_whole(form, values)
        others.append(index)
        self._waiting += len(values)
        if self._waiting > TOGETHER:
            self._settle_small()
        return index

    def _form(self, tensor: torch.Tensor) -> tuple[int, list[int]] | None:
        form = form_of(tensor)
        if not 0 < form.numel <= WHOLE or form.dtype not in BATCHED:
            return None
        return self.log.form_index(form), self._small[BATCHED[form.dtype]]

    def settle(self) -> None:
        """Write the numbers of all tensors that came since the last time."""
        self._on_devices.read()
        self._settle_small()

    def _settle_small(self) -> None:
        log, self._waiting = self.log, 0
        for letter, small in self._small.items():
            mine = small.copy()
            small.clear()
            if not mine:
                continue
            table = statistics_of_many(letter, [log.whole(index).data for index in mine])
            for index in put(log.unsettled, mine, table):
                form = log.form_of(index)._replace(device="cpu")
                log.set_numbers(index, measure(restored(log.whole(index), form), "none")[0])

    def read_later(self, tensors: list[torch.Tensor], then: Then) -> None:
        """Let small tensors on devices be read together with all else that waits there."""
        self._on_devices.unread.add(object(), tensors, then)

    def forget_all(self) -> None:
        """Write every tensor again when it comes by."""
        self._seen.clear()

    def drop_pictures(self, network: int) -> None:
        """Forget the pictures of the network's step before: only the last one is drawn in full."""
        old = [index for index, home in self._pictures.items() if home == network]
        for index in old:
            del self._pictures[index]
            if self.log.samples[index] is None:
                self._on_devices.drop_picture(index)
                continue
            self.log.samples[index] = self.log.samples_of(index)._replace(picture=None)

    def begin(self, log: TraceLog) -> None:
        """Go on with another log."""
        self.log = log
        self._pictures.clear()
        self._forms.clear()
        for small in self._small.values():
            small.clear()
        self._waiting = 0
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
