"""What watching a network costs: `python -m benchmarks.live`.

- Watched over plain: training steps of resnet18 at batch 8 (forward, backward, SGD), in blocks of
  steps that take turns, with and without `nnmagic.watch`; then the same without, after 200 watches
  were opened and closed, over what it was before.
- An update: what the kernel does for one update of 100 rows, its messages to the page included
  up to the socket.
- The page's table: how many bytes a row takes.
"""

import gc
from collections.abc import Callable
from operator import truediv
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
import torchvision
from torch import nn

import nnmagic
from nnmagic.display.sheet import sheet_of

STEPS = 8
BLOCKS = 14


def timed(run: Callable[[], Any], times: int) -> float:
    """Return the seconds of so many runs."""
    start = perf_counter()
    for _ in range(times):
        run()
    return perf_counter() - start


def training() -> Callable[[], None]:
    """Return one training step of resnet18 on noise."""
    net = torchvision.models.resnet18()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()
    images, labels = torch.rand(8, 3, 224, 224), torch.randint(0, 1000, (8,))

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(net(images), labels).backward()
        optimizer.step()

    step.network = net  # type: ignore[attr-defined]
    return step


def blocks(step: Any) -> tuple[list[float], list[float]]:
    """Return the seconds of plain and of watched blocks of steps, the first step of each left out.

    The blocks take turns, so that what slows the machine down for a while slows both.
    """
    plain, watched = [], []
    for _ in range(BLOCKS):
        step()
        plain.append(timed(step, STEPS))
        with nnmagic.watch(step.network):
            step()
            watched.append(timed(step, STEPS))
    return plain, watched


def update() -> float:
    """Return the median milliseconds of an update of 100 rows."""
    layers = (nn.ReLU() if i % 2 else nn.Linear(64, 64) for i in range(99))
    net, x = nn.Sequential(*layers), torch.rand(32, 64)
    taken = []
    with nnmagic.watch(net) as widget:
        for _ in range(50):
            net(x)
            trace = widget.watcher.last
            start = perf_counter()
            widget.follow(trace)
            taken.append(perf_counter() - start)
    return 1000 * median(taken)


def size(value: Any) -> int:
    """Return about how many bytes a content takes on its way."""
    if isinstance(value, dict):
        return sum(size(key) + size(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return sum(map(size, value))
    return len(value) + 3 if isinstance(value, str | bytes) else 6


def main() -> None:
    """Print the figures."""
    torch.manual_seed(0)
    for threads in dict.fromkeys((1, torch.get_num_threads())):
        torch.set_num_threads(threads)
        step = training()
        plain, watched = blocks(step)
        low, middle, high = quantiles(map(truediv, watched, plain), n=4)
        print(
            f"threads {threads}: watched over plain {sum(watched) / sum(plain):.3f} in all; "
            f"block by block {middle:.3f} ({low:.3f} to {high:.3f})",
            flush=True,
        )
    before = timed(step, STEPS)
    for _ in range(200):
        with nnmagic.watch(step.network):
            pass
    gc.collect()
    print(f"after 200 watches over before {timed(step, STEPS) / before:.3f}", flush=True)
    print(f"an update of 100 rows: {update():.2f} ms")
    net = nn.Sequential(
        *(
            nn.Sequential(*(nn.ReLU() if i % 2 else nn.Linear(16, 16) for i in range(100)))
            for _ in range(200)
        )
    )
    for name, network, x in (
        ("resnet50", torchvision.models.resnet50(), torch.rand(1, 3, 224, 224)),
        ("20,201 calls", net, torch.rand(1, 16)),
    ):
        trace = nnmagic.trace(network.eval(), x)
        start = perf_counter()
        content = sheet_of(trace.table()).content
        seconds = perf_counter() - start
        print(
            f"{name}: {size(content) / len(trace):.0f} bytes a row, "
            f"packed in {1000 * seconds:.0f} ms"
        )


if __name__ == "__main__":
    main()
