"""Records put together from JSON and named arrays, each field as its type says."""

import math
import types
from array import array
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

import numpy as np

from nnmagic.display.units import Shape
from nnmagic.records.saving.packing import COMPLEX, PAIRS, Column, saved_fields
from nnmagic.records.tensor import NO_VALUES, Sample, Samples
from nnmagic.records.tensor_log import TensorLog

MOST_LEVELS = 64
"""How deeply shapes may be nested."""

LARGEST = 1 << 63
"""The largest number of anything that there may be."""

ODD_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""The floats that JSON has no numbers for, by what stands for them."""


class Unpacker:
    """Puts values together from JSON and arrays, each as the type of its field says.

    Args:
        arrays: the arrays by their names.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def unpack(self, hint: Any, packed: Any, path: str = "", empty: Any = None) -> Any:
        """Return a value.

        Args:
            hint: its type.
            packed: what stands for it in the JSON.
            path: where it is, for the text of an error.
            empty: of a column an empty one of its kind.

        Raises:
            ValueError: if the JSON holds something else.
        """
        kind, arguments = get_origin(hint) or hint, get_args(hint)
        if hint == Shape:
            return _shape(packed, path)
        if kind in (Union, types.UnionType):
            return None if packed is None else self.unpack(arguments[0], packed, path)
        if kind is float:
            return _float(packed, path)
        if kind in (str, int, bool):
            return _expect(kind, packed, path)
        if kind is Column:
            return array(empty.typecode, self._flat(packed, path).tolist())
        if kind is bytearray:
            return bytearray(self._flat(packed, path).tolist())
        if kind is Sample:
            return self._sample(packed, path)
        if kind is TensorLog:
            return self._tensors(packed, path)
        if kind is dict:
            key, item = arguments
            pairs = _expect(list, _expect(dict, packed, path).get(PAIRS), path)
            return {
                self.unpack(key, k, path): self.unpack(item, each, f"{path}.{k}")
                for k, each in pairs
            }
        if kind in (tuple, list, set):
            is_any_length = kind is not tuple or arguments[-1] is Ellipsis
            items = _expect(list, packed, path)
            hints = [arguments[0]] * len(items) if is_any_length else arguments
            found = zip(hints, items, range(len(items)), strict=True)
            return kind([self.unpack(each, item, f"{path}.{i}") for each, item, i in found])
        return kind(**self._fields(kind, packed, path))

    def _fields(self, kind: Any, packed: Any, path: str) -> dict[str, Any]:
        """Return the fields of a record; one that has a default may be missing."""
        hints, found = saved_fields(kind), _expect(dict, packed, path)
        unknown = found.keys() - hints.keys()
        if unknown:
            raise ValueError(f"{path or 'it'} has an unknown field {min(unknown)!r}")
        return {
            name: self.unpack(hints[name].hint, each, f"{path}.{name}", hints[name].empty)
            for name, each in found.items()
        }

    def _flat(self, packed: Any, path: str) -> np.ndarray:
        values = self._array(packed, path)
        if values.ndim > 2:
            raise ValueError(f"{path} is no column")
        return values.ravel()

    def _array(self, packed: Any, path: str) -> np.ndarray:
        name = _expect(str, packed, path)
        if name not in self.arrays:
            raise ValueError(f"{path}: the array {name!r} is missing")
        return self.arrays[name]

    def _sample(self, packed: Any, path: str) -> Sample:
        values = self._array(packed, path)
        if packed.endswith(COMPLEX):
            if values.dtype != np.float64 or values.shape[-1:] != (2,):
                raise ValueError(f"{path} holds no complex values")
            return Sample("Zd", values.shape[:-1], values.tobytes())
        return Sample(values.dtype.char, values.shape, values.tobytes())

    def _tensors(self, packed: Any, path: str) -> TensorLog:
        """Put the log of all tensors together."""
        samples = _expect(list, _expect(dict, packed, path).pop("samples", None), path)
        known = self._fields(TensorLog, packed, path)
        seen = {metadata: i for i, metadata in enumerate(known.get("metadata", ()))}
        log = TensorLog(**known, _metadata_seen=seen)
        log.samples += self.samples(samples, path)
        return log

    def samples(self, packed: list[Any], path: str) -> list[Samples | bytes | None]:
        """Return the values that are kept of each tensor, of some all values as bytes."""
        found: list[Samples | bytes | None] = []
        for number, each in enumerate(packed):
            if each is None:
                found.append(NO_VALUES)
            elif isinstance(each, str):
                found.append(self._sample(each, path).data)
            else:
                found.append(self.unpack(Samples, each, f"{path}.samples.{number}"))
        return found


def _expect(kind: type, packed: Any, path: str) -> Any:
    if type(packed) is not kind:
        raise ValueError(f"{path or 'it'} is no {kind.__name__}")
    if type(packed) is int and abs(packed) > LARGEST:
        raise ValueError(f"{path or 'it'} is too large a number")
    return packed


def _float(packed: Any, path: str) -> float:
    if type(packed) in (float, int):
        return float(packed)
    if packed not in ODD_FLOATS:
        raise ValueError(f"{path} is no float")
    return ODD_FLOATS[packed]


def _shape(packed: Any, path: str, level: int = 0) -> Any:
    """Return a nested shape: sizes, None, tuples and dicts."""
    if level > MOST_LEVELS:
        raise ValueError(f"{path} is nested too deeply")
    if type(packed) is list:
        return tuple(_shape(each, path, level + 1) for each in packed)
    if type(packed) is dict:
        return {key: _shape(each, path, level + 1) for key, each in packed[PAIRS]}
    return None if packed is None else _expect(int, packed, path)
