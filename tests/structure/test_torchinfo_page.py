"""The figures on the page about torchinfo: each is that of a run."""

import re
from pathlib import Path

import pytest
import torch
import torchinfo
import torchvision
from disputed_networks import Dictionary, Idle, Owning, SelfAttention, Tied
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

import nnmagic
from nnmagic.structure.torchinfo import torchinfo_summary

PAGE = Path(__file__).parents[2] / "docs" / "torchinfo.md"


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(10, 20, batch_first=True)

    def forward(self, x):
        packed = pack_padded_sequence(x, [9, 6, 3], batch_first=True)
        return self.lstm(packed)[0].data


class Scores(nn.Module):
    def forward(self, x):
        return x @ x.transpose(1, 2)


def pruned():
    network = nn.Sequential(nn.Linear(10, 10))
    prune.l1_unstructured(network[0], "weight", amount=0.3)
    return network


def transformer():
    return nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)


PRODUCTS, PARAMETERS, BYTES = "multiply-adds", "parameters", "bytes of parameters"

ACTIVATIONS, SHAPE = "bytes of activations", "output shape"

CASES = {
    ("`Linear` with a bias", PRODUCTS): (
        lambda: (nnmagic.default_network(), torch.rand(1, 28, 28)),
        784 * 512 + 512 * 512 + 512 * 10,
    ),
    ("`Linear` on a sequence", PRODUCTS): (
        lambda: (nn.Linear(16, 8, bias=False), torch.rand(2, 5, 16)),
        2 * 5 * 16 * 8,
    ),
    ("`Embedding`", PRODUCTS): (
        lambda: (nn.Embedding(100, 16), torch.zeros(2, 5, dtype=torch.int64)),
        0,
    ),
    ("`BatchNorm2d`", PRODUCTS): (lambda: (nn.BatchNorm2d(8), torch.rand(2, 8, 4, 4)), 0),
    ("`ConvTranspose2d`", PRODUCTS): (
        lambda: (nn.ConvTranspose2d(4, 8, 2, stride=2, bias=False), torch.rand(1, 4, 5, 5)),
        4 * 5 * 5 * 8 * 2 * 2,
    ),
    ("`MultiheadAttention`", PRODUCTS): (
        lambda: (SelfAttention(), torch.rand(2, 5, 16)),
        2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16),
    ),
    ("`TransformerEncoderLayer`", PRODUCTS): (
        lambda: (transformer(), torch.rand(2, 5, 16)),
        2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16 + 2 * 5 * 16 * 32),
    ),
    ("`LSTM`", PRODUCTS): (
        lambda: (nn.LSTM(10, 20, batch_first=True), torch.rand(3, 9, 10)),
        3 * 9 * 4 * 20 * (10 + 20),
    ),
    ("packed `LSTM`", PRODUCTS): (
        lambda: (Packed(), torch.rand(3, 9, 10)),
        (9 + 6 + 3) * 4 * 20 * (10 + 20),
    ),
    ("a product in the forward itself", PRODUCTS): (
        lambda: (Scores(), torch.rand(2, 5, 16)),
        2 * 5 * 16 * 5,
    ),
    ("weight norm", PRODUCTS): (
        lambda: (weight_norm(nn.Linear(16, 8, bias=False)), torch.rand(2, 16)),
        2 * 16 * 8,
    ),
    ("ViT-B/16, two pictures", PRODUCTS): (
        lambda: (torchvision.models.vit_b_16().eval(), torch.rand(2, 3, 224, 224)),
        None,
    ),
    ("tied weights", PARAMETERS): (lambda: (Tied(), torch.zeros(2, 5).long()), 100 * 16),
    ("a layer that does not run", BYTES): (lambda: (Idle(), torch.rand(2, 4)), 2 * 4 * 20),
    ("pruned weights", PARAMETERS): (lambda: (pruned(), torch.rand(2, 10)), 110),
    ("tied weights", BYTES): (lambda: (Tied(), torch.zeros(2, 5).long()), 4 * 100 * 16),
    ("a parameter beside layers", BYTES): (lambda: (Owning(), torch.rand(2, 4)), 4 * (25 + 5)),
    ("`MultiheadAttention`", BYTES): (
        lambda: (SelfAttention(), torch.rand(2, 5, 16)),
        4 * 4 * (16 * 16 + 16),
    ),
    ("`ReLU` after `Linear`", ACTIVATIONS): (
        lambda: (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4)),
        2 * 4 * (2 * 4 + 2 * 4),
    ),
    ("a dict", SHAPE): (
        lambda: (Dictionary(), torch.rand(2, 4)),
        {"out": (2, 3), "aux": (2, 7)},
    ),
    ("a tuple", SHAPE): (
        lambda: (nn.LSTM(10, 20), torch.rand(9, 3, 10)),
        ((9, 3, 20), ((1, 3, 20), (1, 3, 20))),
    ),
}


def figure_of(summary, what):
    return {
        PRODUCTS: (summary.total_flops or 0) // 2,
        PARAMETERS: summary.total_params,
        BYTES: summary.param_bytes,
        ACTIVATIONS: 2 * summary.output_bytes,
        SHAPE: next(row for row in summary.rows if row.layer == "").output_shape,
    }[what]


def torchinfos_figure(found, what):
    root = next(layer for layer in found.summary_list if layer.depth == 0)
    return {
        PRODUCTS: found.total_mult_adds,
        PARAMETERS: found.total_params,
        BYTES: found.total_param_bytes,
        ACTIVATIONS: found.total_output_bytes,
        SHAPE: tuple(root.output_size),
    }[what]


def text(figure):
    return f"{figure:,}" if isinstance(figure, int) else f"`{figure}`"


def rows_of_page():
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\|(?! ?(-|case))", line)
    ]
    return {(row[0], row[1]): row[2:] for row in cells if len(row) == 5}


@pytest.mark.parametrize(
    "case",
    [pytest.param(each, marks=[pytest.mark.slow] * ("ViT" in each[0])) for each in CASES],
    ids=" ".join,
)
def test_the_page_has_the_figures_that_a_run_gives(case):
    make, truth = CASES[case]
    network, x = make()

    theirs = torchinfo.summary(
        network, input_data=x, verbose=0, mode="train" if network.training else "eval"
    )
    ours = figure_of(nnmagic.summary(network, x), case[1])
    shown = figure_of(torchinfo_summary(network, (x,), {}, title="it"), case[1])

    assert truth is None or ours == truth
    assert shown == torchinfos_figure(theirs, case[1])
    assert ours != shown
    own, other, reason = rows_of_page()[case]
    assert (own, other) == (text(ours), text(shown))
    assert reason


def test_the_page_has_every_case_and_no_other():
    assert set(rows_of_page()) == set(CASES)
