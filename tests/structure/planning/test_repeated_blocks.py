"""Blocks that repeat need not run: what they would save is what the second of them saved."""

import pytest
import timm
import torch
import torchvision
from small_transformer import IDS, Block, Transformer
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from nnmagic.network.calls import CallCounter, observed
from nnmagic.network.naming import Naming
from nnmagic.structure.planning.rank_forward import saved_bytes
from nnmagic.structure.planning.tensor_parallel import Cuts
from nnmagic.structure.shape_run import MetaRequest

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "vocab_size": 101,
}


class Unlike(nn.Module):
    """Blocks of which every second one does more."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList([Block(16, 2)]) for _ in range(6))
        for number, each in enumerate(self.blocks):
            each[0].twice = bool(number % 2)

    def forward(self, x):
        for each in self.blocks:
            x = each[0](x)
            x = each[0].norm1(x) if each[0].twice else x
        return x


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(5))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            x += 1
        return x


NETWORKS = {
    "transformer": (lambda: Transformer(blocks=6), IDS),
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SMALL)), IDS),
    "bert": (lambda: BertModel(BertConfig(**SMALL)), IDS),
    "resnet50": (torchvision.models.resnet50, torch.rand(2, 3, 32, 32)),
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224"), torch.rand(2, 3, 224, 224)),
    "unlike": (Unlike, torch.rand(2, 5, 16)),
    "in place": (InPlace, torch.rand(2, 8)),
}


def request(net, x):
    return MetaRequest(network=net, args=(x,), naming=Naming(), title="net")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("resnet50", "vit")))
        for name in NETWORKS
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_as_much_is_saved_as_where_every_block_runs(name, train):
    make, x = NETWORKS[name]
    asked = request(make().train(train), x)

    assert saved_bytes(asked, Cuts(1)) == saved_bytes(asked, Cuts(1), every_block=True)


def blocks():
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(9)))


def calls_in(net):
    """How many layers run."""
    counter = CallCounter()
    with observed(counter):
        saved_bytes(request(net, torch.rand(2, 8)), Cuts(1))
    return counter.calls


def test_of_blocks_that_are_made_alike_and_get_the_like_two_run():
    # the network, its blocks, and what is in the first, whose input needs no gradient, and two more
    assert calls_in(blocks()) == 1 + 9 + 3 * 2


def test_a_block_with_another_setting_runs_itself():
    net = blocks()
    net[7][1].inplace = True

    assert calls_in(net) == 1 + 9 + 4 * 2


def test_what_a_block_returned_may_be_written_to():
    assert calls_in(InPlace()) == 1 + 5 + 3 * 2
