import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import nnmagic


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.Linear(784, 512), (3, 784), 2 * 3 * 784 * 512),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 16, 16), 2 * 2 * 8 * 16 * 16 * 3 * 9),
        (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 10, 10), 2 * 8 * 64 * 2 * 9),
        (nn.ConvTranspose2d(4, 8, 2, stride=2), (1, 4, 5, 5), 2 * 4 * 25 * 8 * 4),
        (nn.Conv1d(2, 3, 5), (1, 2, 20), 2 * 3 * 16 * 2 * 5),
        (nn.ReLU(), (3, 4), 0),
        (nn.BatchNorm2d(3), (2, 3, 4, 4), 0),
        (nn.LSTM(8, 16, batch_first=True), (2, 5, 8), 2 * 2 * 5 * 4 * 16 * (8 + 16)),
        (nn.GRU(8, 16, batch_first=True), (2, 5, 8), 2 * 2 * 5 * 3 * 16 * (8 + 16)),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_flops_equal_the_hand_count(module, shape, flops, train):
    summary = nnmagic.summary(module.train(train), torch.rand(shape))

    assert summary.total_flops == flops


@pytest.mark.parametrize("train", [True, False])
def test_attention_counts_its_products(train):
    batch, length, width = 2, 5, 16
    products = 4 * batch * length * width * width + 2 * batch * length * length * width
    layer = nn.MultiheadAttention(width, 4, batch_first=True).train(train)
    x = torch.rand(batch, length, width)

    assert nnmagic.summary(layer, x, x, x).total_flops == 2 * products
    assert nnmagic.summary(layer, x, x, x, need_weights=False).total_flops == 2 * products


@pytest.mark.parametrize("train", [True, False])
def test_an_encoder_layer_counts_the_same_in_both_modes(train):
    batch, length, width, hidden = 2, 5, 16, 32
    attention = 4 * batch * length * width * width + 2 * batch * length * length * width
    products = attention + 2 * batch * length * width * hidden
    layer = nn.TransformerEncoderLayer(width, 4, hidden, batch_first=True).train(train)

    assert nnmagic.summary(layer, torch.rand(batch, length, width)).total_flops == 2 * products


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "vit_b_32"])
def test_flops_equal_torchs_counter_on_real_networks(name):
    net = getattr(torchvision.models, name)().train()
    x = torch.rand(2, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        net.to("meta")(x.to("meta"))

    assert nnmagic.summary(net, x).total_flops == counter.get_total_flops()


def test_a_product_without_a_formula_is_unknown_and_named():
    class Distances(nn.Module):
        def forward(self, x):
            return torch.cdist(x, x)

    summary = nnmagic.summary(nn.Sequential(nn.Linear(3, 3), Distances()), torch.rand(4, 3))

    by_layer = summary.to_frame().set_index("layer").flops
    assert by_layer["0"] == 2 * 4 * 9
    assert by_layer.isna()[["", "1"]].all()
    assert summary.total_flops is None
    assert "FLOPs unknown of: _cdist" in str(summary)
