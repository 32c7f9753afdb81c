"""The memory of a training step: gradients, the optimizer's state, what backward needs."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from nnmagic.tensors import bytes_of, is_lazy, storage_bytes


class SavedTensors:
    """The storages that a run keeps for its backward, each once.

    Those of the network's parameters and buffers are left out, since they are counted as such.
    """

    def __init__(self, network: nn.Module) -> None:
        self._kept: dict[int, torch.Tensor] = {}
        self._apart = {
            tensor.untyped_storage()._cdata
            for tensor in (*network.parameters(), *network.buffers())
            if not is_lazy(tensor) and tensor.layout is torch.strided
        }
        self._holders: list[list[torch.Tensor]] = []

    @property
    def bytes(self) -> int:
        """How many bytes the storages have."""
        return sum(kept.untyped_storage().nbytes() for kept in self._kept.values())

    def _pack(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()._cdata
            if storage not in self._apart:
                self._kept.setdefault(storage, tensor.detach())  # a storage in use gets no namesake
        holder = [tensor]
        self._holders.append(holder)
        return holder

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take note of what the block saves, and let the graph that it makes go at the end."""
        try:
            hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda holder: holder[0])
            with hooks, _FusedAttention():
                yield
        finally:
            # an operation that saves its own output would be in a cycle that nothing collects
            for holder in self._holders:
                holder.clear()


class _FusedAttention(TorchFunctionMode):
    """Takes the fused attention on the meta device where the CPU takes it, which saves no scores."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            output = _fused(*args, **kwargs)
            if output is not None:
                return output
        return func(*args, **kwargs)


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor | None:
    tensors = query, key, value
    plain = all(each.is_meta and each.dim() == 4 and each.numel() for each in tensors)
    same = len({each.dtype for each in tensors}) == len({each.shape[-1] for each in tensors}) == 1
    if not plain or not same or dropout_p or enable_gqa or not query.is_floating_point():
        return None
    if attn_mask is not None:
        if is_causal or attn_mask.requires_grad or attn_mask.dim() not in (2, 4):
            return None
        if attn_mask.dtype is torch.bool:
            attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, is_causal, attn_mask=attn_mask, scale=scale
    )[0]


OPTIMIZERS = {
    name.lower(): optimizer
    for name, optimizer in vars(torch.optim).items()
    if isinstance(optimizer, type)
    and issubclass(optimizer, torch.optim.Optimizer)
    and optimizer is not torch.optim.Optimizer
}
"""The classes of `torch.optim` by their names in lower case."""


def optimizer_bytes(network: nn.Module, name: str) -> int:
    """Return the bytes of an optimizer's state after its first step on a network's parameters.

    The step is really taken, on the meta device, by parameters of the same forms.

    Args:
        network: whose trainable parameters it is to step.
        name: a class of `torch.optim` in lower case, or `"momentum"`, which is SGD with momentum.

    Raises:
        Exception: whatever the optimizer raises on such parameters.
    """
    forms = Counter(
        (tuple(each.shape), each.dtype)
        for each in network.parameters()
        if each.requires_grad and not is_lazy(each)
    )
    options: dict[str, Any] = {"lr": 1e-3}
    if name == "momentum":
        options["momentum"], name = 0.9, "sgd"
    total = 0
    for (shape, dtype), times in forms.items():
        parameter = nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"))
        parameter.grad = torch.empty_like(parameter)
        optimizer = OPTIMIZERS[name]([parameter], **options)
        optimizer.step()
        state = optimizer.state[parameter].values()
        total += times * sum(bytes_of(each) for each in state if isinstance(each, torch.Tensor))
    return total


def gradient_bytes(network: nn.Module) -> int:
    """Return the bytes of the gradients that a network's trainable parameters get."""
    return sum(bytes_of(p) for p in network.parameters() if p.requires_grad and not is_lazy(p))
