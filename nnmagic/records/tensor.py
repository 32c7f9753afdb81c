"""One tensor at one moment: its metadata, its statistics, and samples of its values."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import hypot, inf, isnan, nan, prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from nnmagic.display.table import Histogram
from nnmagic.records.histograms import histograms

LAZY = "not initialized yet"
"""Why a lazy layer's parameter has no values."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of a tensor's values, as bytes.

    Attributes:
        format: the `struct` format of one number; `"Zd"` for complex values, two doubles each.
        shape: the shape of the values held here.
        data: the values, row by row.
    """

    format: str
    shape: tuple[int, ...]
    data: bytes = field(repr=False)

    @property
    def numel(self) -> int:
        """How many values are held."""
        return prod(self.shape)

    def tolist(self) -> Any:
        """Return the values as lists nested like the shape, or the one value of a 0-d tensor."""
        return self.array().tolist()

    def flat(self) -> list[float]:
        """Return the values in one list; complex ones by absolute value."""
        numbers: list[float] = self.real_array().ravel().tolist()
        return numbers

    def array(self) -> np.ndarray:
        """Return the values in their shape, without a copy."""
        kind = "D" if self.format == "Zd" else self.format
        return np.frombuffer(self.data, kind).reshape(self.shape)

    def real_array(self) -> np.ndarray:
        """Return the same, complex values by absolute value."""
        values = self.array()
        return np.abs(values) if self.format == "Zd" else values


@dataclass(frozen=True, slots=True)
class Picture:
    """Values taken in a grid from a large tensor, enough to draw it.

    Attributes:
        sample: the values; of more than two axes the first item, of more than three its first
            channels.
        steps: for each axis, how far apart neighbours lie in the tensor.
    """

    sample: Sample
    steps: tuple[int, ...]


class Samples(NamedTuple):
    """The values of a tensor that a record keeps.

    Attributes:
        leading: the values at the front of every axis; the whole tensor where it is small.
        spread: values taken evenly from the whole tensor; the whole tensor where it is small.
        picture: values to draw a large tensor by; of the last iteration of a run only.
    """

    leading: Sample | None
    spread: Sample | None
    picture: Picture | None = None


NO_VALUES = Samples(None, None)
"""Those of a tensor of which none are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord:
    """One tensor at one moment: its metadata, its statistics, and samples of its values.

    Attributes:
        shape: the tensor's shape; of a DTensor that of the part that this process holds, which all
            numbers are of.
        dtype: its dtype without the prefix, `"float32"`.
        device: `"cpu"`, `"cuda:0"`.
        numel: how many values it has.
        min: the least finite value; complex numbers count by absolute value; None if there is none.
        max: the greatest finite value.
        mean: the mean of the finite values.
        std: their standard deviation, correction 1 as `torch.std`; None for fewer than two.
        zeros: the fraction of the values that are exactly zero, in 0..1; None for an empty tensor.
        nan: how many values are NaN.
        inf: how many values are +Inf or -Inf.
        negative_inf: how many of those are -Inf.
        leading: the values at the front of every axis; the whole tensor where it is small.
        spread: values taken evenly from the whole tensor; the whole tensor where it is small.
        picture: values to draw a large tensor by, or None.
        measured: how many of the values, spread evenly, the numbers are over; None is all.
        unknown: why the numbers are None, where they are.
        digest: 64 bits that tell whether the bytes are those of another tensor, signed; None where
            no process group is there, whose processes would compare them.
        global_shape: of a DTensor its shape over all processes, else None.
        placements: of a DTensor how it lies on each axis of its mesh: `("Shard(0)",)`.
        mesh: of a DTensor where this process is on each axis of its mesh, and how many there are:
            `((1, 4),)`.
    """

    shape: tuple[int, ...]
    dtype: str
    device: str
    numel: int
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None
    zeros: float | None = None
    nan: int | None = None
    inf: int | None = None
    negative_inf: int | None = None
    leading: Sample | None = None
    spread: Sample | None = None
    picture: Picture | None = None
    measured: int | None = None
    unknown: str = ""
    digest: int | None = None
    global_shape: tuple[int, ...] | None = None
    placements: tuple[str, ...] | None = None
    mesh: tuple[tuple[int, int], ...] | None = None

    @property
    def values(self) -> Any:
        """The kept values as nested lists: all of a small tensor, of a large one those in front."""
        return None if self.leading is None else self.leading.tolist()

    @property
    def whole(self) -> Sample | None:
        """The sample that holds all values, None where none does."""
        samples = (self.leading, self.spread, self.picture and self.picture.sample)
        return next((each for each in samples if each and each.shape == self.shape), None)

    @property
    def is_nested(self) -> bool:
        """Whether its values are known to be no grid: of such a tensor no front is kept."""
        has_front = self.leading is not None or self.spread is None or self.measured is not None
        return None in self.shape or not has_front

    @property
    def norm(self) -> float | None:
        """The Euclidean norm, as `torch.linalg.vector_norm`: NaN or Inf where a value is."""
        if self.nan or self.inf:
            return nan if self.nan else inf
        if self.mean is None:
            return 0.0 if self.zeros is None and self.nan == 0 else None
        return hypot(self.mean * sqrt(self.numel), (self.std or 0.0) * sqrt(self.numel - 1))

    @property
    def is_numeric(self) -> bool:
        """Whether the dtype is a floating-point or complex one."""
        return self.dtype.startswith(("float", "bfloat", "complex"))

    @property
    def histogram(self) -> Histogram | None:
        """The distribution of the finite values, of the sample where the tensor is large."""
        return histograms([(self.spread, self.min, self.max)])[0]

    @property
    def caption(self) -> str:
        """The shape and the dtype, and how much of the tensor is kept."""
        text = f"{self.shape} {self.dtype}"
        if self.placements is not None:
            text = f"{self.shape} of {self.global_shape} {self.dtype}, {', '.join(self.placements)}"
        if self.leading is not None and self.leading.numel < self.numel:
            return f"{text}, {self.leading.numel:,} of {self.numel:,} values kept"
        return text


