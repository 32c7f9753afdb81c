"""What stands where a tensor belongs, and what to type to get the tensor."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from nnmagic.display.units import layer_with_type, printable, shape, with_article
from nnmagic.network.calls import RunningCall
from nnmagic.network.failures.earlier_calls import EarlierCall, producer_of
from nnmagic.network.nested_values import tensors_in

RETURNS: tuple[tuple[str, str, str], ...] = (
    ("LSTM", "(output, (h, c))", "output, (h, c) = lstm(x)"),
    ("GRU", "(output, h)", "output, h = gru(x)"),
    ("RNN", "(output, h)", "output, h = rnn(x)"),
    ("LSTMCell", "(h, c)", "h, c = cell(x)"),
    ("MultiheadAttention", "(output, weights)", "output, weights = attention(q, k, v)"),
)
"""The layers of torch that return several tensors, what those are, and how they are unpacked."""

FUNCTIONS = {name.replace("_", ""): name for name in dir(F) if name.strip("_") == name}
"""The functions of `torch.nn.functional` by the lowered names of the layers that apply them."""

SHOWN = 4
"""How many parts of a container are listed."""


def in_place_of_tensor(
    value: Any, call: RunningCall[Any], earlier: Sequence[EarlierCall] = ()
) -> str:
    """Say what a layer got in place of a tensor, and how to get the tensor.

    Args:
        value: what it got.
        call: the call of the layer.
        earlier: the calls that returned before it, the latest first.
    """
    if value is None:
        return _nothing(call, earlier)
    if isinstance(value, nn.Module):
        return _a_layer(value)
    if isinstance(value, type):
        return f"got the class {value.__name__}: make one of it first, {value.__name__}(…)"
    if isinstance(value, PackedSequence):
        return (
            "got a PackedSequence: unpack it with h, lengths = "
            "nn.utils.rnn.pad_packed_sequence(h, batch_first=True)"
        )
    nested, tensors = tensors_in(value)
    if tensors and isinstance(value, Mapping):
        return _a_mapping(value, nested, call, earlier)
    if tensors and isinstance(value, tuple | list):
        return _several(value, nested, tensors, call, earlier)
    return _converted(value, call)


def _nothing(call: RunningCall[Any], earlier: Sequence[EarlierCall]) -> str:
    before = next((each for each in earlier if each.depth == call.depth), None)
    if before is not None and before.output_shape is None:
        return f"got None, which {_named(before)} returned: end its forward with a return"
    return "got None: what made it returned nothing; does its function end with a return?"


def _a_layer(layer: nn.Module) -> str:
    kind = type(layer)
    if not kind.__module__.startswith("torch.nn."):
        return f"got {with_article(kind.__name__)}, which is a layer: call it, layer(h)"
    return f"got {with_article(kind.__name__)}: {makes_a_layer(kind)}"


def makes_a_layer(kind: type[nn.Module]) -> str:
    """Say that calling the class of a layer makes one, and how one is applied."""
    name = kind.__name__
    if not kind.__module__.startswith("torch.nn."):
        return f"{name}(h) makes a layer; make it in __init__ and call that"
    function = FUNCTIONS.get(name.lower()) or FUNCTIONS.get(name.lower().removesuffix("loss"))
    applied = f"F.{function}(…) or " if function else ""
    return f"nn.{name}(…) makes a layer; {applied}nn.{name}()(…) applies one"


def _a_mapping(
    value: Mapping[Any, Any],
    nested: Any,
    call: RunningCall[Any],
    earlier: Sequence[EarlierCall],
) -> str:
    producer = producer_of(nested, earlier)
    kind = with_article(type(value).__name__)
    listed = _listed(f"{printable(str(key))} {shape(each)}" for key, each in nested.items())
    if producer is not None:
        taken = f"pass one of them, as in h[{next(iter(nested))!r}]"
        return f"got what {_named(producer)} returned, {kind} with {listed}: {taken}"
    taker = _first_to_get(value, call)
    if set(names_of(taker.module)) & set(value):
        name = called_as(taker)
        return f"got {kind} with {listed}: pass its items by name, {name}(**batch)"
    return f"got {kind} with {listed}: pass one of them, as in batch[{next(iter(nested))!r}]"


def names_of(module: nn.Module) -> list[str]:
    """Return the names of the parameters of a layer's forward."""
    try:
        return list(signature(module.forward).parameters)
    except (TypeError, ValueError):
        return []


def is_unspread(call: RunningCall[Any]) -> bool:
    """Tell whether a mapping stands for the very argument that it has an item for.

    So `bert(batch)` does, in place of `bert(**batch)`, whatever fails inside.
    """
    first = names_of(call.module)[:1]
    only = call.args[0] if len(call.args) == 1 and not call.kwargs else None
    return isinstance(only, Mapping) and bool(first) and first[0] in only


