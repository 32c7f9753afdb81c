"""What a layer expects of a tensor, in words: its axes, its dtype, its device."""

from math import prod
from typing import Any, Protocol

import torch
from torch import nn

from nnmagic.network.failures.earlier_calls import Given, flattened_from
from nnmagic.torch_private import BatchNorm, ConvNd, parameters_of


class Explain(Protocol):
    """Says why a layer, or a loss, refuses what it got, `""` if it should not.

    All have one signature; a loss looks at the arguments by name, a layer at its first tensor.
    """

    def __call__(self, module: Any, got: torch.Tensor, given: Given, /) -> str:
        """Return the explanation, e.g. `"got (1, 20), weight is (512, 784): …"`."""


AXES = ("depth", "height", "width")


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype without its prefix."""
    return str(dtype).removeprefix("torch.")


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return a shape as a plain tuple."""
    return tuple(tensor.shape)


def is_integer(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds integers, bools left out."""
    return tensor.dtype is not torch.bool and not (
        tensor.is_floating_point() or tensor.is_complex()
    )


def axis(got: torch.Tensor, place: int, wanted: int, expects: str, name: str) -> str:
    """Say that one axis has not the wanted size, `""` if it has."""
    if got.dim() == 0:
        return f"got a single number, {expects}: give it an axis, with .reshape(1)"
    if got.dim() < -place:
        return f"got {shape_of(got)}, {expects}: it has no {name}"
    if got.shape[place] == wanted:
        return ""
    return f"got {shape_of(got)}, {expects}: the {name} must be {wanted}, it is {got.shape[place]}"


def or_made_with(text: str, name: str, size: Any) -> str:
    """Add to a text that a size does not fit how the layer would have to be made for it."""
    return f"{text}; make the layer with {name}={size}" if text else ""


def number_of_axes(got: torch.Tensor, spatial: int, expects: str = "") -> str:
    """Say that a picture has too many or too few axes for a batch, and how to add them."""
    axes = ("batch", "channels", *AXES[-spatial:])
    text = f"got {shape_of(got)}{expects}: it takes ({', '.join(axes)}), {len(axes)} axes"
    hints = {
        spatial + 1: "; one item becomes a batch with .unsqueeze(0)",
        spatial: "; one grey picture gets both with [None, None]",
    }
    return f"{text}, it got {got.dim()}{hints.get(got.dim(), '')}"


def home(module: nn.Module, got: torch.Tensor) -> str:
    """Say that a tensor has not the device or dtype of the layer's own parameters."""
    weight = next((p for p in parameters_of(module).values() if p is not None), None)
    if weight is None:
        return ""
    same = weight.dtype == got.dtype or not weight.is_floating_point() or got.is_complex()
    text = elsewhere(weight, got)
    if text or same or torch.is_autocast_enabled(got.device.type):
        return text
    wanted = name_of(weight.dtype)
    picture = " / 255 if it is a picture" if got.dtype is torch.uint8 else ""
    text = f"got {name_of(got.dtype)}, its parameters are {wanted}: convert the input with "
    return f"{text}.to(torch.{wanted}){picture}"


def elsewhere(weight: torch.Tensor, got: torch.Tensor) -> str:
    """Say that a tensor is not on the device of a parameter."""
    text = f"got a tensor on {got.device}, its parameters are on {weight.device}"
    return two_devices(text, weight, "the input", got)


def two_devices(text: str, stays: torch.Tensor, what: str, moves: torch.Tensor) -> str:
    """Return a text about the devices of two tensors and how to move one, `""` if they are one."""
    if stays.device == moves.device:
        return ""
    if stays.is_meta:
        return f"{text}: give it values, .to_empty(device={str(moves.device)!r}) and a state dict"
    if moves.is_meta:
        return f"{text}: {what} has no values, make it on {stays.device}"
    return f"{text}: move {what} with .to({str(stays.device)!r})"


def home_of_layer(module: nn.Module, got: torch.Tensor, given: Given) -> str:
    """Say what `home` says, of a layer of which nothing else is known."""
    return home(module, got)


POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def linear(module: nn.Linear, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the input of a Linear."""
    text = axis(got, -1, module.in_features, f"weight is {shape_of(module.weight)}", "last axis")
    if text and got.dim() > 2 and prod(got.shape[1:]) == module.in_features:
        text += "; flatten the input with .flatten(1)"
    elif text and got.dim() > 2 and got.shape[-2] == module.in_features:
        text += "; the features stand second to last, move them with .mT"
    elif text and got.dim() == 2 and (maps := flattened_from(given.earlier, shape_of(got))):
        text += f"; flattened from {maps}, so resize the pictures, or "
        text += f"make the layer with in_features={got.shape[-1]}"
    elif text and got.dim() > 3:
        flat = f"{text}; flatten the input with .flatten(1)"
        text = or_made_with(flat, "in_features", prod(got.shape[1:]))
    elif text and got.dim():
        text = or_made_with(text, "in_features", got.shape[-1])
    return "; ".join(filter(None, (text, home(module, got))))


def convolution(module: ConvNd, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the input of a convolution."""
    spatial, channels = len(module.kernel_size), module.in_channels
    weight = f"weight is {shape_of(module.weight)}"
    if got.dim() not in (spatial + 1, spatial + 2):
        if got.dim() == 2 and got.shape[1] == channels:  # as the noise of a generator
            ones = ", ".join([":", ":"] + ["None"] * spatial)
            return (
                f"got {shape_of(got)}, {weight}: it takes {spatial + 2} axes, it got 2; "
                f"make each channel a map of one value with [{ones}]"
            )
        return number_of_axes(got, spatial, f", {weight}")
    text = axis(got, -spatial - 1, channels, weight, "channel axis")
    place = got.dim() - spatial - 1
    batch = ["1"] * place
    if text and got.shape[-1] == channels:
        text += f"; the channels stand last, move them with .movedim(-1, {place})"
    elif text and channels == 1 and got.dim() == spatial + 1:
        text += "; a batch without its channel axis gets one with .unsqueeze(1)"
    elif text and channels == 3 and got.shape[-spatial - 1] == 1:
        repeated = ", ".join([*batch, "3"] + ["1"] * spatial)
        text += f"; grey becomes colour with .repeat({repeated})"
    elif text and channels == 1 and got.shape[-spatial - 1] == 3:
        text += f"; colour becomes grey with .mean({place}, keepdim=True)"
    elif text:
        text = or_made_with(text, "in_channels", got.shape[-spatial - 1])
    return "; ".join(filter(None, (text, home(module, got)))) or _kernel(module, got, spatial)


def _kernel(module: ConvNd, got: torch.Tensor, spatial: int) -> str:
    if module.transposed or isinstance(module.padding, str):
        return ""
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    padded = [n + 2 * p for n, p in zip(got.shape[-spatial:], module.padding, strict=True)]
    if all(size >= needed for size, needed in zip(padded, reach, strict=True)):
        return ""
    names = ", ".join(AXES[-spatial:])
    return (
        f"got {shape_of(got)}: the kernel reaches over {tuple(reach)} ({names}), "
        f"the padded input is only {tuple(padded)}; use a larger picture"
    )


def pool(module: Any, got: torch.Tensor, given: Given) -> str:
    """Say that a picture has become too small to pool."""
    spatial = int(type(module).__name__[-2]) if type(module) in POOLS else 2
    if got.dim() not in (spatial + 1, spatial + 2):
        return number_of_axes(got, spatial)
    size, padding = (
        each if isinstance(each, tuple) else (each,) * spatial
        for each in (module.kernel_size, module.padding)
    )
    padded = tuple(n + 2 * p for n, p in zip(got.shape[-spatial:], padding, strict=True))
    if all(n >= k for n, k in zip(padded, size, strict=True)):
        return ""
    return f"got {shape_of(got)}: its window is {size}, larger than that; use a larger picture"


def embedding(module: nn.Embedding | nn.EmbeddingBag, got: torch.Tensor, given: Given) -> str:
    """Say which ids an embedding has no row for."""
    rows = module.num_embeddings
    if got.dtype not in (torch.int64, torch.int32):
        return (
            f"got {name_of(got.dtype)}, it takes the ids of its {rows:,} rows: "
            f"integers, convert them with .long()"
        )
    if got.numel() and not got.is_meta:
        low, high = int(got.min()), int(got.max())
        if low < 0 or high >= rows:
            return f"got ids {low} … {high}, it has rows 0 … {rows - 1}{_ids(got, low, high, rows)}"
    return elsewhere(module.weight, got)


def _ids(got: torch.Tensor, low: int, high: int, rows: int) -> str:
    """Say what to do about ids that an embedding has no row for."""
    if low < 0:
        return ": ids begin with 0, replace the negative ones"
    if got.shape[-1] == high + 1 and bool((got == torch.arange(high + 1, device=got.device)).all()):
        return f": these are positions; shorten the sequence to {rows}, or make more of them"
    return f": make the layer with num_embeddings={high + 1}, or more"


def recurrent(module: nn.RNNBase | nn.RNNCellBase, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the input, or the hidden state, of a recurrent layer."""
    whole = isinstance(module, nn.RNNBase)
    most = 3 if whole else 2
    if got.dim() not in (most - 1, most):
        order = "batch, time" if getattr(module, "batch_first", False) else "time, batch"
        axes = f"{order}, features" if whole else "batch, features"
        step = "; give it one step of the sequence at a time" if got.dim() == 3 else ""
        return f"got {shape_of(got)}: it takes ({axes}), it got {got.dim()} axes{step}"
    text = axis(got, -1, module.input_size, f"input_size is {module.input_size}", "last axis")
    text = or_made_with(text, "input_size", got.shape[-1])
    return text or home(module, got) or _hidden(module, got, given.arguments.get("hx"))


def _hidden(module: nn.RNNBase | nn.RNNCellBase, got: torch.Tensor, state: Any) -> str:
    if state is None:
        return ""
    width = module.hidden_size
    pair = isinstance(module, nn.LSTM | nn.LSTMCell)
    if pair and not isinstance(state, tuple | list):
        return f"got the hidden state {shape_of(state)}: it takes a pair of them, (h, c)"
    if isinstance(module, nn.RNNBase):
        batched = got.dim() == 3
        batch = (got.shape[0 if module.batch_first else 1],) if batched else ()
        layers = module.num_layers * (2 if module.bidirectional else 1)
        wanted = [(layers, *batch, module.proj_size or width), (layers, *batch, width)]
        axes = "layers, batch, features" if batched else "layers, features"
    else:
        wanted = [(*got.shape[:-1], width)] * 2
        axes = "batch, features"
    states = state if isinstance(state, tuple | list) else (state,)
    for each, size in zip(states, wanted, strict=False):
        if shape_of(each) != size:
            return f"got a hidden state {shape_of(each)}: it must be {size}, that is ({axes})"
        text = home(module, each)
        if text:
            return text.replace("the input", "the hidden state")
    return ""


def batch_norm(module: BatchNorm, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the input of a batch norm."""
    spatial = {"BatchNorm2d": 2, "BatchNorm3d": 3}.get(type(module).__name__)
    if spatial is not None and got.dim() == 2:
        return f"got {shape_of(got)}: it takes pictures; nn.BatchNorm1d takes (batch, features)"
    if spatial is not None and got.dim() != spatial + 2:
        return number_of_axes(got, spatial)
    if got.dim() < 2:
        return (
            f"got {shape_of(got)}: it takes (batch, {module.num_features}, …); "
            f"one item becomes a batch with .unsqueeze(0)"
        )
    expects = f"num_features is {module.num_features}"
    text = axis(got, 1, module.num_features, expects, "channel axis")
    text = or_made_with(text, "num_features", got.shape[1])
    if not text and module.training and got.numel() == got.shape[1]:
        return (
            f"got {shape_of(got)}: in train mode it needs more than one value a channel; "
            f"use a larger batch, or net.eval()"
        )
    return text or home(module, got)


def layer_norm(module: nn.LayerNorm, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the input of a layer norm."""
    wanted = tuple(module.normalized_shape)
    if shape_of(got)[-len(wanted) :] == wanted:
        return home(module, got)
    text = f"got {shape_of(got)}: the last axes must be {wanted}"
    if got.dim() > 2 and got.shape[1:2] == wanted:
        return f"{text}; the channels stand second, move them with .movedim(1, -1)"
    return or_made_with(text, "normalized_shape", shape_of(got)[-len(wanted) :])


def group_norm(module: nn.GroupNorm, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the input of a group norm."""
    expects = f"num_channels is {module.num_channels}"
    text = axis(got, 1, module.num_channels, expects, "channel axis")
    return or_made_with(text, "num_channels", got.shape[1:2].numel()) or home(module, got)


def attention(module: nn.MultiheadAttention, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the query, key, value or masks of an attention."""
    query, key, value = (given.tensor(name) for name in ("query", "key", "value"))
    if query is None or key is None or value is None:
        return ""
    widths = module.embed_dim, module.kdim, module.vdim
    names = "query", "key", "value"
    for name, tensor, wanted in zip(names, (query, key, value), widths, strict=True):
        expects = f"embed_dim is {wanted}" if name == "query" else f"the width of its {name}s"
        text = axis(tensor, -1, wanted, expects, "last axis")
        if text:
            made = {"query": "embed_dim", "key": "kdim", "value": "vdim"}[name]
            return or_made_with(text, made, tensor.shape[-1])
    place = 0 if module.batch_first else 1
    if query.dim() == 3 and not query.shape[place] == key.shape[place] == value.shape[place]:
        return (
            f"got query {shape_of(query)}, key {shape_of(key)}, value {shape_of(value)}: "
            f"axis {place} is the batch and must be the same"
        )
    text = masks(module, query, key, given, "attn_mask", "key_padding_mask")
    return text or home(module, query)


def encoder(
    module: nn.TransformerEncoder | nn.TransformerEncoderLayer, got: torch.Tensor, given: Given
) -> str:
    """Say what is wrong with the input or the masks of an encoder, or of one of its layers."""
    whole = isinstance(module, nn.TransformerEncoder)
    layers: Any = module.layers if whole else [module]
    layer = layers[0]
    if not isinstance(getattr(layer, "self_attn", None), nn.MultiheadAttention):
        return ""
    inside, mask = layer.self_attn, "mask" if whole else "src_mask"
    text = axis(got, -1, inside.embed_dim, f"d_model is {inside.embed_dim}", "last axis")
    return (
        or_made_with(text, "d_model", got.shape[-1])
        or masks(inside, got, got, given, mask, "src_key_padding_mask")
        or home(inside, got)
    )


def masks(
    module: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    given: Given,
    mask: str,
    padding: str,
) -> str:
    """Say what is wrong with the masks of an attention.

    Args:
        module: the attention.
        query: what asks.
        key: what is asked.
        given: the arguments of the call.
        mask: the name of the argument that masks pairs of places.
        padding: the name of the argument that masks places.
    """
    batched = query.dim() == 3
    time = 1 if batched and module.batch_first else 0
    length, source = query.shape[time], key.shape[time]
    batch = query.shape[1 - time] if batched else 1
    pairs, places = given.tensor(mask), given.tensor(padding)
    several = (batch * module.num_heads, length, source)
    for name, tensor in ((mask, pairs), (padding, places)):
        if tensor is not None and is_integer(tensor):
            text = f"got {name} {name_of(tensor.dtype)}: it must be bool, true for what is left out"
            return f"{text}; of a tokenizer's mask that is mask == 0"
    if pairs is not None and shape_of(pairs) not in ((length, source), several):
        each = shape_of(pairs) == (batch, length, source)
        repeated = f"; repeat it, .repeat_interleave({module.num_heads}, 0)" if each else ""
        return (
            f"got {mask} {shape_of(pairs)}: it must be {(length, source)} or {several}, "
            f"that is (batch · heads, queries, keys){repeated}"
        )
    wanted = (batch, source) if batched else (source,)
    if places is not None and shape_of(places) != wanted:
        axes = "(batch, keys)" if batched else "(keys,)"
        turned = "; turn it, with .mT" if shape_of(places) == wanted[::-1] else ""
        return f"got {padding} {shape_of(places)}: it must be {wanted}, that is {axes}{turned}"
    return ""


LAYERS: tuple[tuple[Any, Explain], ...] = (
    (nn.Linear, linear),
    (ConvNd, convolution),
    (POOLS, pool),
    ((nn.Embedding, nn.EmbeddingBag), embedding),
    (RECURRENT, recurrent),
    (nn.MultiheadAttention, attention),
    ((nn.TransformerEncoder, nn.TransformerEncoderLayer), encoder),
    ((BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), batch_norm),
    ((nn.LayerNorm, nn.RMSNorm), layer_norm),
    (nn.GroupNorm, group_norm),
)
"""For each kind of layer what explains why it refuses its input."""
