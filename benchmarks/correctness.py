"""Whether the figures that are measured for speed are right: shapes and statistics of a trace."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import nnmagic
from benchmarks.traces import cases, layer_by_layer

MEAN = 1e-5
"""The largest error of a mean, as a share of the larger of |mean| and std."""

STD = 1e-5
"""The largest relative error of a standard deviation."""


def check() -> Iterator[tuple[str, list[str]]]:
    """Yield for each network of the first table what is wrong with its trace."""
    with layer_by_layer(), torch.no_grad():
        for case in cases():
            yield case.name, list(_wrong(case.network, case.x))


def _wrong(net: nn.Module, x: Tensor) -> Iterator[str]:
    seen: list[tuple[str, Tensor]] = []

    def hook(name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            seen.append((name, first.detach().clone()))

        return note

    handles = [m.register_forward_hook(hook(n)) for n, m in net.named_modules()]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    trace = nnmagic.trace(net, x)
    times: Counter[str] = Counter()
    for name, output in seen:
        call, exact = trace.calls(name)[times[name]], output.double()
        times[name] += 1
        mean, std = exact.mean().item(), exact.std().item()
        if call.outputs[0].shape != tuple(output.shape):
            yield f"{name}: shape {call.outputs[0].shape} for {tuple(output.shape)}"
        if (call.min, call.max) != (exact.min().item(), exact.max().item()):
            yield f"{name}: range"
        if abs(call.mean - mean) > MEAN * max(abs(mean), std):
            yield f"{name}: mean {call.mean} for {mean}"
        if abs(call.std - std) > STD * std:
            yield f"{name}: std {call.std} for {std}"
        if call.zeros != (output == 0).double().mean().item():
            yield f"{name}: zeros"
