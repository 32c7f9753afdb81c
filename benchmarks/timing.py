"""Timing functions that take turns in one process."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

WARM_UP = 3
"""How many times each function runs before it is timed."""

FEWEST = 5
"""How many times each is timed at least, whatever that takes."""


@dataclass(frozen=True, slots=True)
class Times:
    """How many wall times were taken; their median and the shortest, in seconds."""

    repeats: int
    median: float
    shortest: float


def timed(functions: dict[str, Callable[[], Any]], seconds: float) -> dict[str, Times]:
    """Return the times of functions that take turns until the seconds are used up.

    A B C A B C …, so that slow drifts of the machine hit all alike.
    """
    for _ in range(WARM_UP):
        for run in functions.values():
            run()
    gc.collect()
    taken: dict[str, list[float]] = {name: [] for name in functions}
    end = perf_counter() + seconds
    while perf_counter() < end or min(map(len, taken.values())) < FEWEST:
        for name, run in functions.items():
            start = perf_counter()
            run()
            taken[name].append(perf_counter() - start)
    return {name: Times(len(t), median(t), min(t)) for name, t in taken.items()}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch compute on so many threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure beside what is required of it.

    Attributes:
        table: the table that it stands in.
        name: what is measured.
        threads: on how many threads; 0 where that says nothing.
        value: the figure.
        required: what it must reach, None where nothing is required.
        aim: what it might reach.
        unit: its unit, empty for a ratio.
        at_most: whether less is better.
        note: the seconds behind it, and the peers'.
    """

    table: str
    name: str
    value: float
    required: float | None = None
    aim: float | None = None
    threads: int = 0
    unit: str = ""
    at_most: bool = True
    note: str = ""

    @property
    def is_missed(self) -> bool:
        """Whether it misses what is required by more than 15 %."""
        if self.required is None:
            return False
        if self.at_most:
            return self.value > 1.15 * self.required
        return self.value < self.required / 1.15
