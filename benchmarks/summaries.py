"""Time the first `nnmagic.summary`, FLOPs included, against `torchinfo.summary`: a ratio.

Both are called as a user would, in the default grad mode and on the same input, and take turns;
neither draws its table. torchinfo runs the network for real, nnmagic on the meta device. What is
required is of the first summary, which a person types: nothing is remembered of an earlier one.
The note tells what a repeated one takes. The LLaMA-shaped networks are built on the meta device,
where torchinfo has nothing to be compared with: what they have to reach is a time.
"""

from collections.abc import Iterator
from functools import partial

import torch
import torchinfo
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import nnmagic
from benchmarks.timing import Figure, threads, timed
from nnmagic.structure.meta_cache import META_CACHE

TABLE = "torchinfo over a first summary"


def compared() -> Iterator[tuple[str, nn.Module, Tensor, float, float]]:
    """Yield the networks to compare on, an input, the required ratio and the one to aim at."""
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 224, 224)
    yield "default network", nnmagic.NeuralNetwork(), torch.rand(1, 28, 28), 1.2, 2
    tiny = nn.Sequential(*(nn.ReLU() if i % 2 else nn.Linear(16, 16) for i in range(2000)))
    yield "2,000 tiny layers", tiny, torch.rand(1, 16), 1.2, 3
    for name, required, aim in (
        ("mobilenet_v3_large", 4.5, 6),
        ("resnet18", 7, 10),
        ("resnet152", 8, 10),
        ("vit_b_16", 11, 20),
        ("convnext_large", 28, 50),
    ):
        yield name, getattr(torchvision.models, name)(), picture, required, aim


class Block(nn.Module):
    """A transformer block in the form of LLaMA's: grouped queries, a gated product."""

    def __init__(self, width: int, hidden: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.before = nn.RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, groups * self.size, bias=False)
        self.value = nn.Linear(width, groups * self.size, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.after = nn.RMSNorm(width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the hidden states, (batch, length, width), after the block."""
        batch, length, _ = x.shape
        y = self.before(x)
        query, key, value = (
            layer(y).view(batch, length, heads, self.size).transpose(1, 2)
            for layer, heads in (
                (self.query, self.heads),
                (self.key, self.groups),
                (self.value, self.groups),
            )
        )
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, -1))
        y = self.after(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


def llama(layers: int, width: int, hidden: int, heads: int, groups: int) -> nn.Module:
    """Return a network in the form of LLaMA's, built on the meta device."""
    with torch.device("meta"):
        blocks = (Block(width, hidden, heads, groups) for _ in range(layers))
        vocabulary = 128_256
        head = nn.Linear(width, vocabulary, bias=False)
        return nn.Sequential(nn.Embedding(vocabulary, width), *blocks, nn.RMSNorm(width), head)


def built_on_meta() -> Iterator[tuple[str, nn.Module, Tensor, float, float]]:
    """Yield networks built on meta, an input, the required seconds and those to aim at."""
    ids = torch.zeros(1, 128, dtype=torch.int64, device="meta")
    yield "LLaMA-shaped, 7B, on meta", llama(32, 4096, 14_336, 32, 8), ids, 0.2, 0.09
    yield "LLaMA-shaped, 70B, on meta", llama(80, 8192, 28_672, 64, 8), ids, 0.5, 0.22
    yield "LLaMA-shaped, 405B, on meta", llama(126, 16_384, 53_248, 128, 8), ids, 0.8, 0.36


def flop_counter(network: nn.Module, x: Tensor) -> int:
    """Return what torch's own counter says of a real run."""
    with FlopCounterMode(display=False) as counter:
        network(x)
    return counter.get_total_flops()


def first_summary(network: nn.Module, x: Tensor) -> None:
    """Make a summary with nothing remembered of an earlier one."""
    META_CACHE.clear()
    nnmagic.summary(network, x)


def measure(seconds: float) -> Iterator[Figure]:
    """Yield the figures as they are measured, on one thread.

    Args:
        seconds: how long to time each case.
    """
    with threads(1):
        for name, network, x, required, aim in compared():
            network.eval()
            sides = {
                "torchinfo": partial(torchinfo.summary, network, input_data=x, verbose=0),
                "FlopCounterMode": partial(flop_counter, network, x),
                "first": partial(first_summary, network, x),
                "repeated": partial(nnmagic.summary, network, x),
            }
            times = {side: each.median for side, each in timed(sides, seconds).items()}
            ratio = times["torchinfo"] / times["first"]
            note = (
                f"{1000 * times['torchinfo']:.3g} over {1000 * times['first']:.3g} ms, repeated "
                f"{1000 * times['repeated']:.3g}; FlopCounterMode "
                f"{1000 * times['FlopCounterMode']:.3g}"
            )
            yield Figure(TABLE, name, ratio, required, aim, threads=1, at_most=False, note=note)
        for name, network, x, required, aim in built_on_meta():
            network.eval()
            own = timed({"nnmagic": partial(nnmagic.summary, network, x)}, seconds)["nnmagic"]
            yield Figure(TABLE, name, own.median, required, aim, threads=1, unit="s")
