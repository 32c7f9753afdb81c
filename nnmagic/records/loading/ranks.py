"""The files of many ranks: what their runs have in common is put together, and kept, once."""

import json
import os
import re
from array import array
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nnmagic.records.call_log import TraceLog
from nnmagic.records.held_tensor import HeldTensor
from nnmagic.records.loading.checks import check_held
from nnmagic.records.loading.reading import Saved, read, record_of, refusal
from nnmagic.records.loading.unpacking import Unpacker
from nnmagic.records.tensor import NO_VALUES
from nnmagic.records.trace import Trace

OF_ONE_RANK = re.compile(r',"rank":(\d+|null),"world_size":(\d+|null),')
"""Where the JSON of a run has what differs from rank to rank."""

HELD = ("held_before", "held")

NUMBERS = ("tensor.statistics", "tensor.digests", "log.measures.value")
"""The arrays that differ from rank to rank, besides the values of the tensors."""

VALUES = re.compile(r"tensor\.\d")

MOST_BYTES = 1 << 27
"""So many bytes of the values of tensors are kept; of further ranks none are."""


class Common(NamedTuple):
    """What the runs of several ranks have in common.

    Attributes:
        before: the JSON up to what differs.
        arrays: the arrays that are equal on all.
        shapes: the shapes and dtypes of those that are not.
        samples: the JSON of the values that are kept.
        log: the run of one of them.
    """

    before: str
    arrays: dict[str, np.ndarray]
    shapes: dict[str, tuple[Any, ...]]
    samples: list[Any]
    log: TraceLog

    def is_of(self, before: str, arrays: dict[str, np.ndarray]) -> bool:
        """Tell whether the run of another rank has all this in common with them."""
        return (
            before == self.before
            and _shapes(arrays) == self.shapes
            and _shared(arrays).keys() == self.arrays.keys()
            and all(np.array_equal(each, arrays[name]) for name, each in self.arrays.items())
        )


class RankReader:
    """Reads the traces of several ranks.

    Attributes:
        notes: lines on what is not kept of them.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._common: list[Common] = []
        self._held: dict[str, dict[str, list[HeldTensor]]] = {}
        self._bytes = 0
        self._without_values = 0

    def trace(self, path: str | os.PathLike[str]) -> Trace:
        """Return the trace in a file.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is not as nnmagic wrote it, or holds another record.
        """
        try:
            saved = read(path)
            self._bytes += sum(
                each.nbytes for name, each in saved.arrays.items() if VALUES.match(name)
            )
            trace = self._of_known(saved) or self._new(saved)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - a hostile file may break any step of it
            raise refusal(path, error) from None
        return trace if self._bytes <= MOST_BYTES else self._without(trace)

    def _new(self, saved: Saved) -> Trace:
        """Return the trace of a file, and keep what further ranks may have in common with it."""
        trace = record_of(saved)
        if not isinstance(trace, Trace):
            raise ValueError(f"it holds a {saved.kind}, no Trace")
        mark = _mark_of(saved.content)
        if mark is not None and saved.kind == Trace.__name__:
            samples = json.loads(saved.content)["log"]["tensors"]["samples"]
            shared, shapes = _shared(saved.arrays), _shapes(saved.arrays)
            before = saved.content[: mark.start()]
            self._common.append(Common(before, shared, shapes, samples, trace.log))
        return trace

    def _of_known(self, saved: Saved) -> Trace | None:
        """Return the trace of a file that has most in common with one before; None if it has not.

        Raises:
            ValueError: if it does not hang together.
        """
        mark = _mark_of(saved.content)
        if mark is None or saved.kind != Trace.__name__:
            return None
        before = saved.content[: mark.start()]
        common = next((each for each in self._common if each.is_of(before, saved.arrays)), None)
        if common is None:
            return None
        held = self._held_of(saved.content[mark.end() :])
        rank, size = (None if each == "null" else int(each) for each in mark.groups())
        log = replace(
            common.log,
            rank=rank,
            world_size=size,
            held_before=held["held_before"],
            held=held["held"],
            tensors=self._tensors(common, saved),
            measures=replace(
                common.log.measures,
                value=_column("d", saved.arrays["log.measures.value"]),
            ),
        )
        check_held(log)
        return Trace(log=log)

    def _held_of(self, end: str) -> dict[str, list[HeldTensor]]:
        """Return what a rank held, from the end of the JSON; that of many ranks is the same."""
        if end not in self._held:
            packed = json.loads('{"log":{' + end)["log"]
            read_held = Unpacker({}).unpack
            self._held[end] = {
                name: read_held(list[HeldTensor], packed[name], name) for name in HELD
            }
        return self._held[end]

    def _tensors(self, common: Common, saved: Saved) -> Any:
        """Return the tensors of a rank; what is equal to those before is shared."""
        known, arrays = common.log.tensors, saved.arrays
        statistics = _column("d", arrays["tensor.statistics"])
        if statistics.tobytes() == known.statistics.tobytes():
            statistics = known.statistics
        samples = known.samples
        if any(common.samples):
            samples = Unpacker(arrays).samples(common.samples, "tensor")
        digests = _column("q", arrays["tensor.digests"])
        return replace(known, statistics=statistics, digests=digests, samples=samples)

    def _without(self, trace: Trace) -> Trace:
        """Return a trace without the values of its tensors, and say so."""
        self._without_values += 1
        self.notes[:] = [f"of the last {self._without_values:,} ranks no values are kept"]
        tensors = replace(trace.log.tensors, samples=[NO_VALUES] * len(trace.log.tensors))
        return replace(trace, log=replace(trace.log, tensors=tensors))


def _mark_of(content: str) -> re.Match[str] | None:
    """Return where the JSON of a trace has what differs from rank to rank; None of other JSON."""
    return OF_ONE_RANK.match(content, max(0, content.rfind(',"rank":')))


def _shared(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: each
        for name, each in arrays.items()
        if name not in NUMBERS and not VALUES.match(name)
    }


def _shapes(arrays: dict[str, np.ndarray]) -> dict[str, tuple[Any, ...]]:
    return {name: (each.shape, each.dtype.str) for name, each in arrays.items() if name in NUMBERS}


def _column(code: str, values: np.ndarray) -> Any:
    """Return an array as a column, without a number in Python for each value."""
    column = array(code)
    column.frombytes(np.require(values, requirements="C").tobytes())
    return column
