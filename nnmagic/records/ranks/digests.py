"""What is equal on two ranks if the tensors are, as numbers that NumPy compares all at once."""

from itertools import chain
from typing import Any

import numpy as np

from nnmagic.records.call_log import TraceLog
from nnmagic.records.tensor import Samples
from nnmagic.records.tensor_log import WIDTH, TensorLog

ODD = np.uint64(0x9E3779B97F4A7C15)
"""An odd number whose powers tell places apart: 2**64 over the golden ratio."""


def tensor_digests(log: TensorLog, *, noted: bool) -> np.ndarray:
    """Return a number for each tensor: of its bytes, or of what is known of it where none is noted.

    What is known are its shape, its dtype, its statistics and the values that are kept.

    Args:
        log: the tensors of a run.
        noted: whether the digests of the bytes that the run noted count.
    """
    noted_digests = np.zeros(len(log), np.int64)
    if noted:
        noted_digests[: len(log.digests)] = log.digests
    found: np.ndarray = noted_digests.view(np.uint64)
    missing = np.flatnonzero(found == 0)
    if len(missing):
        log.column("nan")  # reads what waits on an accelerator
        statistics = np.array(log.statistics).reshape(-1, WIDTH)[missing]
        statistics[np.isnan(statistics)] = np.nan  # of which there are many
        words = (statistics + 0.0).view(np.uint64)  # there is one zero
        kept = [hash(_kept(log.samples[tensor])) for tensor in missing]
        columns = [*words.T, np.array(kept, np.int64).view(np.uint64)]
        found[missing] = _joint(columns)
    metadata = np.array([hash(each[:2]) for each in log.metadata], np.int64).view(np.uint64)
    return _joint([found, metadata[np.array(log.metadata_index, np.int64)]])


def _kept(samples: Samples | bytes | None) -> Any:
    if not isinstance(samples, Samples):
        return samples
    return tuple(each and each.data for each in (samples.leading, samples.spread))


def _joint(columns: list[np.ndarray]) -> np.ndarray:
    """Return a number for each row of several columns."""
    total = np.zeros_like(columns[0])
    for column in columns:
        total = (total ^ column) * ODD
        total ^= total >> np.uint64(29)
    return total


class CallTensors:
    """The tensors of each call, in one column.

    Args:
        tensors: for each call its tensors.
    """

    def __init__(self, tensors: list[tuple[int, ...]]) -> None:
        counts = np.array([len(each) for each in tensors], np.int64)
        self._size = len(tensors)
        self._flat = np.fromiter(chain.from_iterable(tensors), np.int64)
        self._calls = np.flatnonzero(counts)
        self._starts = (np.cumsum(counts) - counts)[self._calls]
        places = np.arange(len(self._flat)) - np.repeat(self._starts, counts[self._calls])
        powers = np.cumprod(np.full(int(places.max(initial=0)) + 1, ODD))
        self._factors = powers[places]

    def digests(self, of_tensors: np.ndarray) -> np.ndarray:
        """Return a number for each call, 0 for one without tensors.

        Args:
            of_tensors: what `tensor_digests` returned.
        """
        found = np.zeros(self._size, np.uint64)
        if len(self._flat):
            terms = of_tensors[self._flat] * self._factors
            found[self._calls] = np.add.reduceat(terms, self._starts)
        return found


class CallDigests:
    """The digests of what the calls of several runs got and returned.

    Columns that several runs share, as those of ranks that ran the same do, are prepared once.

    Args:
        noted: whether the digests of the bytes that the runs noted count.
    """

    def __init__(self, *, noted: bool) -> None:
        self._noted = noted
        self._prepared: dict[int, tuple[Any, CallTensors]] = {}

    def of(self, log: TraceLog) -> tuple[np.ndarray, np.ndarray]:
        """Return a number for what each call got, and one for what it returned."""
        of_tensors = tensor_digests(log.tensors, noted=self._noted)
        return (
            self._tensors_of(log.inputs).digests(of_tensors),
            self._tensors_of(log.outputs).digests(of_tensors),
        )

    def _tensors_of(self, column: list[tuple[int, ...]]) -> CallTensors:
        entry = self._prepared.get(id(column))
        if entry is None:
            entry = self._prepared[id(column)] = column, CallTensors(column)
        return entry[1]
