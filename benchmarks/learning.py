"""What recording a training loop costs: `python -m benchmarks.learning`.

Training steps (forward, backward, SGD with momentum) of the default network at batch 64 and of
resnet18 at batch 8, on one thread, in CPU time: blocks of untraced steps, of steps that are all
recorded, and of steps that are passed over take turns in one process, with and without `grad`.
What `every=N` costs is one recorded step and N - 1 that are passed over, over N untraced ones. The
medians of the blocks' ratios are shown, with the least and the greatest.

    python -m benchmarks.learning --blocks 7     # more blocks, where the machine is not quiet
"""

import argparse
import gc
from collections.abc import Callable, Iterator
from statistics import median
from time import process_time
from typing import Any

import torch
import torchvision
from torch import nn

import nnmagic

EVERY = (1, 10, 100)

BARS = {False: (1.30, 1.06, 1.02), True: (1.6, 1.10, 1.03)}
"""What resnet18 must stay below at `every` 1, 10 and 100, without gradients and with."""


def training(name: str) -> tuple[nn.Module, Callable[[], None]]:
    """Return a network, and one training step of it on noise."""
    if name == "resnet18":
        net: nn.Module = torchvision.models.resnet18()
        images, labels = torch.rand(8, 3, 224, 224), torch.randint(1000, (8,))
    else:
        net = nnmagic.NeuralNetwork()
        images, labels = torch.rand(64, 1, 28, 28), torch.randint(10, (64,))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(net(images), labels).backward()
        optimizer.step()

    return net, step


def seconds(step: Callable[[], None], steps: int) -> float:
    """Return the CPU seconds of a step, the mean of some."""
    start = process_time()
    for _ in range(steps):
        step()
    return (process_time() - start) / steps


def ratios(step: Any, net: nn.Module, steps: int, *, grad: bool) -> Iterator[tuple[float, float]]:
    """Yield a recorded step over an untraced one, and one that is passed over, block by block."""
    while True:
        gc.collect()
        plain = seconds(step, steps)
        with nnmagic.tracing(net, grad=grad):
            step()  # the first one is met with what happens once
            recorded = seconds(step, steps)
        plain = (plain + seconds(step, steps)) / 2
        with nnmagic.tracing(net, grad=grad, every=10**9):
            step()
            passed_over = seconds(step, steps)
        yield recorded / plain, passed_over / plain


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=5)
    blocks = parser.parse_args().blocks
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, CPU time, {blocks} blocks of each")
    for name, steps in (("default network, batch 64", 200), ("resnet18", 4)):
        net, step = training(name)
        seconds(step, 3)
        for grad in (False, True):
            found = ratios(step, net, steps, grad=grad)
            pairs = [next(found) for _ in range(blocks)]
            for which, every in enumerate(EVERY):
                costs = sorted((one + (every - 1) * other) / every for one, other in pairs)
                bar = f" (at most {BARS[grad][which]})" if name == "resnet18" else ""
                print(
                    f"{name}{', grad' if grad else ''}, every {every}: {median(costs):.3f} "
                    f"({costs[0]:.3f} to {costs[-1]:.3f}){bar}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
