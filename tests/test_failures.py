import pytest
import torch
from torch import nn

from nnmagic.failures import mismatch


@pytest.mark.parametrize(
    ("layer", "got", "says"),
    [
        (
            nn.Linear(784, 20),
            torch.rand(1, 20),
            "got (1, 20), weight is (20, 784): the last axis must be 784, it is 20",
        ),
        (nn.Linear(3, 2), torch.tensor(1.0), "got (), weight is (2, 3): it has no last axis"),
        (nn.Linear(3, 2), torch.rand(1, 3).double(), "got float64, its parameters are float32"),
        (
            nn.Linear(3, 2),
            torch.ones(1, 3, dtype=torch.uint8),
            "got uint8, its parameters are float32: convert the input with .to(torch.float32)",
        ),
        (
            nn.Linear(3, 2),
            torch.empty(1, 3, device="meta"),
            "got a tensor on meta, its parameters are on cpu",
        ),
        (
            nn.Conv2d(3, 8, 3),
            torch.rand(1, 32, 32, 3),
            "got (1, 32, 32, 3), weight is (8, 3, 3, 3): the channel axis must be 3, it is 32; "
            "the channels stand last, move them with .movedim(-1, 1)",
        ),
        (
            nn.Conv2d(3, 8, 3),
            torch.rand(3, 32),
            "got (3, 32), weight is (8, 3, 3, 3): it takes (batch, channels, height, width), "
            "4 axes, it got 2",
        ),
        (nn.Embedding(10, 4), torch.tensor([1, 10]), "got ids 1 … 10, it has rows 0 … 9"),
        (
            nn.Embedding(10, 4),
            torch.rand(2),
            "got float32, it takes the ids of its 10 rows: integers",
        ),
        (
            nn.LSTM(3, 4),
            torch.rand(2, 1, 5),
            "got (2, 1, 5), input_size is 3: the last axis must be 3, it is 5",
        ),
        (
            nn.BatchNorm1d(4).train(),
            torch.rand(1, 4),
            "got (1, 4): in train mode it needs more than one value a channel",
        ),
        (nn.LayerNorm(4), torch.rand(1, 5), "got (1, 5): the last axes must be (4,)"),
    ],
)
def test_a_layers_refusal_is_explained(layer, got, says):
    with pytest.raises(Exception):  # noqa: B017, PT011 - what torch raises is its own affair
        layer(got)

    assert mismatch(layer, (got,), {}) == says


def test_what_fits_is_not_explained():
    assert mismatch(nn.Linear(3, 2), (torch.rand(1, 3),), {}) == ""
    assert mismatch(nn.ReLU(), (torch.rand(1, 3),), {}) == ""
    assert mismatch(nn.Linear(3, 2), ("text",), {}) == ""
