"""Measure nnmagic against a plain forward pass and against torchinfo: `python -m benchmarks`.

Two tables of ratios of median wall times, on the CPU in float32, random weights, eval mode:

- Traced over plain: `nnmagic.trace(net, x)` over `net(x)`, both under `torch.no_grad()`. A ratio
  over 1 is our cost. It falls as the layers themselves take longer, hence the many cases.
- torchinfo over nnmagic: `torchinfo.summary(net, input_data=x, verbose=0)` over
  `nnmagic.summary(net, x)`, each called as a user would; neither draws its table. A ratio over 1
  is our lead. torchinfo runs the network for real, nnmagic on the meta device.

Both sides take turns in one process (A B A B …), so that slow drifts hit both alike. A neighbour
that takes a core does not: where a median is far above the shortest time, run again. A plain pass
right after a trace finds colder caches, which flatters us in the smallest case, by 10 to 15 %.
The transformer runs without torch's fast path, which calls no layer inside a block.
"""

import argparse
import gc
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torchinfo
import torchvision
from torch import Tensor, nn

import nnmagic
from nnmagic.units import numbers

WARM_UP = 3
"""How many times both sides run before they are timed."""

FEWEST = 7
"""How many times both sides are timed at least, whatever that takes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network, an input of it, and what a row calls the two."""

    name: str
    network: nn.Module
    x: Tensor


@dataclass(frozen=True, slots=True)
class Times:
    """How many wall times were taken; their median, the shortest and the longest, in seconds."""

    repeats: int
    median: float
    shortest: float
    longest: float

    def __str__(self) -> str:
        each = (self.median, self.shortest, self.longest)
        return "{} ({}..{})".format(*numbers(*(1000 * seconds for seconds in each)))


def medians(first: Callable[[], Any], second: Callable[[], Any], seconds: float) -> list[Times]:
    """Return the times of two functions that take turns until the seconds are used up."""
    for _ in range(WARM_UP):
        first()
        second()
    gc.collect()
    taken: tuple[list[float], list[float]] = [], []
    end = perf_counter() + seconds
    while perf_counter() < end or len(taken[0]) < FEWEST:
        for run, times in zip((first, second), taken, strict=True):
            start = perf_counter()
            run()
            times.append(perf_counter() - start)
    return [Times(len(times), median(times), min(times), max(times)) for times in taken]


def compare(sides: dict[str, Callable[..., Any]], cases: Iterable[Case], seconds: float) -> None:
    """Print the first side's median over the second's, on 1 thread and on the default number.

    The sides are two functions of a network and its input, by what a row calls them.
    """
    threads = tuple(dict.fromkeys((1, torch.get_num_threads())))
    _row("ratio; below it ms: median (min..max)", [f"threads: {number}" for number in threads])
    for case in cases:
        columns = []
        for number in threads:
            torch.set_num_threads(number)
            first, second = (partial(side, case.network, case.x) for side in sides.values())
            columns.append(medians(first, second, seconds))
        _row(case.name, [f"{first.median / second.median:.2f}" for first, second in columns])
        for name, times in zip(sides, zip(*columns, strict=True), strict=True):
            _row(f"  {name}", times)
        _row(f"  repeats, x: {tuple(case.x.shape)}", [f"{first.repeats:,}" for first, _ in columns])


def _row(label: str, cells: Iterable[Any]) -> None:
    print(f"{label:<50}" + "".join(f"{cell!s:>28}" for cell in cells), flush=True)


def main() -> None:
    """Print the machine, the versions and both tables."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Print both ratios.")
    budget = "how long to time each case on each number of threads (default: 3)"
    parser.add_argument("--seconds", type=float, default=3, help=budget)
    seconds = parser.parse_args().seconds

    torch.manual_seed(0)
    net = nnmagic.NeuralNetwork().eval()
    one = Case("default network, 1 picture", net, torch.rand(1, 28, 28))
    batch = Case("default network, 64 pictures", net, torch.rand(64, 28, 28))
    net = torchvision.models.resnet18().eval()
    resnet = Case("resnet18", net, torch.rand(1, 3, 224, 224))
    block = nn.TransformerEncoderLayer(256, 8, dim_feedforward=1024, batch_first=True)
    net, x = nn.TransformerEncoder(block, 12).eval(), torch.rand(1, 128, 256)
    transformer = Case("12 transformer blocks, one by one (fast path off)", net, x)
    net = nn.Sequential(*(nn.ReLU() if i % 2 else nn.Linear(16, 16) for i in range(2000))).eval()
    tiny = Case("2,000 tiny layers: Linear(16, 16), ReLU, …", net, torch.rand(1, 16))

    modules = (torch, torchvision, torchinfo, nnmagic)
    versions = ", ".join(f"{each.__name__} {each.__version__}" for each in modules)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {date.today()}")
    print(f"Python {platform.python_version()}, {versions}")
    print(f"{WARM_UP} warm-up runs, then {seconds:g} s a case and number of threads, in turns")
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        print("\nTraced over plain, under no_grad: a ratio over 1 is our cost\n")
        traced = {"nnmagic.trace(net, x)": nnmagic.trace, "net(x)": lambda net, x: net(x)}
        with torch.no_grad():
            compare(traced, (one, batch, resnet, transformer, tiny), seconds)
        print("\ntorchinfo over nnmagic, shapes and sizes only: a ratio over 1 is our lead\n")
        info = partial(torchinfo.summary, verbose=0)
        summed = {
            "torchinfo.summary(net, input_data=x)": lambda net, x: info(net, input_data=x),
            "nnmagic.summary(net, x)": nnmagic.summary,
        }
        compare(summed, (one, resnet, transformer), seconds)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


if __name__ == "__main__":
    main()
