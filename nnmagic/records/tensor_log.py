"""The tensors of a run: one entry each."""

from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from math import isnan
from threading import RLock
from typing import Any

from nnmagic.records.kept_slices import samples_of_whole
from nnmagic.records.live_fields import LIVE
from nnmagic.records.tensor import (
    NO_VALUES,
    NOTHING_KNOWN,
    Metadata,
    Picture,
    Sample,
    Samples,
    Statistics,
    TensorRecord,
    norm,
    tensor_record,
)

UNKNOWN = array("d", NOTHING_KNOWN)
"""The statistics of a tensor that was not measured."""

WIDTH = len(UNKNOWN)


@dataclass(slots=True, eq=False)
class TensorLog:
    """Append-only columns that a writer fills, numbered in the order of the first sight.

    A tensor that passes from one layer to the next unchanged is one entry. An entry is complete as
    soon as it is there, but for a tensor on an accelerator, whose statistics and samples are read
    from there when somebody asks for them, together with all others that wait.

    Attributes:
        lock: what the recorder holds while it writes.
        metadata: the shapes, dtypes and devices there are, each once.
        metadata_index: for each tensor the index into `metadata`.
        samples: the values kept of each tensor; of some all values as bytes, from which these are
            cut later; None is not yet.
        read_pending: reads what waits on accelerators and sets it here; None where nothing does.
        measured: of tensors that were not measured in full, how many values were.
        unknown: why a tensor has no statistics.
        same_as: where a tensor that was there was written again, the entry before; that it has
            not changed meanwhile, only its values may tell.
        digests: for each tensor the digest of its bytes, 0 where there is none; the last ones may
            be missing, and all of them outside a process group.
    """

    lock: AbstractContextManager[Any] = field(default_factory=RLock, metadata=LIVE)
    metadata: list[Metadata] = field(default_factory=list)
    metadata_index: "array[int]" = field(default_factory=partial(array, "l"))
    samples: list[Samples | bytes | None] = field(default_factory=list)
    read_pending: Callable[[], None] | None = field(default=None, metadata=LIVE)
    measured: dict[int, int] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    same_as: dict[int, int] = field(default_factory=dict)
    statistics: "array[float]" = field(default_factory=lambda: array("d"))
    digests: "array[int]" = field(default_factory=partial(array, "q"))
    _metadata_seen: dict[Metadata, int] = field(default_factory=dict, metadata=LIVE)

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        self._complete()
        state = {name: getattr(self, name) for name in self.__slots__}
        return state | {"lock": None, "read_pending": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.lock = RLock()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorLog):
            return NotImplemented
        mine, theirs = self.__getstate__(), other.__getstate__()
        for state in (mine, theirs):  # as bytes, in which an unknown number is equal to itself
            state["statistics"] = state["statistics"].tobytes()
        return mine == theirs

    # Writing: for writers only.

    def add_metadata(self, metadata: Metadata) -> int:
        """Return the index of this metadata, which is appended at the first sight."""
        index = self._metadata_seen.setdefault(metadata, len(self.metadata))
        if index == len(self.metadata):
            self.metadata.append(metadata)
        return index

    def add(
        self,
        metadata: int,
        statistics: "array[float]" = UNKNOWN,
        samples: Samples | bytes | None = None,
    ) -> int:
        """Append a tensor; return its number.

        Args:
            metadata: the index of its metadata.
            statistics: doubles in the order of `Statistics`.
            samples: the values kept; of a float32 or float64 tensor also all values, as bytes.
        """
        self.metadata_index.append(metadata)
        self.statistics.extend(statistics)
        self.samples.append(samples)
        return len(self.samples) - 1

    def set(self, tensor: int, statistics: Statistics, samples: Samples, unknown: str = "") -> None:
        """Set the statistics and the samples of a tensor that is there."""
        self.statistics[tensor * WIDTH : (tensor + 1) * WIDTH] = array("d", statistics)
        self.samples[tensor] = samples
        if unknown:
            self.unknown[tensor] = unknown

    def set_digest(self, tensor: int, digest: int | None) -> None:
        """Set the digest of a tensor that is there."""
        self.digests.extend([0] * (tensor + 1 - len(self.digests)))
        self.digests[tensor] = digest or 0

    def set_picture(self, tensor: int, picture: Picture | None) -> None:
        """Set the values to draw a tensor by."""
        samples = self.samples[tensor]
        if isinstance(samples, bytes):
            samples = samples_of_whole(self.whole_of(tensor, samples), with_picture=False)
        if samples is not None:
            self.samples[tensor] = samples._replace(picture=picture)

    def drop_picture(self, tensor: int) -> None:
        """Forget the values to draw a tensor by."""
        self.set_picture(tensor, None)

    # Reading.

    def _complete(self) -> None:
        if self.read_pending is not None:
            self.read_pending()

    def column(self, name: str) -> "array[float]":
        """Return one statistic of all tensors, NaN where it is unknown.

        Args:
            name: a field of `Statistics`, e.g. `"nan"`.
        """
        self._complete()
        return self.statistics[Statistics._fields.index(name) :: WIDTH]

    def statistics_of(self, tensor: int) -> Statistics:
        """Return the statistics of a tensor."""
        self._complete()
        return Statistics(*self.statistics[tensor * WIDTH : (tensor + 1) * WIDTH])

    def is_finite(self, tensor: int) -> bool | None:
        """Tell whether no value is NaN or Inf; None while the tensor waits on an accelerator."""
        if self.samples[tensor] is None:
            return None
        return Statistics(*self.statistics[tensor * WIDTH : (tensor + 1) * WIDTH]).is_finite

    def first_entry(self, tensor: int) -> int:
        """Return the number under which a tensor was first seen with the values that it has."""
        while tensor in self.same_as and self._has_values_of(tensor, self.same_as[tensor]):
            tensor = self.same_as[tensor]
        return tensor

    def _has_values_of(self, tensor: int, other: int) -> bool:
        """Tell whether two entries have the same statistics, whichever way they were measured."""
        mine, others = self.statistics_of(tensor), self.statistics_of(other)
        rounding = 1e-9 * max(abs(others.min), abs(others.max))
        return all(
            one == two or (isnan(one) and isnan(two)) or (i in (2, 3) and abs(one - two) < rounding)
            for i, (one, two) in enumerate(zip(mine, others, strict=True))
        )

    def metadata_of(self, tensor: int) -> Metadata:
        """Return the shape, dtype, device and size of a tensor."""
        return self.metadata[self.metadata_index[tensor]]

    def samples_of(self, tensor: int) -> Samples:
        """Return the values kept of a tensor."""
        self._complete()
        samples = self.samples[tensor]
        if isinstance(samples, bytes):
            return samples_of_whole(self.whole_of(tensor, samples), with_picture=True)
        return samples or NO_VALUES  # None where an interrupt came before the values

    def digest_of(self, tensor: int) -> int | None:
        """Return the digest of a tensor's bytes, None where there is none."""
        self._complete()
        return self.digests[tensor] or None if tensor < len(self.digests) else None

    def whole_of(self, tensor: int, values: bytes) -> Sample:
        """Return the sample of all values of a float32 or float64 tensor, kept as bytes."""
        metadata = self.metadata_of(tensor)
        shape = tuple(size for size in metadata.shape if size is not None)
        return Sample("f" if metadata.dtype == "float32" else "d", shape, values)

    def norm_of(self, tensor: int) -> float:
        """Return the Euclidean norm of a tensor, NaN where it is unknown."""
        return norm(self.statistics_of(tensor), self.metadata_of(tensor).numel)

    def known_norm_of(self, tensor: int) -> float | None:
        """Return the Euclidean norm of a tensor, NaN where a value is; None where it is unknown."""
        value = self.norm_of(tensor)
        return None if isnan(value) and not self.statistics_of(tensor).nan > 0 else value

    def record(self, tensor: int) -> TensorRecord:
        """Return the record of a tensor."""
        return tensor_record(
            self.metadata_of(tensor),
            self.statistics_of(tensor),
            self.samples_of(tensor),
            self.unknown.get(tensor, ""),
            self.measured.get(tensor),
            self.digest_of(tensor),
        )
