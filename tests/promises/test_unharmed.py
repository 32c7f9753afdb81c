"""Nothing of the user's is damaged, and nothing is asked through a name that the user took."""

import pytest
import torch
from torch import nn

import nnmagic

NAMES = """
    modules named_modules parameters named_parameters buffers named_buffers children named_children
    train eval state_dict apply get_submodule get_parameter zero_grad requires_grad_ to type float
    half cpu cuda add_module register_buffer register_parameter extra_repr share_memory
"""
"""Methods of `nn.Module`."""

METHODS = NAMES.split()


class Convolutions(nn.Module):
    """Three layers, and attributes by names that `nn.Module` uses for its methods."""

    def __init__(self, names):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Sequential(nn.ReLU())
        for module in (self, self.norm, self.inner):
            vars(module).update((name, [nn.Conv2d(1, 4, 3)]) for name in names)

    def forward(self, x):
        return self.inner(self.norm(self.conv(x)))


@pytest.mark.parametrize("names", [*([name] for name in METHODS), METHODS])
def test_a_name_of_a_method_may_be_an_attribute(names):
    plain, net, x = Convolutions([]), Convolutions(names), torch.rand(2, 1, 8, 8)

    for record in (nnmagic.summary, nnmagic.trace):
        for args in ((x,), ()):
            rows, expected = record(net, *args).to_frame(), record(plain, *args).to_frame()
            for column in ("layer", "type", "input_shape", "output_shape"):
                assert list(rows[column]) == list(expected[column])
    assert list(nnmagic.params(net).to_frame().name) == [n for n, _ in plain.named_parameters()]
    assert all(vars(module)[name] for module in (net, net.norm, net.inner) for name in names)
    assert net.training
    assert net.norm.training
