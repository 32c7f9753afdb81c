"""What a comparison costs: `python -m benchmarks.comparing`.

resnet18 on one picture of 224 by 224 beside a copy of it, in CPU time, on one thread: the traced
call, the other side and all comparisons, over one plain pass of both sides together. They take
turns in one process; the medians of the ratios are shown, with the least and the greatest.
"""

import argparse
import copy
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import torch
import torchvision
from torch import nn

import nnmagic

CASES: dict[str, tuple[str, dict[str, bool], float | None]] = {
    "against bfloat16": ("bfloat16", {}, 3.0),
    "against bfloat16, isolated": ("bfloat16", {"isolate": True}, 4.0),
    "against float64": ("float64", {}, None),
    "against eval": ("eval", {}, None),
}
"""The word, the options, and what the ratio must stay below."""


def seconds(call: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    start = process_time()
    call()
    return process_time() - start


def other_side(net: nn.Module, x: torch.Tensor, word: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a copy of the network as the word says, and its input."""
    dtype = getattr(torch, word, None)
    other = copy.deepcopy(net)
    return (other, x) if dtype is None else (other.to(dtype), x.to(dtype))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=7, help="how often each is measured")
    blocks = parser.parse_args().blocks
    torch.set_num_threads(1)
    net, x = torchvision.models.resnet18().eval(), torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        for name, (word, options, bar) in CASES.items():
            other, y = other_side(net, x, word)
            compared = nnmagic.against(word, **options)
            ratios = []
            for block in range(blocks + 1):
                plain = seconds(lambda: (net(x), other(y)))  # noqa: B023 - called at once
                ratio = seconds(lambda: compared(net, x)) / plain  # noqa: B023 - likewise
                ratios += [ratio] if block else []  # the first warms up
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            held = "" if bar is None else f", bar {bar}"
            print(f"{name:28} {median(ratios):5.2f} ({spread}{held})")


if __name__ == "__main__":
    main()
