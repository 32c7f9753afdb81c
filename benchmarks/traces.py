"""What a trace costs: its time over a plain forward pass, its memory, and what peers cost.

`nnmagic.trace(net, x)`, with exact statistics and a sample of values, over `net(x)`, both under
`torch.no_grad()`, on the CPU, in float32, random weights, eval mode. The transformer runs without
torch's fast path, which calls no layer inside a block. A plain pass right after a trace finds
colder caches, which flatters every tool in the smallest case.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import nnmagic
from benchmarks.timing import Figure, threads, timed

TABLE = "traced over plain"

PEERS_TABLE = "the peers over plain"


@dataclass(frozen=True, slots=True)
class Case:
    """A network, an input, and what the ratio must and might be.

    Attributes:
        peers: whether the peers run on it too; on the larger ones they take minutes.
    """

    name: str
    network: nn.Module
    x: Tensor
    required: float
    aim: float
    peers: bool = False


def cases() -> Iterator[Case]:
    """Yield the networks, one after the other."""
    torch.manual_seed(0)
    net = nnmagic.NeuralNetwork().eval()
    yield Case("default network, 1 picture", net, torch.rand(1, 28, 28), 3.5, 1.6, peers=True)
    yield Case("default network, 64 pictures", net, torch.rand(64, 28, 28), 1.2, 1.06)
    net = torchvision.models.resnet18().eval()
    x = torch.rand(1, 3, 224, 224)
    yield Case("resnet18, 1 × 3 × 224 × 224", net, x, 1.25, 1.05, peers=True)
    x = torch.rand(1, 128, 256)
    yield Case("12 transformer blocks, d = 256, T = 128", blocks().eval(), x, 1.3, 1.05)
    yield Case("2,000 tiny layers", tiny_layers(2000), torch.rand(1, 16), 5, 2.5, peers=True)


def blocks() -> nn.Module:
    """Return 12 transformer blocks of width 256."""
    block = nn.TransformerEncoderLayer(256, 8, dim_feedforward=1024, batch_first=True)
    return nn.TransformerEncoder(block, 12, enable_nested_tensor=False)


def tiny_layers(number: int) -> nn.Module:
    """Return a chain of Linear(16, 16) and ReLU."""
    return nn.Sequential(*(nn.ReLU() if i % 2 else nn.Linear(16, 16) for i in range(number)))


def lovely(net: nn.Module, x: Tensor) -> None:
    """Let lovely-tensors say its line of what each layer returns."""
    line = import_module("lovely_tensors").lovely

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            str(line(output))

    handles = [module.register_forward_hook(hook) for module in net.modules()]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()


PEERS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "torchlens": lambda net, x: import_module("torchlens").trace(net, x),
    "lovely_tensors": lovely,
}


def installed() -> list[str]:
    """Return the peers that can be imported."""
    found = []
    for name in PEERS:
        try:
            import_module(name)
        except ImportError:
            continue
        found.append(name)
    return found


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Let torch call every layer of a transformer in the block."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def measure(seconds: float, numbers: tuple[int, ...]) -> Iterator[Figure]:
    """Yield the ratios of all cases, on each number of threads."""
    with layer_by_layer(), torch.no_grad():
        for case in cases():
            for number in numbers:
                with threads(number):
                    yield _ratio(case, number, seconds)
        yield from _many_calls()


def measure_peers() -> Iterator[Figure]:
    """Yield the ratios of the peers; to be called last.

    Where torchlens has been imported, every function of torch is a wrapper in Python.
    """
    with layer_by_layer(), torch.no_grad():
        for case in cases():
            if case.peers:
                yield from _peers(case)


def _ratio(case: Case, number: int, seconds: float) -> Figure:
    net, x = case.network, case.x
    sides = {"plain": partial(net, x), "traced": partial(nnmagic.trace, net, x)}
    times = timed(sides, seconds)
    plain, traced = times["plain"], times["traced"]
    return Figure(
        TABLE,
        case.name,
        traced.median / plain.median,
        case.required,
        case.aim,
        threads=number,
        note=f"{1000 * plain.median:.3g} → {1000 * traced.median:.3g} ms, of {traced.repeats}",
    )


def _peers(case: Case) -> Iterator[Figure]:
    for name in installed():
        net, x = case.network, case.x
        with threads(1):
            times = timed({"plain": partial(net, x), name: partial(PEERS[name], net, x)}, 1)
        ratio = times[name].median / times["plain"].median
        yield Figure(PEERS_TABLE, f"{case.name}: {name}", ratio, threads=1)


def _many_calls(calls: int = 100_000) -> Iterator[Figure]:
    """Yield what each of very many calls in one trace costs, and how many bytes it leaves."""
    net, x = tiny_layers(1000), torch.rand(1, 16)
    times = calls // 1000
    with threads(1):
        start = perf_counter()
        for _ in range(times):
            net(x)
        plain = perf_counter() - start
        start = perf_counter()
        with nnmagic.tracing(net) as trace:
            for _ in range(times):
                net(x)
        traced = perf_counter() - start
    each = 1e6 * (traced - plain) / len(trace)
    yield Figure(TABLE, f"{calls:,} calls: cost a call", each, 20, 10, threads=1, unit="µs")
    yield Figure(TABLE, f"{calls:,} calls: kept a call", bytes_a_call(trace), 300, 60, unit="bytes")


def bytes_a_call(trace: nnmagic.Trace) -> float:
    """Return the bytes that a trace's columns take a call, the samples of values aside."""
    seen: set[int] = set()
    total = 0
    pending = [
        getattr(log, name)
        for log in (trace.log, trace.log.tensors)
        for name in log.__slots__
        if name not in ("samples", "settle", "tensors")
    ]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            pending += value
    return total / len(trace)


PEAK = """
import resource, sys, torch, torchvision, nnmagic
torch.manual_seed(0)
net, x = torchvision.models.resnet50().eval(), torch.rand(8, 3, 224, 224)
run = nnmagic.trace if sys.argv[1] == "traced" else lambda net, x: net(x)
with torch.no_grad():
    for _ in range(2):
        run(net, x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

LOAD = """
from time import perf_counter
import IPython, torch
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
begin = perf_counter()
shell.run_line_magic("load_ext", "nnmagic")
print(perf_counter() - begin)
"""


def _run(code: str, *words: str) -> float:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure_rest() -> Iterator[Figure]:
    """Yield the memory of a traced run, the time to load, and the time to draw a large record."""
    table = "besides"
    peaks = {kind: median(_run(PEAK, kind) for _ in range(3)) for kind in ("plain", "traced")}
    ratio = peaks["traced"] / peaks["plain"]  # LLVM's library is in it, some 60 MiB of file pages
    note = f"{peaks['plain'] / 1024:.0f} → {peaks['traced'] / 1024:.0f} MiB"
    name = "peak memory of resnet50, batch 8, traced over plain"
    yield Figure(table, name, ratio, 1.1, note=note)
    seconds = min(_run(LOAD) for _ in range(3))
    yield Figure(table, "%load_ext nnmagic after IPython and torch", 1000 * seconds, 50, unit="ms")
    with torch.no_grad():
        trace = nnmagic.trace(tiny_layers(20_000), torch.rand(1, 16))
    for name, draw in (("text", str), ("HTML", trace.__class__._repr_html_)):
        start = perf_counter()
        draw(trace)
        seconds = perf_counter() - start
        yield Figure(table, f"{name} of a record of 20,001 calls", 1000 * seconds, 500, unit="ms")
