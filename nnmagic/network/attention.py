"""What a call attends by: its queries, keys and mask, of the first item of the batch."""

from collections.abc import Sequence
from inspect import signature
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from nnmagic.network.layers import layers_of, named_parameters
from nnmagic.tensors.attention import Attended
from nnmagic.tensors.device_measure import is_dense
from nnmagic.tensors.shards import PLAIN, is_whole

MASKS = ("attn_mask", "src_mask")
"""The arguments that say which keys a query sees: for all items, or for each item and head."""

PADDING_MASKS = ("key_padding_mask", "src_key_padding_mask")
"""The arguments that say which keys of each item are padding."""

FORWARDS = (nn.MultiheadAttention.forward, nn.TransformerEncoderLayer.forward)
"""The forwards that attend as torch's documentation says."""


def foreign_class_in(layer: nn.Module) -> str:
    """Return the class of a layer, or of one inside it, whose forward is not torch's own.

    To run such a layer once more is to run the user's code. `""` stands for none.
    """
    for each in layers_of(layer).values():
        forward = None if "forward" in vars(each) else getattr(type(each), "forward", None)
        is_known = forward in FORWARDS if each is layer else _is_of_torch(forward)
        if not is_known:
            return type(each).__name__
    return ""


def _is_of_torch(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "").startswith("torch.")


