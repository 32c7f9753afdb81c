"""Traces as the ranks of a job save them, made in one process."""

import zlib
from array import array
from dataclasses import replace

import torch
from torch import nn

import nnmagic


def on_rank(trace, rank, world, *, digests=True, held=(), held_before=()):
    """The trace as that rank would have recorded it; small tensors get digests of their values."""
    log = trace.log
    kept = [log.tensors.samples_of(tensor).leading for tensor in range(len(log.tensors))]
    numbers = [0 if each is None else 1 + zlib.crc32(each.data) for each in kept]
    tensors = replace(log.tensors, digests=array("q", numbers if digests else []))
    log = replace(
        log, rank=rank, world_size=world, tensors=tensors, held=[*held],
        held_before=[*held_before],
    )  # fmt: skip
    return replace(trace, log=log)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, x):
        return x + self.mlp(self.norm(x))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), Block(), Block(), nn.Linear(6, 2))


def batch(seed=0):
    return torch.rand(3, 4, generator=torch.Generator().manual_seed(seed))


def change(net, layer):
    """Change the weight of a layer by a hundredth."""
    with torch.no_grad():
        net.get_submodule(layer).weight.mul_(1.01)
    return net


def job(world=8, odd=(), layer="2.mlp", *, own=False, steps=1, **options):
    """The traces of all ranks; those that are odd have another weight in a layer."""
    traces = []
    for rank in range(world):
        net = change(network(), layer) if rank in odd else network()
        with nnmagic.tracing(net) as trace:
            for step in range(steps):
                net(batch(step + (1000 * rank if own else 0)))
        traces.append(on_rank(trace, rank, world, **options))
    return traces
