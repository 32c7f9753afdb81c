"""Records taken apart into JSON and named arrays."""

import math
from array import array
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from nnmagic.records.live_fields import LIVE
from nnmagic.records.tensor import NO_VALUES, Sample
from nnmagic.records.tensor_log import WIDTH, TensorLog

COMPLEX = ".complex"
"""Ends the name of an array of complex values, two doubles each along its last axis."""

PAIRS = "pairs"
"""The only key of what stands for a dict, whose keys need not be texts."""


class Packer:
    """Takes values apart into what JSON can hold, and arrays.

    Attributes:
        arrays: the arrays by their names; in the JSON stand the names.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[int, str] = {}

    def pack(self, value: Any, path: str = "") -> Any:
        """Return what JSON can hold in place of a value.

        Args:
            value: the value.
            path: where it is, from which the names of arrays are made.
        """
        if value is None or isinstance(value, str | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, array | bytearray):
            return self._named(path, np.array(value))
        if isinstance(value, Sample):
            return self._sample(value, path)
        if isinstance(value, TensorLog):
            return self._tensors(value, path)
        if isinstance(value, dict):
            items = [[key, self.pack(each, f"{path}.{key}")] for key, each in value.items()]
            return {PAIRS: items}
        if is_dataclass(value) or hasattr(value, "_fields"):  # a named tuple
            before = f"{path}." if path else ""
            kind: Any = type(value)
            names = saved_fields(kind)
            return {name: self.pack(getattr(value, name), before + name) for name in names}
        items = sorted(value) if isinstance(value, set) else value
        return [self.pack(each, f"{path}.{i}") for i, each in enumerate(items)]

    def _named(self, name: str, values: np.ndarray) -> str:
        self.arrays[name] = values
        return name

    def _sample(self, sample: Sample, name: str) -> str:
        if id(sample.data) not in self._names:  # a small tensor's front is all of it
            values = np.frombuffer(sample.data, "d" if sample.format == "Zd" else sample.format)
            shape = (*sample.shape, 2) if sample.format == "Zd" else sample.shape
            name += COMPLEX if sample.format == "Zd" else ""
            self._names[id(sample.data)] = self._named(name, values.reshape(shape))
        return self._names[id(sample.data)]

    def _tensors(self, log: TensorLog, path: str) -> dict[str, Any]:
        """Take the log of all tensors apart; the arrays of each are named by its number."""
        before = path.removeprefix("log.").removesuffix("s")  # a trace has one log of tensors
        samples = []
        for number, held in enumerate(log.samples):
            each: Any = log.samples_of(number)
            if isinstance(held, bytes):
                each = log.whole_of(number, held)
            samples.append(None if each == NO_VALUES else self.pack(each, f"{before}.{number}"))
        names = [name for name in saved_fields(TensorLog) if name != "samples"]
        packed = {name: self.pack(getattr(log, name), f"{before}.{name}") for name in names}
        self.arrays[packed["statistics"]].shape = -1, WIDTH  # a row a tensor
        return packed | {"samples": samples}


class SavedField(NamedTuple):
    """The declared type of a field, and of a column an empty one."""

    hint: Any
    empty: Any


class Column:
    """Stands for `array.array` in type hints, which takes no subscript in Python 3.11."""

    def __class_getitem__(cls, of: type) -> type["Column"]:
        return cls


@cache
def saved_fields(kind: Any) -> dict[str, SavedField]:
    """Return the fields of a record that are saved, by name: all that are not live."""
    hints = get_type_hints(kind, localns={"array": Column})
    if not is_dataclass(kind):
        return {name: SavedField(hints[name], None) for name in kind._fields}
    found = {}
    for field in fields(kind):
        if field.metadata != LIVE:
            make: Any = field.default_factory
            empty = make() if hints[field.name] is Column else None
            found[field.name] = SavedField(hints[field.name], empty)
    return found
