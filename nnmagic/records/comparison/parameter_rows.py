"""The rows of parameters side by side, and what is said of each."""

from dataclasses import dataclass

from nnmagic.display import units
from nnmagic.display.units import Shape
from nnmagic.records.columns import none_if_nan
from nnmagic.records.comparison.differences import Difference
from nnmagic.records.comparison.names import NamePair
from nnmagic.records.comparison.verdicts import EQUAL, OTHER_SHAPE, UNKNOWN

MISSING = "missing"
UNEXPECTED = "unexpected"
CHANGED = "changed"

VERDICTS = (MISSING, UNEXPECTED, OTHER_SHAPE, CHANGED, UNKNOWN, EQUAL)
"""What a parameter can be, the gravest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedParameter:
    """One parameter on two sides, or one that only one of them has.

    The error is relative: ||a - b|| / ||b||, a this side's values and b the other's. What is
    unknown is None.

    Attributes:
        name: its name on this side, on the other where only that has it.
        other_name: its name on the other side, None where that lacks it.
        kind: `"parameter"`, `"buffer"`, or `"tensor"` where that is not known.
        shape: its shape on this side.
        other_shape: its shape on the other side.
        dtype: its dtype on this side, `"float32"`.
        other_dtype: its dtype on the other side.
        count: how many values it has.
        verdict: `"missing"` (only the other side has it), `"unexpected"` (only this side has it),
            `"other shape"`, `"changed"`, `"equal"` or `"not compared"`.
        error: how far the values lie apart.
        max_abs: the largest absolute difference.
        max_at: its index.
        cosine: the cosine of the angle between the two.
        compared: how many values were compared.
        also: further names of the same parameter.
        rounded: whether one side is the other one, cast to its dtype.
        unknown: why the values were not compared, where they were not.
    """

    name: str
    other_name: str | None
    kind: str
    shape: Shape
    other_shape: Shape
    dtype: str | None
    other_dtype: str | None
    count: int | None
    verdict: str
    error: float | None = None
    max_abs: float | None = None
    max_at: tuple[int, ...] | None = None
    cosine: float | None = None
    compared: int | None = None
    also: tuple[str, ...] = ()
    rounded: bool = False
    unknown: str = ""

    @property
    def has_other_dtype(self) -> bool:
        """Whether both sides have it, in two dtypes."""
        return None not in (self.dtype, self.other_dtype) and self.dtype != self.other_dtype


def described(row: ComparedParameter) -> str:
    """Return the name of a parameter, and what is wrong with it where its verdict does not tell."""
    if row.verdict == CHANGED:
        by = "an unknown amount" if row.error is None else f"{row.error:.2g}"
        return f"{row.name} by {by}"
    if row.verdict == OTHER_SHAPE:
        return f"{row.name} {units.shape(row.shape)} against {units.shape(row.other_shape)}"
    return row.name


@dataclass(frozen=True, slots=True)
class TensorDescription:
    """What one side has of a parameter.

    Attributes:
        shape: its shape; None for a lazy one, and where it cannot be had.
        dtype: its dtype; None where that is unknown.
        count: how many values it has; None likewise.
        unknown: why its values cannot be read, or an empty text.
    """

    shape: Shape
    dtype: str | None
    count: int | None
    unknown: str = ""


NOTHING = TensorDescription(None, None, None)
"""What the side has that lacks it."""


def compared_parameter(
    pair: NamePair,
    kind: str,
    mine: TensorDescription | None,
    other: TensorDescription | None,
    difference: Difference | None,
    *,
    rounded: bool = False,
    unknown: str = "",
) -> ComparedParameter:
    """Return the row of a parameter.

    Args:
        pair: its names.
        kind: what it is.
        mine: what this side has, None where that lacks it.
        other: what the other side has.
        difference: how far its values lie apart; None where they could not be compared.
        rounded: whether one side is the other one, cast to its dtype.
        unknown: why it could not be compared, where neither side tells.
    """
    here, there = mine or NOTHING, other or NOTHING
    is_pair = mine is not None and other is not None
    known = Difference(0.0, 0.0) if difference is None else difference
    if not is_pair:
        verdict = MISSING if mine is None else UNEXPECTED
    elif None in (here.shape, there.shape):
        verdict = UNKNOWN
    elif here.shape != there.shape:
        verdict = OTHER_SHAPE
    elif difference is None:
        verdict = UNKNOWN
    else:
        verdict = EQUAL if known.max_abs == 0 else CHANGED
    is_measured = verdict in (EQUAL, CHANGED)
    return ComparedParameter(
        name=pair.name or pair.other or "",
        other_name=pair.other,
        kind=kind,
        shape=here.shape,
        other_shape=there.shape,
        dtype=here.dtype,
        other_dtype=there.dtype,
        count=there.count if mine is None else here.count,
        verdict=verdict,
        error=none_if_nan(known.error) if is_measured else None,
        max_abs=none_if_nan(known.max_abs) if is_measured else None,
        max_at=known.max_at if is_measured else None,
        cosine=known.cosine if is_measured else None,
        compared=known.compared if is_measured else None,
        also=pair.also,
        rounded=rounded,
        unknown=(here.unknown or there.unknown or unknown) if verdict == UNKNOWN else "",
    )
