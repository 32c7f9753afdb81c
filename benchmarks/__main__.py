"""Measure nnmagic against a plain forward pass and its peers: `python -m benchmarks`.

Two tables of ratios of median wall times, each beside what it must reach and what it might: what a
trace costs over a plain forward pass (`benchmarks.traces`), and how far a summary is ahead of
torchinfo's (`benchmarks.summaries`). All sides take turns in one process. A neighbour that takes a
core is not averaged out: where a median is far above the shortest time, run again. The same run
checks shapes and statistics against float64.

It exits with 1 where a figure misses what is required by more than 15 %, or a number is wrong.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks import correctness, summaries, traces
from benchmarks.timing import Figure

PACKAGES = ("torch", "torchvision", "torchinfo", "torchlens", "lovely-tensors", "nnmagic")


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def shown(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Print figures as they come."""
    table = ""
    for figure in figures:
        if figure.table != table:
            table = figure.table
            print(f"\n{table:<54}{'threads':>8}{'today':>10}{'required':>10}{'aim':>8}")
        cells = [
            f"{figure.threads or '':>8}",
            f"{figure.value:>10.2f}",
            f"{'' if figure.required is None else f'{figure.required:g}':>10}",
            f"{'' if figure.aim is None else f'{figure.aim:g}':>8}",
        ]
        missed = "  MISSED" if figure.is_missed else ""
        print(
            f"{figure.name:<54}{''.join(cells)} {figure.unit:<6}{figure.note}{missed}", flush=True
        )
        yield figure


def main() -> int:
    """Print the machine, the versions and the tables; return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Print all ratios.")
    budget = "how long to time each case on each number of threads (default: 3)"
    parser.add_argument("--seconds", type=float, default=3, help=budget)
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    parser.add_argument("--chart", type=Path, help="draw the ratios into this file, an SVG or PNG")
    parser.add_argument("--no-peers", action="store_true", help="leave torchlens and others out")
    given = parser.parse_args()

    numbers = tuple(dict.fromkeys((1, torch.get_num_threads())))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {date.today()}"
    print(f"{machine}, Python {platform.python_version()}")
    print(", ".join(f"{name} {number}" for name, number in versions().items()))
    figures = [
        *shown(traces.measure(given.seconds, numbers)),
        *shown(traces.measure_rest()),
        *shown(summaries.measure(given.seconds)),
        *shown(() if given.no_peers else traces.measure_peers()),
    ]
    print("\nshapes and statistics against float64")
    wrong = 0
    for name, errors in correctness.check():
        wrong += len(errors)
        print(f"  {name}: {'; '.join(errors) or 'right'}")
    if given.json:
        record = {
            "machine": machine,
            "versions": versions(),
            "figures": [asdict(figure) for figure in figures],
        }
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if given.chart:
        from benchmarks.chart import draw

        draw(figures, given.chart)
    missed = sum(figure.is_missed for figure in figures)
    if missed:
        print(f"\n{missed} of {len(figures)} figures miss what is required by more than 15 %")
    return 1 if missed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
