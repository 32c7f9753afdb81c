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