NO_TENSOR = TensorRecord(shape=(), dtype="", device="", numel=0)
"""In place of the tensor of a row that has none."""

STATISTICS = ("min", "max", "mean", "std", "zeros", "nan", "inf")
"""The numbers of a tensor that a frame has columns for."""


class TensorColumns(ABC):
    """Something with one main tensor, whose dtype, device and statistics it shows as its own."""

    __slots__ = ()

    @property
    @abstractmethod
    def main(self) -> TensorRecord | None:
        """The tensor that the statistics are of."""

    @property
    def _tensor(self) -> TensorRecord:
        return self.main or NO_TENSOR

    @property
    def dtype(self) -> str | None:
        """The dtype without the prefix, `"float32"`."""
        return self._tensor.dtype or None

    @property
    def device(self) -> str | None:
        """The device."""
        return self._tensor.device or None

    @property
    def min(self) -> float | None:
        """The least finite value."""
        return self._tensor.min

    @property
    def max(self) -> float | None:
        """The greatest finite value."""
        return self._tensor.max

    @property
    def mean(self) -> float | None:
        """The mean of the finite values."""
        return self._tensor.mean

    @property
    def std(self) -> float | None:
        """The standard deviation (correction 1) of the finite values."""
        return self._tensor.std

    @property
    def zeros(self) -> float | None:
        """The fraction of the values that are exactly zero, in 0..1."""
        return self._tensor.zeros

    @property
    def nan(self) -> int | None:
        """How many values are NaN."""
        return self._tensor.nan

    @property
    def inf(self) -> int | None:
        """How many values are infinite."""
        return self._tensor.inf


class Statistics(NamedTuple):
    """The numbers of one tensor as doubles, NaN where unknown; meanings as in `TensorRecord`."""

    min: float
    max: float
    mean: float
    std: float
    zeros: float
    nan: float
    inf: float
    negative_inf: float

    @property
    def is_finite(self) -> bool:
        """Whether no value is known to be NaN or Inf."""
        return not (self.nan > 0 or self.inf > 0)


NOTHING_KNOWN = Statistics(*[nan] * len(Statistics._fields))
"""Those of a tensor that cannot be read."""


def norm(numbers: Statistics, numel: int) -> float:
    """Return the Euclidean norm: NaN or Inf where a value is, NaN too where it is unknown.

    Args:
        numbers: the statistics of a tensor.
        numel: how many values it has.
    """
    if numbers.nan > 0 or numbers.inf > 0:
        return nan if numbers.nan > 0 else inf
    if isnan(numbers.mean):
        return 0.0 if numel == 0 else nan
    spread = 0.0 if isnan(numbers.std) else numbers.std
    return hypot(numbers.mean * sqrt(numel), spread * sqrt(max(0, numel - 1)))


class Metadata(NamedTuple):
    """What tensors of one kind share; meanings as in `TensorRecord`."""

    shape: tuple[int | None, ...]
    dtype: str
    device: str
    numel: int
    global_shape: tuple[int, ...] | None = None
    placements: tuple[str, ...] | None = None
    mesh: tuple[tuple[int, int], ...] | None = None


def tensor_record(
    metadata: Metadata,
    numbers: Statistics,
    samples: Samples,
    unknown: str,
    measured: int | None = None,
    digest: int | None = None,
) -> TensorRecord:
    """Return the record of a tensor, what is unknown as None."""
    statistics: dict[str, Any] = {
        name: None if isnan(value) else value for name, value in numbers._asdict().items()
    }
    for name in ("nan", "inf", "negative_inf"):
        statistics[name] = None if statistics[name] is None else int(statistics[name])
    how: dict[str, Any] = {"unknown": unknown, "measured": measured, "digest": digest}
    return TensorRecord(**metadata._asdict(), **statistics, **samples._asdict(), **how)