def attended_by_function(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attended | None:
    """Return what a call of `torch.nn.functional.scaled_dot_product_attention` attends by.

    None where a part of that is elsewhere.
    """
    if not all(map(is_whole, (query, key, attn_mask))):
        return None
    return Attended(
        query=_first(query),
        key=_first(key),
        mask=None if attn_mask is None else _first(attn_mask),
        is_causal=is_causal,
        scale=scale,
        items=query.shape[:-3].numel(),
        dropout=dropout_p,
    )


def _first(values: torch.Tensor) -> torch.Tensor:
    """Return the first item, its last three axes, the first of which may be missing."""
    while values.ndim > 3:
        values = values[0]
    return values if values.ndim == 3 else values[None]


def attended_by_layer(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Attended | None:
    """Return what a call of a layer of torch's own attends by; None of any other layer.

    That is a `MultiheadAttention`, or a `TransformerEncoderLayer` on its fused path, on which it
    calls none. None too where a part of what it gets, or of its weights, is elsewhere.
    """
    if not all(map(is_whole, chain(args, kwargs.values(), named_parameters(layer).values()))):
        return None
    forward = getattr(type(layer), "forward", None)
    if isinstance(layer, nn.MultiheadAttention) and forward is nn.MultiheadAttention.forward:
        given = signature(forward).bind(layer, *args, **kwargs).arguments
        query, items = _first_item(given["query"], layer)
        key, _ = _first_item(given["key"], layer)
        layer_masks = given.get("attn_mask"), given.get("key_padding_mask")
        return _attended(layer, query, key, layer_masks, items)
    if isinstance(layer, nn.TransformerEncoderLayer):
        if forward is not nn.TransformerEncoderLayer.forward:
            return None
        given = signature(forward).bind(layer, *args, **kwargs).arguments
        source, items = _first_item(given["src"], layer.self_attn)
        if layer.norm_first:
            source = type(layer.norm1).forward(layer.norm1, source)
        # the fused operation reads a mask of numbers as one of booleans
        given_masks = given.get("src_mask"), given.get("src_key_padding_mask")
        masks = tuple(None if mask is None else mask != 0 for mask in given_masks)
        return _attended(layer.self_attn, source, source, masks, items)
    return None


def _first_item(values: torch.Tensor, layer: nn.MultiheadAttention) -> tuple[torch.Tensor, int]:
    """Return the first item of a batch, (positions, features), and how many items it has."""
    if values.is_nested:
        parts = values.unbind()
        return parts[0], len(parts)
    if values.ndim == 2:
        return values, 1
    axis = 0 if layer.batch_first else 1
    return values.select(axis, 0), values.shape[axis]


def _attended(
    layer: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    masks: Sequence[torch.Tensor | None],
    items: int,
) -> Attended:
    """Return what an item attends by, given its queries and keys before they are projected.

    Args:
        layer: projects them.
        query: (queries, features).
        key: (keys, features).
        masks: the mask of queries and keys, and that of the keys that are padding.
        items: how many items the batch has.
    """
    heads, (of_pairs, of_keys) = layer.num_heads, masks
    if layer.in_proj_weight is None:
        query_weight, key_weight = layer.q_proj_weight, layer.k_proj_weight
    else:
        query_weight, key_weight, _ = layer.in_proj_weight.chunk(3)
    biases = (None, None) if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)[:2]
    query, key = query.to(query_weight.dtype), key.to(key_weight.dtype)  # autocast has its own
    queries, keys = F.linear(query, query_weight, biases[0]), F.linear(key, key_weight, biases[1])
    mask = None
    if of_pairs is not None:
        mask = _added(of_pairs, queries)
        mask = mask[:heads] if mask.ndim == 3 else mask[None]
    if of_keys is not None:
        padding = _added(of_keys if of_keys.ndim == 1 else of_keys[0], queries)[None, None]
        mask = padding if mask is None else mask + padding
    if layer.bias_k is not None:
        keys = torch.cat([keys, layer.bias_k[0]])
    if layer.add_zero_attn:
        keys = torch.cat([keys, torch.zeros_like(keys[:1])])
    if mask is not None:
        mask = F.pad(mask, (0, len(keys) - len(key)))
    return Attended(
        query=_in_heads(queries, heads),
        key=_in_heads(keys, heads),
        mask=mask,
        items=items,
        dropout=layer.dropout if layer.training else 0.0,
    )


def _added(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a mask as what is added to the logits; here, True is where nobody looks."""
    if mask.dtype is not torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device, dtype=like.dtype).masked_fill_(
        mask, -torch.inf
    )


def _in_heads(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Return (positions, features) as (heads, positions, features of a head)."""
    return values.unflatten(-1, (heads, -1)).transpose(0, 1)


class ItemOfCall(NamedTuple):
    """The first item of what a layer got that attends.

    Attributes:
        arguments: views of the tensors by the names that the layer's forward gives them, as of a
            batch of one item; one view for a tensor that is given twice.
        items: how many items the batch has.
        axis: the axis of the batch in what the layer returns; None where there is none.
        logits: how many logits the item has in all heads.
    """

    arguments: dict[str, torch.Tensor]
    items: int
    axis: int | None
    logits: int


def first_item_of_call(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ItemOfCall | None:
    """Return the first item of what a layer of torch's own got, which attends.

    None of any other layer, and of tensors that are neither dense nor nested, or not plain ones.
    """
    is_encoder = isinstance(layer, nn.TransformerEncoderLayer)
    forward = nn.TransformerEncoderLayer.forward if is_encoder else nn.MultiheadAttention.forward
    attention: Any = layer.self_attn if is_encoder else layer
    if type(layer).forward is not forward or not isinstance(attention, nn.MultiheadAttention):
        return None
    given = signature(forward).bind(layer, *args, **kwargs).arguments
    tensors = {name: each for name, each in given.items() if issubclass(type(each), torch.Tensor)}
    if not all(type(each) in PLAIN and _has_items(each) for each in tensors.values()):
        return None
    query, key = (tensors["src"],) * 2 if is_encoder else (tensors["query"], tensors["key"])
    axis = None if query.ndim == 2 else 0 if attention.batch_first else 1
    views: dict[int, torch.Tensor] = {}
    for name, each in tensors.items():
        if name in MASKS:
            views[id(each)] = each[: attention.num_heads] if each.ndim == 3 else each
        else:
            of_padding = axis is not None and name in PADDING_MASKS
            views[id(each)] = batch_of_one(each, 0 if of_padding else axis)
    positions = [views[id(each)].shape[1 if axis == 0 else 0] for each in (query, key)]
    return ItemOfCall(
        arguments={name: views[id(each)] for name, each in tensors.items()},
        items=1 if axis is None else query.size(axis),
        axis=axis,
        logits=attention.num_heads * prod(positions),
    )


def _has_items(tensor: torch.Tensor) -> bool:
    return is_dense(tensor) or (tensor.is_nested and tensor.layout is torch.strided)


def batch_of_one(values: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Return the first item along an axis, without a copy; the tensor where it has no batch."""
    if axis is None:
        return values
    return values.unbind()[0][None] if values.is_nested else values.narrow(axis, 0, 1)
