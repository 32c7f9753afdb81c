"""All that a value and a network hold, in a form that can be compared bit by bit."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def bits(tensor):
    """All that can be told of a tensor, with its values as bytes."""
    form = (type(tensor), tensor.dtype, tensor.requires_grad, tensor.layout)
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        return form
    if tensor.is_nested:
        return form, tuple(map(bits, tensor.unbind()))
    if tensor.layout is not torch.strided:
        return form, bits(tensor.to_dense())
    if tensor.is_quantized:
        return form, bits(tensor.int_repr())
    if tensor.is_meta:
        return form, tuple(tensor.shape)
    plain = tensor.detach().as_subclass(torch.Tensor).contiguous().reshape(-1)
    return form, tuple(tensor.shape), plain.view(torch.uint8).numpy().tobytes()


def parts(value):
    """The tensors in a value and the types around them, in order."""
    if isinstance(value, torch.Tensor):
        return [bits(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Mapping):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return [type(value), *((key, *parts(each)) for key, each in value.items())]
    if isinstance(value, tuple | list):
        return [type(value), *(part for each in value for part in parts(each))]
    return [type(value)]


def tensors(value):
    """The tensors in a value, for a backward."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    elif dataclasses.is_dataclass(value):
        value = [getattr(value, each.name) for each in dataclasses.fields(value)]
    if isinstance(value, tuple | list):
        return [tensor for each in value for tensor in tensors(each)]
    return []


def state_of(network):
    """All that a network holds, tensors by their bits."""
    state = {}
    for name, module in network.named_modules():
        held = {
            key: bits(value)
            for registry in (module._parameters, module._buffers)
            for key, value in registry.items()
            if value is not None
        }
        hooks = [len(module.__dict__.get(kind) or ()) for kind in HOOKS]
        kind = type(module).__qualname__  # a class may be made anew with its network
        state[name] = kind, module.training, hooks, sorted(module.__dict__), held
    return state


def identity_of(network):
    """Which objects a network holds, and how long its lists are."""
    return {
        name: {
            key: (id(value), len(value) if isinstance(value, list | dict) else None)
            for key, value in module.__dict__.items()
        }
        | {key: id(value) for key, value in module._parameters.items()}
        | {key: id(value) for key, value in module._buffers.items()}
        for name, module in network.named_modules()
    }


def gradients_of(network):
    return {
        name: None if parameter.grad is None else bits(parameter.grad)
        for name, parameter in network.named_parameters()
    }
