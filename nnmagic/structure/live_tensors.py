"""The tensors behind a record of parameters, held weakly."""

import weakref
from collections.abc import Callable, Iterable

import torch

from nnmagic.records.params import ParameterRecord
from nnmagic.records.tensor import Sample, TensorRecord
from nnmagic.tensors.measure import first_items


class LiveTensors:
    """Gives the values of parameters as they are now, where they still are what was recorded.

    Args:
        named: names and tensors.
        measured: measures one as the record did.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, torch.Tensor]],
        measured: Callable[[torch.Tensor], TensorRecord],
    ) -> None:
        self._tensors = {name: weakref.ref(tensor) for name, tensor in named}
        self._measured = measured

    def tensor(self, record: ParameterRecord) -> torch.Tensor:
        """Return the tensor that a row is of.

        Raises:
            ValueError: if it is gone, or has no values.
        """
        tensor = self._tensors[record.name]()
        if tensor is None:
            raise ValueError(f"{record.name} is gone: what held it was deleted, or holds another")
        if record.tensor.unknown:
            raise ValueError(record.tensor.unknown)
        return tensor

    def unchanged(self, record: ParameterRecord) -> torch.Tensor:
        """Return the tensor that a row is of, which is equal to all that was recorded of it.

        Raises:
            ValueError: if it is gone, has no values, or was changed since.
        """
        tensor = self.tensor(record)
        if self._measured(tensor) != record.tensor:
            raise ValueError(f"{record.name} has changed since; run %nnparams again to see it")
        return tensor

    def values(self, record: ParameterRecord, at_most: int) -> Sample:
        """Return all values of a parameter, of a very large one those of the first items.

        Args:
            record: the row that it has in the record.
            at_most: how many values to return.

        Raises:
            ValueError: if it is gone, was changed since, or cannot be read.
        """
        values = first_items(self.unchanged(record), at_most)
        if values is None:
            raise ValueError(f"no part of {record.name} of at most {at_most:,} values can be read")
        return values
