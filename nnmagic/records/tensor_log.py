"""The tensors of a run: one entry each."""

from array import array
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from math import nan
from threading import RLock
from typing import Any, Protocol

from nnmagic.records.tensor import (
    NOTHING_KNOWN,
    Form,
    Sample,
    Samples,
    Statistics,
    TensorRecord,
    tensor_record,
)

ROOM = array("d", [nan] * 64 * len(Statistics._fields))
"""Room for the numbers of tensors to come."""


class Folded(Protocol):
    """What is kept of a tensor's values, in another form."""

    def samples(self) -> Samples:
        """Return the samples."""
        ...


class TensorLog:
    """Append-only columns that a writer fills, numbered in the order of the first sight.

    A tensor that passes from one layer to the next unchanged is one entry.

    Args:
        lock: what the writer holds; others may read from another thread.

    Attributes:
        forms: the forms there are, each once.
        form: for each tensor the number of its form.
        samples: what is kept of each tensor's values; bytes are all of a small one's, None waits.
        settle: what writes the numbers and samples that are still missing; None in the end.
        measured: of those that were not measured in full, how many values were.
        unknown: why nothing is known of a tensor.
    """

    __slots__ = (
        "_forms_seen",
        "_numbers",
        "form",
        "forms",
        "lock",
        "measured",
        "samples",
        "settle",
        "unknown",
    )

    def __init__(self, lock: AbstractContextManager[Any] | None = None) -> None:
        self.lock = lock or RLock()
        self.forms: list[Form] = []
        self._forms_seen: dict[Form, int] = {}
        self.form = array("l")
        self._numbers = array("d")
        self.samples: list[Samples | Folded | bytes | None] = []
        self.settle: Callable[[], None] | None = None
        self.measured: dict[int, int] = {}
        self.unknown: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        self.numbers  # noqa: B018 - what is still to be written
        return {name: getattr(self, name) for name in self.__slots__} | {
            "lock": None,
            "settle": None,
            "samples": [
                each if isinstance(each, bytes) else self.samples_of(index)
                for index, each in enumerate(self.samples)
            ],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.lock = RLock()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorLog):
            return NotImplemented
        mine, theirs = self.__getstate__(), other.__getstate__()
        mine["_numbers"], theirs["_numbers"] = self.numbers.tobytes(), other.numbers.tobytes()
        return mine == theirs

    # Writing: for writers only.

    def form_index(self, form: Form) -> int:
        """Return the number of a form, a new one at the first sight."""
        index = self._forms_seen.setdefault(form, len(self.forms))
        if index == len(self.forms):
            self.forms.append(form)
        return index

    def add_whole(self, form: int, values: bytes) -> int:
        """Append a small tensor, all of its values at once, its numbers later; return its number.

        Args:
            form: the number of its form, of float32 or float64 values.
            values: the values.
        """
        self.form.append(form)
        self.samples.append(values)
        return len(self.samples) - 1

    def add_unmeasured(self, form: int, samples: Folded | None = None) -> int:
        """Append a tensor of the form of that number, its numbers later; return its own."""
        self.form.append(form)
        self.samples.append(samples)
        return len(self.samples) - 1

    def unsettled(self) -> array:
        """Return the numbers of all tensors as they are, NaN where they are to be computed.

        Behind them is room for more: also NaN.
        """
        numbers, needed = self._numbers, len(self.samples) * len(NOTHING_KNOWN)
        while len(numbers) < needed:
            numbers.extend(ROOM)
        return numbers

    def address_of(self, tensor: int) -> int:
        """Return where the numbers of a tensor go: good until the lock is let go."""
        numbers = self.unsettled()
        return numbers.buffer_info()[0] + tensor * len(NOTHING_KNOWN) * numbers.itemsize

    def set_numbers(self, tensor: int, numbers: Iterable[float]) -> None:
        """Set the numbers of a tensor that was added without."""
        width = len(NOTHING_KNOWN)
        self.unsettled()[tensor * width : (tensor + 1) * width] = array("d", numbers)

    def add(
        self,
        form: Form,
        numbers: Statistics,
        samples: Samples,
        unknown: str,
        measured: int | None = None,
    ) -> int:
        """Append a tensor; return its number."""
        self.form.append(self.form_index(form))
        self.samples.append(samples)
        index = len(self.samples) - 1
        self.set_numbers(index, numbers)
        if unknown:
            self.unknown[index] = unknown
        if measured is not None:
            self.measured[index] = measured
        return index

    # Reading.

    @property
    def numbers(self) -> array:
        """The numbers of all tensors, one after the other; what is still missing is computed."""
        with self.lock:
            if self.settle is not None:
                self.settle()
            numbers, known = self.unsettled(), len(self.samples) * len(NOTHING_KNOWN)
            if len(numbers) > known:
                del numbers[known:]
            return numbers

    def form_of(self, tensor: int) -> Form:
        """Return what a tensor shares with others of its kind."""
        return self.forms[self.form[tensor]]

    def statistics_of(self, tensor: int) -> Statistics:
        """Return the numbers of a tensor."""
        width = len(NOTHING_KNOWN)
        return Statistics(*self.numbers[tensor * width : (tensor + 1) * width])

    def are_same(self, one: int, other: int) -> bool:
        """Tell whether two entries are of one tensor; a large output has a second, with rows."""
        if one == other:
            return True
        alike = self.form[one] == self.form[other]
        return alike and self.statistics_of(one) == self.statistics_of(other)

    def record(self, index: int) -> TensorRecord:
        """Return the record of a tensor."""
        return tensor_record(
            self.form_of(index),
            self.statistics_of(index),
            self.samples_of(index),
            self.unknown.get(index, ""),
            self.measured.get(index),
        )

    def samples_of(self, tensor: int) -> Samples:
        """Return what is kept of a tensor's values."""
        samples = self.samples[tensor]
        if samples is None and self.settle is not None:
            with self.lock:
                self.settle()
            samples = self.samples[tensor]
        if samples is None:  # an interrupt came before anything was computed
            return Samples(None, None)
        if not isinstance(samples, bytes):
            return samples if isinstance(samples, Samples) else samples.samples()
        whole = self.whole(tensor)
        return Samples(whole, whole)

    def whole(self, tensor: int) -> Sample:
        """Return all values of a tensor that was added whole."""
        form, values = self.form_of(tensor), self.samples[tensor]
        assert isinstance(values, bytes)
        shape = tuple(size for size in form.shape if size is not None)  # none of them is nested
        return Sample(self.letter(tensor), shape, values)

    def letter(self, tensor: int) -> str:
        """Return the format of the values of a tensor that was added whole."""
        return "f" if self.form_of(tensor).dtype == "float32" else "d"
