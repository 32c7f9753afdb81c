"""A device for the tests of tensors where there is none."""

import pytest
import torch

from nnmagic.tensors import devices

READS = ("item", "cpu", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__")
"""The methods of a tensor that give the host its values."""


@pytest.fixture
def on_a_device(monkeypatch):
    """Let the tensors of the CPU be taken for those of a device."""
    monkeypatch.setattr(devices, "on_accelerator", lambda tensor: not tensor.is_meta)
    return monkeypatch


@pytest.fixture
def reads(on_a_device):
    """The reads by the host, as they come."""
    found = []

    def counted(name):
        method = getattr(torch.Tensor, name)

        def read(*args, **kwargs):
            found.append(name)
            return method(*args, **kwargs)

        return read

    for name in READS:
        on_a_device.setattr(torch.Tensor, name, counted(name))
    return found
