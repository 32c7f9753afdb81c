"""A network around one linear layer, for four items of eight features."""

from corpus.case import Net
from torch import nn


def linear(run, **others):
    return Net(run, fc=nn.Linear(8, 3), **others)


PRODUCT = 2 * 4 * 8 * 3
"""The operations of the Linear on (4, 8)."""
