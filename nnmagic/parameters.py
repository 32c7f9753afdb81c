"""The maker of parameter records."""

from collections.abc import Mapping

import torch
from torch import nn

from nnmagic.measuring import measure
from nnmagic.params_records import ParameterRecord, Params
from nnmagic.records import VALUES_SHOWN, TensorRecord
from nnmagic.tensors import bytes_of, form_of, is_lazy, storage_bytes
from nnmagic.trace_log import tensor_record
from nnmagic.weight_records import WeightForm
from nnmagic.weight_records import named as named_forms
from nnmagic.weights import weight_forms


def params(
    module: nn.Module | Mapping[str, torch.Tensor],
    *,
    values: int = VALUES_SHOWN,
    title: str = "",
    most: int | None = None,
    at_most: int | None = None,
) -> Params:
    """Return the parameters of a module, or the tensors of a state dict.

    Args:
        module: a module, or a mapping of names to tensors.
        values: how many leading rows of each to keep, as in `param[:2]`.
        title: what the record says it is of; default: the class name.
        most: how many parameters to look at; None is all.
        at_most: how many values of each, spread evenly, to measure; None is all.

    Raises:
        TypeError: if the mapping holds no tensor.
    """
    forms: tuple[WeightForm, ...] = ()
    named: list[tuple[str, torch.Tensor]]
    if isinstance(module, nn.Module):
        named = list(module.named_parameters(remove_duplicate=False))
        noun = "parameter"
        forms = named_forms(weight_forms(module), type(module).__name__)
    else:
        named = [(str(k), v) for k, v in module.items() if isinstance(v, torch.Tensor)]
        noun = "tensor"
        if not named:
            raise TypeError("the mapping holds no tensors")
    named = named[:most]
    first: dict[int, str] = {}
    for name, tensor in named:
        first.setdefault(id(tensor), name)
    total = sum(t.numel() for n, t in named if first[id(t)] == n and not is_lazy(t))
    rows = []
    for name, tensor in named:
        record = _record(tensor, values, at_most)
        rows.append(
            ParameterRecord(
                name=name,
                tensor=record,
                percent=100 * record.numel / total if total else 0.0,
                bytes=0 if is_lazy(tensor) else bytes_of(tensor),
                trainable=tensor.requires_grad,
                tied_to=None if first[id(tensor)] == name else first[id(tensor)],
            )
        )
    return Params(
        title=title or type(module).__name__,
        rows=tuple(rows),
        noun=noun,
        total_bytes=storage_bytes(tensor for _, tensor in named),
        forms=forms,
    )


def _record(tensor: torch.Tensor, rows: int, at_most: int | None) -> TensorRecord:
    if is_lazy(tensor):
        device, dtype = str(tensor.device), str(tensor.dtype).removeprefix("torch.")
        return TensorRecord(
            shape=(), dtype=dtype, device=device, numel=0, unknown="not initialized yet"
        )
    thinned = at_most is not None and tensor.numel() > at_most
    statistics, samples, unknown = measure(tensor, rows=rows, at_most=at_most)
    form = form_of(tensor)
    return tensor_record(form, statistics, samples, unknown, at_most if thinned else None)
