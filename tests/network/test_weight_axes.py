import pytest
import torch
from torch import nn

import nnmagic


class Gated(nn.Linear):
    """A Linear with parameters of its own, which are no weights of a Linear."""

    def __init__(self):
        super().__init__(3, 4)
        self.gate = nn.Parameter(torch.rand(3, 3))
        self.table = nn.Parameter(torch.rand(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("layer", "axes"),
    [
        (nn.Linear(2, 3), ["out in", "out"]),
        (nn.Conv1d(2, 3, 3), ["out in k", "out"]),
        (nn.Conv2d(2, 3, 3), ["out in kh kw", "out"]),
        (nn.Conv3d(2, 3, 3), ["out in kd kh kw", "out"]),
        (nn.ConvTranspose1d(2, 3, 3), ["in out k", "out"]),
        (nn.ConvTranspose2d(4, 6, 3), ["in out kh kw", "out"]),
        (nn.ConvTranspose3d(4, 6, 3), ["in out kd kh kw", "out"]),
        (nn.Embedding(5, 2), ["id feature"]),
        (nn.BatchNorm2d(3), ["channel", "channel"]),
        (nn.GroupNorm(1, 3), ["channel", "channel"]),
        (nn.LayerNorm(3), ["feature", "feature"]),
        (nn.LayerNorm((2, 3)), ["axis 0 axis 1"] * 2),
        (nn.GRU(2, 3), ["gate × feature in"] * 2 + ["gate × feature"] * 2),
        (nn.RNNCell(2, 3), ["feature in"] * 2 + ["feature"] * 2),
        (nn.MultiheadAttention(4, 2), ["out in", "out", "out in", "out"]),
        (Gated(), ["out in", "out", "axis 0 axis 1", "axis 0 axis 1 axis 2 axis 3"]),
        (nn.ParameterList([torch.rand(2, 3, 4, 5)]), ["axis 0 axis 1 axis 2 axis 3"]),
    ],
)
def test_a_parameter_s_axes_are_those_of_its_layer_s_type(layer, axes):
    found = {row.name: " ".join(row.axes) for row in nnmagic.params(layer).rows}

    assert [found[name] for name in layer.state_dict() if name in found] == axes


def test_a_tied_parameter_has_the_axes_of_each_layer_that_holds_it():
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    net[1].weight = net[0].weight

    assert [row.axes for row in nnmagic.params(net).rows] == [("id", "feature"), ("out", "in")]


def test_of_a_state_dict_no_layer_is_known(tmp_path):
    net = nn.Conv2d(2, 3, 3)
    nnmagic.params(net).save(tmp_path / "a.safetensors")

    assert nnmagic.params(net.state_dict()).rows[0].axes == ()
    assert nnmagic.load(tmp_path / "a.safetensors").rows[0].axes == ("out", "in", "kh", "kw")
