"""Time `nnmagic.summary`, FLOPs included, against `torchinfo.summary`: torchinfo over nnmagic.

Both are called as a user would, in the default grad mode and on the same input, and take turns;
neither draws its table. torchinfo runs the network for real, nnmagic on the meta device. The
LLaMA-shaped networks are built on the meta device, where torchinfo has nothing to be compared with:
what they have to reach is a time.
"""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
import torchinfo
import torchvision
from torch import Tensor, nn

import nnmagic

SECONDS = 3.0
"""How long to time each case, by default."""

FEWEST = 3
"""How many times both sides are timed at least, whatever that takes."""


class Row(NamedTuple):
    """One case: median times in seconds, and what it has to reach.

    Attributes:
        name: the network.
        ours: seconds of `nnmagic.summary`.
        torchinfo: seconds of `torchinfo.summary`; None where it is not compared.
        ratio: torchinfo's time over ours; None where it is not compared.
        required: the least ratio, or the most seconds where there is no ratio.
        aim: the ratio, or the seconds, to aim at.
    """

    name: str
    ours: float
    torchinfo: float | None
    ratio: float | None
    required: float
    aim: float

    @property
    def reached(self) -> bool:
        """Whether the required figure is met."""
        return self.ours <= self.required if self.ratio is None else self.ratio >= self.required


def compared() -> Iterator[tuple[str, nn.Module, Tensor, float, float]]:
    """Yield the networks to compare on, an input, the required ratio and the one to aim at."""
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 224, 224)
    yield "default network", nnmagic.NeuralNetwork(), torch.rand(1, 28, 28), 2, 4
    tiny = nn.Sequential(*(nn.ReLU() if i % 2 else nn.Linear(16, 16) for i in range(2000)))
    yield "2,000 tiny layers", tiny, torch.rand(1, 16), 2, 5
    for name, required, aim in (
        ("mobilenet_v3_large", 3, 6),
        ("resnet18", 8, 20),
        ("resnet152", 8, 20),
        ("vit_b_16", 10, 20),
        ("convnext_large", 40, 100),
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


def timed(sides: list[Callable[[], object]], seconds: float) -> list[float]:
    """Return the median seconds of functions that take turns, after a run of each."""
    for run in sides:
        run()
    taken: list[list[float]] = [[] for _ in sides]
    end = perf_counter() + seconds
    while perf_counter() < end or len(taken[0]) < FEWEST:
        for run, times in zip(sides, taken, strict=True):
            start = perf_counter()
            run()
            times.append(perf_counter() - start)
    return [median(times) for times in taken]


def measure(seconds: float = SECONDS) -> Iterator[Row]:
    """Yield the rows as they are measured, in the number of threads that torch has now.

    Args:
        seconds: how long to time each case.
    """
    for name, network, x, required, aim in compared():
        network.eval()
        ours = partial(nnmagic.summary, network, x)
        theirs = partial(torchinfo.summary, network, input_data=x, verbose=0)
        own, peer = timed([ours, theirs], seconds)
        yield Row(name, own, peer, peer / own, required, aim)
    for name, network, x, required, aim in built_on_meta():
        network.eval()
        (own,) = timed([partial(nnmagic.summary, network, x)], seconds)
        yield Row(name, own, None, None, required, aim)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in measure():
        figure = f"{row.ours:.3f} s" if row.ratio is None else f"{row.ratio:.2f}"
        print(f"{row.name:<30}{1000 * row.ours:>10.2f} ms{figure:>12}   required {row.required}")