def called_as(call: RunningCall[Any]) -> str:
    """Return what the code that is to type calls the layer of a call: `net`, `bert`."""
    label = call.network.label
    is_bound = label.isidentifier() and label != type(call.module).__name__
    return label if is_bound and not call.layer else "net"


def _first_to_get(value: Any, call: RunningCall[Any]) -> RunningCall[Any]:
    """Return the outermost of the calls in progress that got this very object."""
    found, parent = call, call.parent
    while parent is not None:
        if any(each is value for each in (*parent.args, *parent.kwargs.values())):
            found = parent
        parent = parent.parent
    return found


def _several(
    value: Sequence[Any],
    nested: Any,
    tensors: Sequence[torch.Tensor],
    call: RunningCall[Any],
    earlier: Sequence[EarlierCall],
) -> str:
    kind = type(value).__name__
    producer = producer_of(nested, earlier)
    if producer is not None:
        return _returned(value, nested, producer, call)
    fields = getattr(value, "_fields", ())
    if isinstance(value, tuple) and len(value) == 1:
        return (
            f"got a tuple with one tensor, {nested[0]}: a comma at the end of a line makes one; "
            f"take the comma away, or pass the first, h[0]"
        )
    listed = _listed(str(tuple(each.shape)) for each in tensors)
    text = f"got {with_article(kind)} of tensors, {listed}"
    if fields:
        return f"{text}: pass one of them, as in h.{fields[0]}"
    if len(tensors) > 2 and len({each.shape for each in tensors}) == 1:
        return f"{text}: make one tensor of them with torch.stack"
    name = called_as(_first_to_get(value, call))
    return f"{text}: a DataLoader's batch? type {name}(batch[0])"


def _returned(
    value: Sequence[Any], nested: Any, producer: EarlierCall, call: RunningCall[Any]
) -> str:
    known = next((each for each in RETURNS if each[0] == producer.type), None)
    fields = getattr(value, "_fields", ())
    what = known[1] if known else f"{with_article(type(value).__name__)} {shape(nested)}"
    taken = known[2] if known else f"h.{fields[0]}" if fields else "h[0]"
    text = f"got what {_named(producer)} returned, {what}"
    if call.parent is not None and type(call.parent.module) is nn.Sequential:
        return f"{text}: a Sequential passes on all of it; write a forward, with {taken}"
    first, wanted = value[0], getattr(call.module, "in_features", None)
    if isinstance(first, torch.Tensor) and wanted not in (None, *first.shape[-1:]):
        size = first.shape[-1]
        taken += f"; its last axis is {size}, so make the layer with in_features={size}"
    return f"{text}: pass the first, {taken}"


def _converted(value: Any, call: RunningCall[Any]) -> str:
    """Say how something that holds numbers becomes a tensor."""
    kind = with_article(type(value).__name__)
    takes_ids = isinstance(call.module, nn.Embedding) or type(call.module).__name__.endswith("Loss")
    to_dtype = "" if takes_ids else ".float()"
    if isinstance(value, np.ndarray | np.generic):
        plain = "" if value.dtype == np.float32 else to_dtype
        return f"got a NumPy array {value.shape} {value.dtype}: type torch.from_numpy(x){plain}"
    if hasattr(value, "__array_interface__") and hasattr(value, "size"):
        return (
            f"got {kind}, a picture of {value.size}: make a batch of it with "
            f"torchvision.transforms.functional.to_tensor(picture)[None]"
        )
    if hasattr(value, "to_numpy"):
        return f"got {kind} {value.shape}: type torch.tensor(x.to_numpy()){to_dtype}"
    if isinstance(value, str) or (_is_list(value) and isinstance(value[0], str)):
        return f"got {kind} of text: make ids of it, tokenizer(text, return_tensors='pt')"
    if isinstance(value, bool | int | float | complex) or _is_list(value):
        of = " of numbers" if _is_list(value) else ""
        while _is_list(value):
            value = value[0]
        return f"got {kind}{of}: type torch.tensor(x){'' if isinstance(value, float) else to_dtype}"
    if callable(value) and not isinstance(value, ModuleType) and hasattr(value, "__name__"):
        return f"got the function {value.__name__}, not what it returns: call it, with brackets"
    if isinstance(value, Iterable):
        return f"got {kind}: take its batches one at a time, for x, y in loader: net(x)"
    held = tensors_in(getattr(value, "__dict__", None))[0]
    if isinstance(held, dict):
        listed = _listed(f"{name} {shape(each)}" for name, each in held.items())
        return f"got {kind} with {listed}: pass its tensors, as in batch.{next(iter(held))}"
    return f"got {kind}: it takes a tensor"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


def _named(call: EarlierCall) -> str:
    """Return a call as a sentence names it: `lstm (LSTM)`, or `LSTM` where it has no own name."""
    name = call.layer or call.network
    return call.type if name[0].isdecimal() else layer_with_type(name, call.type)


def _listed(parts: Iterable[str]) -> str:
    parts = list(parts)
    more = f", and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more
