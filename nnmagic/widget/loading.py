"""What is loaded of a record's tensors beyond the values that it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from nnmagic.recording.values_by_rerun import RefusedError, TensorOfCall, ValuesByRerun
from nnmagic.records.kept_slices import PICTURE_VALUES
from nnmagic.records.params import Params
from nnmagic.records.record import Record
from nnmagic.records.tensor import Picture, Sample
from nnmagic.records.trace import Trace
from nnmagic.widget.weight_pictures import parameter_picture

MOST_VALUES = 1 << 22
"""How many values of one tensor are sent to the browser: 16 MiB, twice that as float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What was loaded of a tensor, or may be.

    Attributes:
        values: all values, of a very large tensor those of the first items; None is not loaded.
        picture: values to draw a parameter by that is not loaded; None where the record has some.
        is_new_run: whether they are those of a new run, not of the recorded one.
        can_load: whether they may be asked for.
        offers_new_run: whether those of a new run may be.
        reason: why they cannot be loaded, or were not.
    """

    values: Sample | None = None
    picture: Picture | None = None
    is_new_run: bool = False
    can_load: bool = False
    offers_new_run: bool = False
    reason: str = ""


NOTHING = Loading()
"""For a record that nothing can be asked about, as in a page of its own."""


class Loader:
    """Loads the tensors of a trace from its network run again, parameters as they are now.

    What is given as a record's own is equal to all that the record says of it.

    Args:
        record: the record.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self._loaded: dict[tuple[Any, str, int], Loading] = {}

    def of(self, subject: Any, side: str = "output", place: int = 0) -> Loading:
        """Return what was loaded of a tensor, or whether it may be.

        A small parameter is loaded, and a larger one is looked at once, to be drawn.

        Args:
            subject: what the row is about.
            side: `"input"` or `"output"`.
            place: which of the tensors on that side.
        """
        found = self._loaded.get((_key(subject), side, place))
        if found is not None:
            return found
        try:
            if isinstance(self.record, Trace):
                ValuesByRerun(self.record, MOST_VALUES).check(subject.call)
            elif isinstance(self.record, Params):
                self.record.check(subject.record)
                if subject.record.tensor.numel <= PICTURE_VALUES:
                    self.load(subject, side, place, new_run=False)
                else:
                    self._loaded[_key(subject), side, place] = _picture_of(self.record, subject)
                return self._loaded[_key(subject), side, place]
            else:
                return NOTHING
        except ValueError as error:
            return Loading(reason=str(error))
        return Loading(can_load=True)

    def load(self, subject: Any, side: str, place: int, *, new_run: bool) -> None:
        """Load all values of a tensor, or note in words why that is refused.

        Args:
            subject: what the row is about.
            side: `"input"` or `"output"`.
            place: which of the tensors on that side.
            new_run: whether the values of a new run are asked for, of whatever weights there are.
        """
        key = _key(subject), side, place
        try:
            values = self._values(subject, side, place, new_run=new_run)
        except RefusedError as error:
            self._loaded[key] = Loading(reason=str(error), offers_new_run=error.offers_new_run)
        except ValueError as error:
            self._loaded[key] = Loading(reason=str(error))
        else:
            self._loaded[key] = Loading(values=values, is_new_run=new_run)

    def _values(self, subject: Any, side: str, place: int, *, new_run: bool) -> Sample:
        if isinstance(self.record, Params):
            values: Sample = self.record.load(subject.record, MOST_VALUES)
            return values
        assert isinstance(self.record, Trace)
        recorded = ValuesByRerun(self.record, MOST_VALUES)
        tensor = TensorOfCall(subject.call, side, place)
        return recorded.of_new_run(tensor) if new_run else recorded.of_recorded_run(tensor)

    def forget_new_runs(self) -> None:
        """Forget the values that are not those of the recorded run."""
        self._loaded = {key: each for key, each in self._loaded.items() if not each.is_new_run}


def _picture_of(params: Params, subject: Any) -> Loading:
    """Return a picture of a large parameter, of which the record keeps the first rows alone."""
    record = subject.record
    try:
        tensor = params.live.unchanged(record)
    except ValueError as error:
        return Loading(reason=str(error))
    picture = parameter_picture(tensor, is_finite=not (record.nan or record.inf))
    return Loading(can_load=True, picture=picture)


def most_loaded(shape: Sequence[int]) -> int:
    """Return how many values of a tensor are loaded: all, or those of the first items that fit."""
    numel, item = prod(shape), prod(shape[1:])
    return numel if numel <= MOST_VALUES else MOST_VALUES // item * item


def _key(subject: Any) -> Any:
    return subject.record.name if hasattr(subject, "record") else subject.call
