import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.axes import Axes


def axes_of(net, *inputs, layer="0", side="outputs", batch_first=None):
    trace = nnmagic.trace(nn.Sequential(net) if layer == "0" else net, *inputs)
    call = trace[layer].call
    axes = Axes(trace.log, call, batch_first)
    return [" ".join(axes.of(tensor)) for tensor in getattr(trace.log, side)[call]]


@pytest.mark.parametrize(
    ("net", "x", "axes"),
    [
        (nn.Conv2d(3, 4, 3), torch.rand(2, 3, 9, 9), "batch channel row column"),
        (nn.Conv2d(3, 4, 3), torch.rand(3, 9, 9), "channel row column"),
        (nn.Conv1d(3, 4, 3), torch.rand(2, 3, 9), "batch channel position"),
        (nn.Conv3d(3, 4, 3), torch.rand(2, 3, 9, 9, 9), "batch channel depth row column"),
        (nn.BatchNorm1d(4), torch.rand(2, 4), "batch channel"),
        (nn.AdaptiveAvgPool2d(1), torch.rand(2, 3, 9, 9), "batch channel row column"),
        (nn.Linear(4, 5), torch.rand(4), "feature"),
        (nn.Linear(4, 5), torch.rand(2, 4), "batch feature"),
        (nn.Linear(4, 5), torch.rand(2, 3, 4), "batch position feature"),
        (nn.Embedding(9, 4), torch.tensor([1, 2]), "batch feature"),
    ],
)
def test_a_layer_names_the_axes_of_what_it_returns(net, x, axes):
    assert axes_of(net, x) == [axes]


@pytest.mark.parametrize(
    ("batch_first", "output"),
    [(True, "batch position feature"), (False, "position batch feature")],
)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_s_states_are_told_from_its_output(kind, batch_first, output):
    net = kind(4, 6, 2, bidirectional=True, batch_first=batch_first)

    axes = axes_of(net, torch.rand(2, 3, 4))

    assert axes == [output, *["layer × direction batch feature"] * (len(axes) - 1)]


def test_a_square_batch_of_sequences_is_told_by_the_layer_alone():
    assert axes_of(nn.GRU(4, 6), torch.rand(3, 3, 4))[0] == "axis 0 axis 1 feature"
    assert axes_of(nn.GRU(4, 6), torch.rand(3, 3, 4), batch_first=False)[0] == (
        "position batch feature"
    )


def test_an_unbatched_sequence_has_no_batch():
    output, states = axes_of(nn.GRU(4, 6), torch.rand(3, 4))

    assert [output, states] == ["position feature", "layer × direction feature"]


def test_an_activation_keeps_the_axes_of_the_layer_before():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    assert axes_of(net, torch.rand(3, 9, 9), layer="1") == ["channel row column"]
    assert axes_of(net, torch.rand(3, 9, 9), layer="", side="inputs") == ["channel row column"]


def test_heads_of_attention_are_told_whether_averaged_or_not():
    class Net(nn.Module):
        def __init__(self, average):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.average = average

        def forward(self, x):
            return self.attention(x, x, x, average_attn_weights=self.average)

    x = torch.rand(1, 5, 8)
    assert axes_of(Net(average=False), x, layer="attention") == [
        "batch position feature",
        "batch head query key",
    ]
    assert axes_of(Net(average=True), x, layer="attention")[1] == "batch query key"
    assert axes_of(Net(average=False), x[0], layer="attention") == [
        "position feature",
        "head query key",
    ]


def test_only_what_attends_has_heads():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.softmax, self.dropout = nn.Softmax(-1), nn.Dropout()

        def forward(self, scores):
            return self.dropout(self.softmax(scores))

    maps, heads = torch.rand(4, 3, 16, 16), "batch head query key"

    assert axes_of(nn.Dropout(), maps) == axes_of(nn.Dropout2d(), maps)
    assert axes_of(nn.Softmax(1), maps) != [heads]
    assert axes_of(nn.Dropout(), maps) != [heads]
    assert axes_of(Attention(), maps, layer="softmax") == [heads]
    assert axes_of(Attention(), maps, layer="dropout", side="inputs") == [heads]
    assert axes_of(nn.Softmax(-1), torch.rand(4, 3, 16, 20), side="inputs") == [heads]
