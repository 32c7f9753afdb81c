"""Networks whose tensors are taken for those of a device, and what waits there to be read."""

import pytest
import torch
from torch import nn


def pending_of(trace):
    """Return what waits on devices to be read."""
    return trace.log.tensors.read_pending.__self__


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 15 * 15, 10),
    ), torch.rand(8, 3, 32, 32)


def attention():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.rand(4, 40, 64)


NETWORKS = pytest.mark.parametrize("make", [convolutions, attention])
