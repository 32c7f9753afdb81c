"""What training programs are made of: data, networks, a loop, and the table that they go into."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD

FEATURES, CLASSES, BATCH = 20, 5, 64

BUGS = (
    *("flipped sign", "missing softmax", "redundant softmax", "wrong softmax implementation"),
    *("wrong loss selection", "wrong loss function", "wrong loss function 2"),
    *("wrong activation", "wrong initialisation", "missing batch normalisation"),
    *("missing normalisation", "double normalisation", "over-scaled outputs"),
    *("missing regularisation", "over-regularisation"),
    *("high learning rate", "low learning rate", "low epsilon of Adam"),
    *("wrong labels", "wrong augmentation", "unbalanced data"),
)
"""The classes of bugs that TheDeepChecker plants (Ben Braiek and Khomh 2022)."""


@dataclass(frozen=True)
class Program:
    """A program that trains.

    Attributes:
        run: runs it, with its fault or without.
        rules: the rules of which one names the fault; empty where none can.
        bug: the class of TheDeepChecker that the fault is of; empty for those of the structure.
    """

    run: Callable[[bool], Any]
    rules: tuple[str, ...]
    bug: str


PROGRAMS: dict[str, Program] = {}


def program(*rules: str, bug: str = "") -> Callable[[Callable[[bool], Any]], Callable[[bool], Any]]:
    """Put a function into the table, under its name in words."""

    def put(run: Callable[[bool], Any]) -> Callable[[bool], Any]:
        PROGRAMS[run.__name__.replace("_", " ")] = Program(run, rules, bug)
        return run

    return put


# Data.


def points(*, iterations: int = 12, scale: float = 1.0) -> Iterator[tuple[Any, Any]]:
    """Yield batches of noisy points, float32 (64, 20), and their classes, int64 (64,)."""
    centres = torch.randn(CLASSES, FEATURES) * 1.5
    for _ in range(iterations):
        classes = torch.randint(CLASSES, (BATCH,))
        yield scale * (centres[classes] + torch.randn(BATCH, FEATURES)), classes


def pictures(*, iterations: int = 8) -> Iterator[tuple[Any, Any]]:
    """Yield batches of pictures in 0..1, float32 (32, 1, 12, 12), and their classes."""
    patterns = torch.rand(CLASSES, 1, 12, 12)
    for _ in range(iterations):
        classes = torch.randint(CLASSES, (32,))
        yield (patterns[classes] + 0.2 * torch.randn(32, 1, 12, 12)).clamp(0, 1), classes


# Networks.


def perceptron(*middle: nn.Module, last: nn.Module | None = None) -> nn.Sequential:
    """Return a network for the points, (64, 20) to (64, 5)."""
    tail = [] if last is None else [last]
    first, hidden = nn.Linear(FEATURES, 32), nn.Linear(32, 32)
    return nn.Sequential(
        first, *middle, nn.ReLU(), hidden, nn.ReLU(), nn.Linear(32, CLASSES), *tail
    )


def convolutions() -> nn.Sequential:
    """Return a network for the pictures, (32, 1, 12, 12) to (32, 5)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, CLASSES)),
    )


class EncoderAndHead(nn.Module):
    """An encoder, and a head on what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU())
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder(x))


# The loop.


def train(
    net: nn.Module,
    batches: Any,
    *,
    optimizer: Any = None,
    loss: Any = None,
    clear: bool = True,
    after: Callable[[Any], None] = lambda optimizer: None,
) -> None:
    """Train a network on batches: the loop of every tutorial."""
    optimizer = optimizer or SGD(net.parameters(), 0.05)
    loss = loss or nn.CrossEntropyLoss()
    for x, y in batches:
        if clear:
            optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        after(optimizer)
