"""The columns of a table of parameters, and the parameters that they take their cells from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nnmagic.display import units
from nnmagic.display.table import Cell, Column, TensorShape
from nnmagic.records.columns import HISTOGRAM, MEAN_AND_STD, MIN_AND_MAX, ZEROS
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
    def shape(self) -> TensorShape:
        """Its shape, with the dtype and the device where they are not those of the first."""
        assert self.record is not None
        own, first = self.tensor, self.params.rows[0].tensor
        odd = [own.dtype] if own.dtype != first.dtype else []
        odd += [own.device] if own.device != first.device else []
        return TensorShape(self.record.shape, " ".join(odd))

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


def _of_parameter(cell: Callable[[ParameterRow], Cell]) -> Callable[[ParameterRow], Cell]:
    """Return the cell of a column in which a layer that holds parameters has none."""
    return lambda row: "" if row.record is None else cell(row)


def _grad_norm(row: ParameterRow) -> Cell:
    assert row.record is not None
    if row.record.grad_norm is None and row.record.has_grad:
        return units.UNKNOWN
    return "" if row.record.grad_norm is None else row.record.grad_norm


COLUMNS = (
    Column(
        key="shape",
        title="shape",
        kind="shape",
        narrowest=22,
        meaning="the shape of the tensor",
        cell=_of_parameter(lambda row: row.shape),
    ),
    Column(
        key="count",
        title="count",
        kind="count",
        meaning="how many values; a tied one counts once",
        cell=lambda row: "" if row.numel is None else row.numel,
    ),
    Column(
        key="percent",
        title="share",
        kind="share",
        priority=3,
        meaning="of all values",
        cell=lambda row: row.share,
    ),
    MEAN_AND_STD,
    MIN_AND_MAX,
    HISTOGRAM,
    Column(
        key="grad_norm",
        title="gradient",
        kind="number",
        priority=2,
        meaning="the Euclidean norm of .grad as it is now",
        cell=_of_parameter(_grad_norm),
    ),
    Column(
        key="flags",
        title="flags",
        kind="flags",
        meaning="what deserves attention",
        cell=lambda row: row.flags,
    ),
    Column(
        key="first_values",
        title="first values",
        kind="text",
        priority=5,
        narrowest=12,
        meaning="of the first row",
        cell=lambda row: next(iter(row.first_values), ""),
    ),
    replace(ZEROS, extra=True),
    Column(
        key="dtype",
        title="dtype",
        kind="text",
        priority=7,
        meaning="the type of one value",
        cell=_of_parameter(lambda row: row.tensor.dtype),
        extra=True,
        hidden=True,
    ),
)
"""The columns of parameters: a new one goes here."""
