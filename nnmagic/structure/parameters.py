"""The parameters of a network, or the tensors of a state dict, as a record."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from nnmagic.network.layers import layers_by_every_name, named_parameters
from nnmagic.network.weight_axes import weight_axes
from nnmagic.records.params import ParameterRecord, Params
from nnmagic.records.record import VALUES_SHOWN
from nnmagic.records.tensor import LAZY, TensorRecord, tensor_record
from nnmagic.records.weights import named as named_forms
from nnmagic.structure.live_tensors import LiveTensors
from nnmagic.structure.named_tensors import named_in, same_values
from nnmagic.structure.weight_forms import weight_forms
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import bytes_of, is_lazy, metadata_of, storage_bytes
from nnmagic.torch_private import parameters_of


def params(
    module: nn.Module | Mapping[str, Any],
    *,
    values: int = VALUES_SHOWN,
    grad: bool = False,
    title: str = "",
    most: int | None = None,
    at_most: int | None = None,
) -> Params:
    """Return the parameters of a module, or the tensors of a state dict.

    Args:
        module: a module, or a mapping of names to tensors, which may be nested as checkpoints are.
        values: how many leading rows of each to keep, as in `param[:2]`.
        grad: whether to tell the norms of the gradients that they have now.
        title: what the record says it is of; default: the class name.
        most: how many parameters to look at; None is all.
        at_most: how many values of each, spread evenly, to measure; None is all.

    Raises:
        TypeError: if the mapping holds no tensor.
    """
    others: list[str] = []
    named: Sequence[tuple[str, torch.Tensor]]
    keys: list[Hashable]
    if isinstance(module, nn.Module):
        named = list(named_parameters(module, once=False).items())[:most]
        axes = _axes_of(module)
        keys = [id(tensor) for _, tensor in named]
        forms = named_forms(weight_forms(module), type(module).__name__)
    else:
        named = list(named_in(module, others))[:most]
        keys = [same_values(tensor) for _, tensor in named]
        forms, axes = (), {}
        if not named:
            raise TypeError("the mapping holds no tensors")
    return Params(
        title=title or type(module).__name__,
        rows=tuple(_rows(named, keys, axes, values, at_most, grad=grad)),
        noun="parameter" if isinstance(module, nn.Module) else "tensor",
        total_bytes=storage_bytes(tensor for _, tensor in named),
        forms=forms,
        others=tuple(others),
        graded=grad,
        live=LiveTensors(named, partial(parameter_record, rows=values, at_most=at_most)),
    )


def _rows(
    named: Sequence[tuple[str, torch.Tensor]],
    keys: Sequence[Any],
    axes: Mapping[str, tuple[str, ...]],
    values: int,
    at_most: int | None,
    *,
    grad: bool,
) -> Iterator[ParameterRecord]:
    """Yield a row for each name.

    Args:
        named: names and tensors.
        keys: for each of them a key; tensors of one key are one parameter.
        axes: what the axes of each are called, by name, where that is known.
        values: how many leading rows of values to keep.
        at_most: how many values to measure; None is all.
        grad: whether to tell the norms of the gradients.
    """
    keyed = [(key, name, tensor) for key, (name, tensor) in zip(keys, named, strict=True)]
    first = {key: name for key, name, _ in reversed(keyed)}
    total = sum({key: 0 if is_lazy(t) else t.numel() for key, _, t in keyed}.values())
    norms: dict[Any, float | None] = {}
    for key, name, tensor in keyed:
        record = parameter_record(tensor, values, at_most)
        gradient = tensor.grad if grad and (tensor.is_leaf or tensor.retains_grad) else None
        if gradient is not None and key not in norms:
            norms[key] = tensor_record(metadata_of(gradient), *measure(gradient, "none")).norm
        lazy = is_lazy(tensor)
        yield ParameterRecord(
            name=name,
            tensor=record,
            percent=None if lazy else 100 * tensor.numel() / total if total else 0.0,
            bytes=None if lazy else bytes_of(tensor),
            trainable=tensor.requires_grad,
            tied_to=None if first[key] == name else first[key],
            has_grad=gradient is not None if grad else None,
            grad_norm=None if gradient is None else norms[key],
            axes=axes.get(name, ()),
        )


def _axes_of(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return what the axes of a network's parameters are called, by the names of these."""
    found = {}
    for layer, module in layers_by_every_name(network).items():
        for name, parameter in parameters_of(module).items():
            if parameter is not None and not is_lazy(parameter):
                axes = weight_axes(module, name, parameter.dim())
                found[f"{layer}.{name}" if layer else name] = axes
    return found


def parameter_record(
    tensor: torch.Tensor, rows: int = VALUES_SHOWN, at_most: int | None = None
) -> TensorRecord:
    """Return the record of a parameter.

    Args:
        tensor: the parameter.
        rows: how many leading rows of values to keep.
        at_most: how many values, spread evenly, to measure; None is all.
    """
    if is_lazy(tensor):
        device, dtype = str(tensor.device), str(tensor.dtype).removeprefix("torch.")
        return TensorRecord(shape=(), dtype=dtype, device=device, numel=0, unknown=LAZY)
    measured, metadata = measure(tensor, whole_rows=rows, max_values=at_most), metadata_of(tensor)
    subsampled = at_most if at_most is not None and metadata.numel > at_most else None
    return tensor_record(metadata, *measured, subsampled)
