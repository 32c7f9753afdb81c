"""What the statistics of one tensor cost: `python -m benchmarks.statistics`.

For tensors of six sizes, in float32 and bfloat16, in microseconds on one thread:

- measure: `nnmagic.tensors.measure.measure`, the statistics and the samples.
- compiled: `statistics_of`, which reads the values once.
- NumPy: the same where nothing can be compiled, in two passes.
- one read: `Tensor.amax`, the least that any statistic could cost.

All take turns, so that slow drifts hit them alike. The first number is the least time, which a busy
neighbour disturbs least, the second the median.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from nnmagic.tensors.measure import measure
from nnmagic.tensors.statistics import statistics_of
from nnmagic.tensors.values import read

SIZES = (10, 512, 16_384, 200_704, 802_816, 3_000_000)

FEWEST = 7
"""How many times each is timed at least, whatever that takes."""


def statistics(tensor: torch.Tensor, fast: bool) -> Any:
    """Return the statistics alone."""
    return statistics_of(read(tensor).pieces(), fast=fast)


def times(functions: list[Callable[[], Any]], seconds: float) -> list[str]:
    """Return the least and the median time of functions that take turns, in microseconds."""
    taken: list[list[float]] = [[] for _ in functions]
    end = perf_counter() + seconds
    while perf_counter() < end or len(taken[0]) < FEWEST:
        for function, mine in zip(functions, taken, strict=True):
            start = perf_counter()
            function()
            mine.append(1e6 * (perf_counter() - start))
    return [f"{min(mine):,.1f} / {median(mine):,.1f}" for mine in taken]


def main() -> None:
    """Print the versions and the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.statistics", description=main.__doc__)
    budget = "how long to time each size and dtype (default: 1)"
    parser.add_argument("--seconds", type=float, default=1, help=budget)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, numpy {np.__version__}")
    print(f"{'microseconds: least / median':<30}", end="")
    print("".join(f"{name:>20}" for name in ("measure", "compiled", "NumPy", "one read")))
    for dtype in (torch.float32, torch.bfloat16):
        for size in SIZES:
            tensor = torch.randn(size).to(dtype)
            functions = [
                partial(measure, tensor),
                partial(statistics, tensor, fast=True),
                partial(statistics, tensor, fast=False),
                tensor.amax,
            ]
            name = f"{size:>9,} values, {str(dtype).removeprefix('torch.')}"
            print(f"{name:<30}" + "".join(f"{cell:>20}" for cell in times(functions, seconds)))


if __name__ == "__main__":
    main()
