"""Layers in whose calls code of the user's runs, or that hold parameters in odd ways."""

import torch
from torch import nn


class Own(nn.ReLU):
    """A layer of the user's."""

    def forward(self, x):
        return super().forward(x)


def hooked():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda *_: None)
    return layer


def hooked_before():
    layer = nn.ReLU()
    layer.register_forward_pre_hook(lambda *_: None)
    return layer


def replaced():
    layer = nn.ReLU()
    layer.forward = lambda x: x[:1]
    return layer


class Owning(nn.Module):
    """Holds a parameter of its own, a tied weight, and a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.unused = nn.Linear(3, 3)

    def forward(self, ids):
        return self.head(self.embedding(ids)) * self.scale[0]


class Scaled(torch.Tensor):
    """Keeps its values as int8 and a scale for each row, and claims to be float32."""

    @staticmethod
    def __new__(cls, codes, scale):
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes, scale):
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self):
        return ["codes", "scale"], None

    @staticmethod
    def __tensor_unflatten__(parts, context, size, stride):
        return Scaled(parts["codes"], parts["scale"])

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return cls(args[0].codes, args[0].scale)

        def plain(value):
            return value.codes * value.scale if isinstance(value, cls) else value

        return function(*map(plain, args), **(kwargs or {}))


def scaled(rows, columns):
    return Scaled(torch.ones(rows, columns, dtype=torch.int8), torch.ones(rows, 1))
