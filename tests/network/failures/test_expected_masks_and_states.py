"""Masks of attention, and hidden states of recurrent layers, beside the input."""

import pytest
import torch
from refusals import refusal, zeros
from torch import nn, rand

x, y = rand(2, 5, 8), rand(3, 5, 8)

ATTENTION = [
    (
        (x, x, x),
        {"attn_mask": rand(4, 4)},
        "got attn_mask (4, 4): it must be (5, 5) or (4, 5, 5), that is "
        "(batch · heads, queries, keys)",
    ),
    (
        (x, x, x),
        {"attn_mask": rand(2, 5, 5)},
        "got attn_mask (2, 5, 5): it must be (5, 5) or (4, 5, 5), that is "
        "(batch · heads, queries, keys); repeat it, .repeat_interleave(2, 0)",
    ),
    (
        (x, x, x),
        {"key_padding_mask": zeros(5, 2, dtype=torch.bool)},
        "got key_padding_mask (5, 2): it must be (2, 5), that is (batch, keys); turn it, with .mT",
    ),
    (
        (x, x, x),
        {"attn_mask": zeros(5, 5)},
        "got attn_mask int64: it must be bool, true for what is left out; of a tokenizer's mask "
        "that is mask == 0",
    ),
    (
        (x, y, y),
        {},
        "got query (2, 5, 8), key (3, 5, 8), value (3, 5, 8): axis 0 is the batch and must be "
        "the same",
    ),
    (
        (rand(2, 5, 9), x, x),
        {},
        "got (2, 5, 9), embed_dim is 8: the last axis must be 8, it is 9; "
        "make the layer with embed_dim=9",
    ),
]


@pytest.mark.parametrize(("args", "kwargs", "says"), ATTENTION)
def test_an_attentions_refusal_is_explained(args, kwargs, says):
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    with pytest.raises(Exception):  # noqa: B017, PT011 - what torch raises is its own affair
        layer(*args, **kwargs)

    assert refusal(layer, *args, **kwargs) == says


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"mask": rand(4, 4)}, "(4, 4): it must be (5, 5) or (4, 5, 5)"),
        (
            {"src_key_padding_mask": zeros(5, 2, dtype=torch.bool)},
            "(5, 2): it must be (2, 5), that is (batch, keys)",
        ),
        ({"src_key_padding_mask": zeros(2, 5)}, "src_key_padding_mask int64: it must be bool"),
    ],
)
def test_an_encoders_masks_are_explained_on_its_fast_path_too(train, kwargs, says):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).train(train)

    with torch.set_grad_enabled(train):
        assert says in refusal(net, x, **kwargs)


STATES = [
    (
        nn.LSTM(3, 4, batch_first=True),
        (rand(1, 5, 4), rand(1, 5, 4)),
        "got a hidden state (1, 5, 4): it must be (1, 2, 4), that is (layers, batch, features)",
    ),
    (
        nn.LSTM(3, 4, batch_first=True),
        rand(1, 2, 4),
        "got the hidden state (1, 2, 4): it takes a pair of them, (h, c)",
    ),
    (
        nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
        rand(2, 2, 4),
        "got a hidden state (2, 2, 4): it must be (4, 2, 4), that is (layers, batch, features)",
    ),
    (
        nn.GRU(3, 4, batch_first=True),
        rand(1, 2, 4).double(),
        "got float64, its parameters are float32: convert the hidden state with .to(torch.float32)",
    ),
]


@pytest.mark.parametrize(("layer", "state", "says"), STATES)
def test_a_hidden_states_shape_is_explained(layer, state, says):
    assert refusal(layer, rand(2, 5, 3), state) == says


def test_a_cells_hidden_state_is_explained():
    says = "got a hidden state (3, 4): it must be (2, 4), that is (batch, features)"

    assert refusal(nn.LSTMCell(3, 4), rand(2, 3), (rand(3, 4), rand(3, 4))) == says
