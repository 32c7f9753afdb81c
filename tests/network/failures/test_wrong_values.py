from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from corpus.case import Net
from refusals import refusal
from torch import nn

import nnmagic

rand = torch.rand
PAIR = namedtuple("Pair", "logits aux")


def after(layer, make=lambda layer, x: layer(x)):
    """A network whose Linear gets what a layer returned, untouched."""
    return Net(lambda net, x: net.fc(make(net.layer, x)), layer=layer, fc=nn.Linear(16, 3))


@pytest.mark.parametrize(
    ("layer", "make", "says"),
    [
        (
            nn.LSTM(8, 16),
            lambda layer, x: layer(x),
            "got what layer (LSTM) returned, (output, (h, c)): pass the first, "
            "output, (h, c) = lstm(x)",
        ),
        (
            nn.GRU(8, 16),
            lambda layer, x: layer(x),
            "got what layer (GRU) returned, (output, h): pass the first, output, h = gru(x)",
        ),
        (
            nn.LSTMCell(8, 16),
            lambda layer, x: layer(x[0]),
            "got what layer (LSTMCell) returned, (h, c): pass the first, h, c = cell(x)",
        ),
        (
            nn.MultiheadAttention(8, 2),
            lambda layer, x: layer(x, x, x),
            "got what layer (MultiheadAttention) returned, (output, weights): pass the first, "
            "output, weights = attention(q, k, v); its last axis is 8, so make the layer with "
            "in_features=8",
        ),
        (
            Net(lambda net, x: PAIR(x, x)),
            lambda layer, x: layer(x),
            "got what layer (Net) returned, a Pair ((2, 5, 8), (2, 5, 8)): "
            "pass the first, h.logits; its last axis is 8, so make the layer with in_features=8",
        ),
        (
            Net(lambda net, x: {"out": x, "aux": x[0]}),
            lambda layer, x: layer(x),
            "got what layer (Net) returned, a dict with out (2, 5, 8), aux (5, 8): "
            "pass one of them, as in h['out']",
        ),
        (
            Net(lambda net, x: None),
            lambda layer, x: layer(x),
            "got None, which layer (Net) returned: end its forward with a return",
        ),
    ],
)
def test_what_a_layer_returned_is_told_from_a_batch(layer, make, says):
    assert refusal(after(layer, make), rand(2, 5, 8)) == says


def test_a_sequential_passes_on_all_that_a_recurrent_layer_returns():
    net = nn.Sequential(nn.LSTM(8, 16), nn.Linear(16, 3))

    assert refusal(net, rand(2, 5, 8)) == (
        "got what LSTM returned, (output, (h, c)): a Sequential passes on all of it; "
        "write a forward, with output, (h, c) = lstm(x)"
    )


@pytest.mark.parametrize("width", [4, 16])
def test_a_trailing_comma_is_told(width):
    says = (
        f"got a tuple with one tensor, (2, {width}): a comma at the end of a line makes one; "
        "take the comma away, or pass the first, h[0]"
    )

    assert refusal(nn.Linear(width, 2), (rand(2, width),)) == says


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (nn.ReLU, "got a ReLU: nn.ReLU(…) makes a layer; F.relu(…) or nn.ReLU()(…) applies one"),
        (
            nn.LeakyReLU,
            "got a LeakyReLU: nn.LeakyReLU(…) makes a layer; "
            "F.leaky_relu(…) or nn.LeakyReLU()(…) applies one",
        ),
        (
            nn.Flatten,
            "got a Flatten: nn.Flatten(…) makes a layer; nn.Flatten()(…) applies one",
        ),
    ],
)
def test_a_layer_in_place_of_what_it_returns_is_told(made, says):
    net = Net(lambda net, x: net.fc(made(x)), fc=nn.Linear(8, 3))

    assert refusal(net, rand(4, 8)) == says


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (
            lambda x: nn.Dropout(x),
            "in “nn.Dropout(x)”: nn.Dropout(…) makes a layer; "
            "F.dropout(…) or nn.Dropout()(…) applies one",
        ),
        (
            lambda x: nn.ReLU(x).mean(),
            "in “nn.ReLU(x).mean”: nn.ReLU(…) makes a layer; F.relu(…) or nn.ReLU()(…) applies one",
        ),
        (
            lambda x: nn.Linear(x),
            "in “nn.Linear(x)”: nn.Linear(…) makes a layer; "
            "F.linear(…) or nn.Linear()(…) applies one",
        ),
    ],
)
def test_a_layer_that_is_made_of_a_tensor_is_told_where_that_raises(run, says):
    assert refusal(Net(lambda net, x: run(x)), rand(4, 8)) == says


