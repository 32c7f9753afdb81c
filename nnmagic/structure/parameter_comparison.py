"""The parameters of two networks, state dicts, records or files side by side."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nnmagic.display.units import with_article
from nnmagic.records.comparison.alignment import Renaming
from nnmagic.records.comparison.kept_parameters import KeptTensors, compare_kept, kept_tensors
from nnmagic.records.comparison.names import NamePair
from nnmagic.records.comparison.parameter_rows import (
    ComparedParameter,
    TensorDescription,
    compared_parameter,
)
from nnmagic.records.comparison.parameters import ParamsComparison
from nnmagic.records.comparison.sides import side_by_side
from nnmagic.records.params import Params
from nnmagic.records.tensor import LAZY
from nnmagic.structure.named_tensors import (
    NamedTensors,
    tensors_of_mapping,
    tensors_of_network,
)
from nnmagic.structure.parameters import parameter_record
from nnmagic.structure.tensor_files import tensors_of_file
from nnmagic.tensors.differences import difference_of, is_rounded
from nnmagic.tensors.measure import reason_of
from nnmagic.tensors.metadata import is_lazy, metadata_of

Parameters = nn.Module | Mapping[str, Any] | Params | str | os.PathLike[str]
"""What has parameters: a network, a state dict, a record, or the path of a file."""


def compare_parameters(
    mine: Parameters,
    other: Parameters,
    rename: Renaming | None = None,
    *,
    titles: tuple[str, str] = ("", ""),
) -> ParamsComparison:
    """Return the parameters and buffers of two sides side by side, over all of their values.

    Tensors are read one at a time, so that no more memory is taken than one of each side needs. Of
    a `Params` record only the values that it kept are compared.

    Args:
        mine: this side.
        other: the other side.
        rename: what the other side calls this side's parameters, where it has other names.
        titles: what the record calls the two sides; default: class names, and paths.

    Raises:
        OSError: if a file is not there.
        TypeError: if a side has no parameters.
        ValueError: if a file cannot be read, or a pattern of the map.
    """
    left, right = _side(mine, titles[0]), _side(other, titles[1])
    if isinstance(left, NamedTensors) and isinstance(right, NamedTensors):
        return side_by_side(left, right, _exact(left, right), rename)
    return compare_kept(_kept(left, right), _kept(right, left), rename)


def _side(value: Parameters, title: str) -> NamedTensors | KeptTensors:
    name = title or type(value).__name__
    if isinstance(value, nn.Module):
        return tensors_of_network(value, name, name)
    if isinstance(value, Mapping):
        return tensors_of_mapping(value, name, name)
    if isinstance(value, str | os.PathLike):
        found = tensors_of_file(value)
        return kept_tensors(found, os.fspath(value)) if isinstance(found, Params) else found
    if isinstance(value, Params):
        return kept_tensors(value, title)
    raise TypeError(
        f"{with_article(name)} has no parameters; give a network, a state dict, a Params record or "
        f"a path"
    )


def _kept(side: NamedTensors | KeptTensors, record: NamedTensors | KeptTensors) -> KeptTensors:
    """Return what a record would keep of a side.

    Args:
        side: the side.
        record: the other side; if it is the record of a network it has no buffers, and those of
            this side are left out.
    """
    if isinstance(side, KeptTensors):
        return side
    without = {name for name, kind in side.kinds.items() if kind == "buffer"}
    if "tensor" in record.kinds.values():
        without = set()
    note = f"{record.title} is a record of a network, without its buffers: only parameters compared"
    return KeptTensors(
        title=side.title,
        typed=side.typed,
        keys={name: key for name, key in side.keys.items() if name not in without},
        kinds=side.kinds,
        notes=(*side.notes, note) if without else side.notes,
        record=lambda name: parameter_record(side.tensor(name)),
    )


def _exact(mine: NamedTensors, other: NamedTensors) -> Callable[[NamePair, str], ComparedParameter]:
    """Return what compares a pair over all of its values."""

    def row_of(pair: NamePair, kind: str) -> ComparedParameter:
        a, here = _read(mine, pair.name)
        b, there = _read(other, pair.other)
        if a is None or b is None or here is None or there is None or here.shape != there.shape:
            return compared_parameter(pair, kind, here, there, None)
        try:
            difference, rounded = difference_of(a, b), is_rounded(a, b)
        except Exception as error:  # noqa: BLE001 - a tensor may refuse to be read
            return compared_parameter(pair, kind, here, there, None, unknown=reason_of(error))
        return compared_parameter(pair, kind, here, there, difference, rounded=rounded)

    return row_of


def _read(
    side: NamedTensors, name: str | None
) -> tuple[torch.Tensor | None, TensorDescription | None]:
    """Return a tensor and what it is, None where the side lacks it, or it cannot be had."""
    if name is None:
        return None, None
    try:
        tensor = side.tensor(name)
    except Exception as error:  # noqa: BLE001 - a file may be broken anywhere
        return None, TensorDescription(None, None, None, reason_of(error))
    metadata = metadata_of(tensor)
    if is_lazy(tensor):
        dtype = str(tensor.dtype).removeprefix("torch.")
        return None, TensorDescription(None, dtype, None, LAZY)
    return tensor, TensorDescription(metadata.shape, metadata.dtype, metadata.numel)
