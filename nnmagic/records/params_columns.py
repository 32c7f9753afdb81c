"""The columns of a table of parameters, and the parameters that they take their cells from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nnmagic.display import units
from nnmagic.display.table import Column, TensorShape
from nnmagic.records.columns import FLAGS, HISTOGRAM, MEAN_AND_STD, MIN_AND_MAX, ZEROS
from nnmagic.records.record import leading_rows
from nnmagic.records.tensor import NO_TENSOR, Sample, TensorRecord

if TYPE_CHECKING:
    from nnmagic.records.params import ParameterRecord, Params


class ParameterRow(NamedTuple):
    """A parameter as the subject of a row, or None for a layer that holds some.

    Attributes:
        params: what it is one of.
        record: the parameter.
        numel: how many values it has, or those below the layer; None where unknown.
    """

    params: Params
    record: ParameterRecord | None
    numel: int | None

    @property
    def tensor(self) -> TensorRecord:
        """The parameter's own tensor."""
        return NO_TENSOR if self.record is None else self.record.tensor

    @property
    def numbers(self) -> TensorRecord:
        """Its statistics."""
        return self.tensor

    @property
    def spread(self) -> Sample | None:
        """The values that the histogram is of."""
        return self.tensor.spread

    @property
    def share(self) -> float | None:
        """Its share of all values, in 0..1."""
        if self.record is not None:
            return None if self.record.percent is None else self.record.percent / 100
        return (self.numel or 0) / self.params.total if self.params.total else None

    @property
    def shape(self) -> TensorShape | str:
        """Its shape, with the dtype and the device where they are not those of the first."""
        if self.record is None:
            return ""
        own, first = self.tensor, self.params.rows[0].tensor
        pairs = ((own.dtype, first.dtype), (own.device, first.device))
        return TensorShape(self.record.shape, " ".join(mine for mine, its in pairs if mine != its))

    @property
    def dtype(self) -> str:
        """Its dtype without the prefix."""
        return self.tensor.dtype

    @property
    def grad_norm(self) -> float | str:
        """The norm of its gradient."""
        if self.record is None or (self.record.grad_norm is None and not self.record.has_grad):
            return ""
        return units.UNKNOWN if self.record.grad_norm is None else self.record.grad_norm

    @property
    def flags(self) -> str:
        """What deserves a look, in words."""
        return "" if self.record is None else ", ".join(self.params.flags(self.record))

    @property
    def first_values(self) -> list[str]:
        """A text for each of its first rows."""
        rows = self.params.view.values_shown
        return leading_rows(self.tensor.values, self.tensor.shape, rows)

    def details(self) -> list[str]:
        """Return lines with its dtype, its size and its first rows."""
        if self.record is None or self.record.shape is None:
            return []
        return [f"{self.tensor.caption}, {self.record.size}", *self.first_values]


COLUMNS = (
    Column("shape", "shape", "the shape of the tensor", narrowest=22, always=True),
    Column(
        "count",
        "count",
        "how many values; a tied one counts once",
        cell=lambda row: "" if row.numel is None else row.numel,
        priority=2,
    ),
    Column("share", "share", "of all values", priority=3),
    MEAN_AND_STD,
    MIN_AND_MAX,
    HISTOGRAM,
    Column(
        "grad_norm",
        "number",
        "the Euclidean norm of .grad as it is now",
        title="gradient norm",
        priority=1,
    ),
    FLAGS,
    Column(
        "first_values",
        "text",
        "of the first row",
        cell=lambda row: next(iter(row.first_values), ""),
        priority=2,
        narrowest=12,
    ),
    replace(ZEROS, extra=True),
    Column("dtype", "text", "the type of one value", priority=7, extra=True, hidden=True),
)
"""The columns of parameters: a new one goes here."""