class Picture:
    size = (8, 6)
    __array_interface__ = {}  # noqa: RUF012 - as PIL's pictures have it


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 8)

    def forward(self, input_ids=None, attention_mask=None):
        return self.words(input_ids)


ids = torch.zeros(2, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("layer", "got", "says"),
    [
        (
            nn.Linear(8, 2),
            np.zeros((4, 8)),
            "got a NumPy array (4, 8) float64: type torch.from_numpy(x).float()",
        ),
        (
            nn.Conv2d(3, 2, 3),
            np.zeros((1, 3, 8, 8), "float32"),
            "got a NumPy array (1, 3, 8, 8) float32: type torch.from_numpy(x)",
        ),
        (
            nn.Embedding(10, 2),
            np.zeros(4, "int64"),
            "got a NumPy array (4,) int64: type torch.from_numpy(x)",
        ),
        (
            nn.Conv2d(3, 4, 3),
            Picture(),
            "got a Picture, a picture of (8, 6): make a batch of it with "
            "torchvision.transforms.functional.to_tensor(picture)[None]",
        ),
        (
            nn.Linear(2, 2),
            [[1.0, 2.0]],
            "got a list of numbers: type torch.tensor(x)",
        ),
        (nn.Linear(1, 2), 3, "got an int: type torch.tensor(x).float()"),
        (
            nn.Embedding(10, 2),
            ["a", "b"],
            "got a list of text: make ids of it, tokenizer(text, return_tensors='pt')",
        ),
        (nn.Linear(2, 2), rand(2).flatten, "got the function flatten, not what it returns: "),
        (
            nn.Linear(2, 2),
            torch.utils.data.DataLoader([1]),
            "got a DataLoader: take its batches one at a time, for x, y in loader: net(x)",
        ),
        (
            nn.Linear(3, 2),
            nn.utils.rnn.pack_sequence([rand(2, 3)]),
            "got a PackedSequence: unpack it with h, lengths = ",
        ),
        (
            nn.Linear(3, 2),
            [rand(3)] * 3,
            "got a list of tensors, (3,), (3,), (3,): make one tensor of them with torch.stack",
        ),
        (
            Bert(),
            {"input_ids": ids, "attention_mask": ids},
            "got a dict with input_ids (2, 5), attention_mask (2, 5): "
            "pass its items by name, net(**batch)",
        ),
        (
            nn.Linear(3, 2),
            {"image": rand(2, 3), "label": ids},
            "got a dict with image (2, 3), label (2, 5): pass one of them, as in batch['image']",
        ),
    ],
)
def test_what_is_no_tensor_is_told_with_the_way_to_one(layer, got, says):
    assert refusal(layer, got).startswith(says)


def test_a_batch_of_names_is_told_where_the_forward_requires_them():
    net = Net(lambda net, x: x)
    net.forward = lambda input_ids, attention_mask: input_ids

    assert refusal(net, {"input_ids": ids, "attention_mask": ids}) == (
        "takes (input_ids, attention_mask): missing a required argument: "
        "'attention_mask'; pass the items by name, net(**batch)"
    )
    assert refusal(net, [ids, ids]).endswith("; pass the items one by one, net(*batch)")


class Batch(UserDict):
    """As a tokenizer gives it: what it lacks is an AttributeError without a word."""

    def __getattr__(self, name):
        raise AttributeError


@pytest.mark.parametrize(
    "run",
    [
        lambda net, input_ids: net.words(input_ids),
        lambda net, input_ids: input_ids.view(-1),
        lambda net, input_ids: input_ids.size() + 1,
        lambda net, input_ids: net.inner(input_ids=input_ids),
    ],
)
def test_a_tokenizers_batch_is_told_whatever_fails(run):
    net = Net(run, words=nn.Embedding(10, 2), inner=Net(lambda net, input_ids: input_ids.shape))
    net.forward = lambda input_ids=None, attention_mask=None: run(net, input_ids)

    assert refusal(net, Batch(input_ids=ids, attention_mask=ids)) == (
        "got a Batch with input_ids (2, 5), attention_mask (2, 5): "
        "pass its items by name, net(**batch)"
    )


def test_a_dict_is_told_in_a_summary_too():
    with pytest.raises(TypeError) as caught:
        nnmagic.summary(Bert(), {"input_ids": ids})

    assert "pass its items by name, net(**batch)" in caught.value.__notes__[0]


def test_what_a_forward_of_the_users_takes_is_not_blamed():
    net = Net(lambda net, batch: F.relu(batch["x"]) @ rand(5, 5))

    assert "got" not in refusal(net, {"x": rand(2, 3)})
