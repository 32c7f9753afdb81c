"""What is known of a tensor: its form, its numbers, and the record of both."""

from math import isnan, nan
from typing import Any, NamedTuple

from nnmagic.records import Samples, TensorRecord


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


NOTHING_KNOWN = Statistics(*[nan] * len(Statistics._fields))
"""Those of a tensor that cannot be read."""


class Form(NamedTuple):
    """What tensors of one kind share."""

    shape: tuple[int | None, ...]
    dtype: str
    device: str
    numel: int


def tensor_record(
    form: Form, numbers: Statistics, samples: Samples, unknown: str, measured: int | None = None
) -> TensorRecord:
    """Return the record of a tensor, what is unknown as None."""
    known: dict[str, Any] = {
        name: None if isnan(value) else value for name, value in numbers._asdict().items()
    }
    for name in ("nan", "inf", "negative_inf"):
        known[name] = None if known[name] is None else int(known[name])
    return TensorRecord(
        **form._asdict(), **known, **samples._asdict(), unknown=unknown, measured=measured
    )
