"""Runs of several ranks of which one has something wrong, and healthy ones."""

from contextlib import nullcontext
from random import Random
from typing import NamedTuple

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import nnmagic

STEPS = 4


class Case(NamedTuple):
    """A run: what is wrong with it, on which rank, and in which layer it shows first."""

    fault: str
    number: int
    culprit: int
    layer: str
    seed: int
    width: int

    @property
    def name(self):
        return f"{self.fault.replace(' ', '-')}-{self.number}"

    def is_on(self, fault, rank):
        return self.fault == fault and self.culprit == rank


def case_of(fault, number, world):
    """The case of this number, the same in all processes."""
    random = Random(f"{fault} {number}")
    culprit, seed = random.randrange(world), random.randrange(1 << 30)
    layer, is_odd = random.choice(["0", "3"]), number % 2 == 1
    if fault == "another seed":
        layer = "0" if is_odd else "2"  # the first weights, or the dropout
    elif fault == "a changed weight" and is_odd:
        layer = f"module.{layer}"  # of DistributedDataParallel
    elif fault == "a missing all-reduce" and is_odd:
        layer = "module.0"
    elif fault in ("a skipped batch", "healthy"):
        layer = ""
    return Case(fault, number, culprit, layer, seed, width=world * random.randrange(2, 6))


def network(case, seed=None):
    """A network whose weights are in its layers 0 and 3."""
    torch.manual_seed(case.seed if seed is None else seed)
    between = (nn.Tanh(), nn.GELU(), nn.ReLU())[case.number % 3]
    return nn.Sequential(
        nn.Linear(8, case.width), between, nn.Dropout(0.5), nn.Linear(case.width, 4)
    )


def batch(case, source, step):
    """The batch that a source of data has at a step."""
    generator = torch.Generator().manual_seed(case.seed + step + 1000 * source)
    return torch.randn(6, 8, generator=generator), torch.randn(6, 4, generator=generator)


def change(case, net, rank):
    """Change one weight of the culprit by a thousandth."""
    if case.is_on("a changed weight", rank):
        with torch.no_grad():
            net.get_parameter(f"{case.layer}.weight").view(-1)[case.seed % 16] += 2**-10


def trained(case, net, source):
    """Train on the batches of a source, and return the trace."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with nnmagic.tracing(net) as trace:
        for step in range(STEPS):
            x, y = batch(case, source, step)
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x), y).backward()
            optimizer.step()
    return trace


def by_hand(case, rank, world):
    """Gradients reduced by hand; on the same batches where a dropout is to differ."""
    own = case.fault not in ("another seed", "healthy") or case.number % 2 == 1
    is_seeded = case.is_on("another seed", rank)
    net = network(case, case.seed + 1 if is_seeded and own else case.seed)
    change(case, net, rank)
    torch.manual_seed(case.seed + (1 + rank if own or is_seeded else 0))
    skipped = case.seed % STEPS if case.is_on("a skipped batch", rank) else None
    left = f"{case.layer}.weight" if case.is_on("a missing all-reduce", rank) else None
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with nnmagic.tracing(net) as trace:
        for step in range(STEPS):
            optimizer.zero_grad()
            if step != skipped:
                x, y = batch(case, rank if own else 0, step)
                nn.functional.mse_loss(net(x), y).backward()
            for name, parameter in net.named_parameters():
                mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                reduced = mine.clone()
                distributed.all_reduce(reduced)
                if name != left:
                    parameter.grad = reduced / world
            optimizer.step()
    return trace


def ddp(case, rank, world):
    """Distributed data parallelism, whose batch norms see other batches on each rank."""
    net = network(case)
    net.append(nn.BatchNorm1d(4))
    net = DistributedDataParallel(net)
    change(case, net, rank)
    if case.fault == "a missing all-reduce":
        net.register_comm_hook(case.is_on(case.fault, rank), reduced)
    torch.manual_seed(case.seed + rank)
    return trained(case, net, rank)


def reduced(is_left, bucket):
    """What is reduced of a bucket, or, where that is left out, what the rank had."""
    mine, summed = bucket.buffer(), bucket.buffer().clone()
    future = distributed.all_reduce(summed, async_op=True).get_future()
    return future.then(lambda _: mine if is_left else summed / distributed.get_world_size())


def accumulating(case, rank, world):
    """Distributed data parallelism that reduces at every second batch."""
    net = DistributedDataParallel(network(case))
    torch.manual_seed(case.seed + rank)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with nnmagic.tracing(net) as trace:
        for step in range(STEPS):
            x, y = batch(case, rank, step)
            with net.no_sync() if step % 2 == 0 else nullcontext():
                nn.functional.mse_loss(net(x), y).backward()
            if step % 2:
                optimizer.step()
                optimizer.zero_grad()
    return trace


def steal(case, net, rank, world):
    """Let the culprit hold its neighbour's shard."""
    if case.is_on("a wrong shard", rank):
        weight = net.get_parameter(f"{case.layer}.weight")
        whole = network(case).get_parameter(f"{case.layer}.weight")
        parts = whole.chunk(world, weight.placements[0].dim)
        with torch.no_grad():
            weight.to_local().copy_(parts[(rank + 1) % world])


def tensor_parallel(case, rank, world):
    """Each linear layer computed in parts, on one batch."""
    net = network(case)
    net[2].eval()  # a dropout of a part draws other numbers than that of the whole
    mesh = init_device_mesh("cpu", (world,))
    parallelize_module(net, mesh, {"0": ColwiseParallel(), "3": RowwiseParallel()})
    steal(case, net, rank, world)
    return trained(case, net, 0)


def fsdp(case, rank, world, mesh=None):
    """Parameters in shards; on two axes of ranks replicated along the first."""
    net, mesh = network(case), mesh or init_device_mesh("cpu", (world,))
    for layer in (net[0], net[3]):
        fully_shard(layer, mesh=mesh)
    steal(case, net, rank, world)
    torch.manual_seed(case.seed + rank)
    return trained(case, net, rank)


def hybrid(case, rank, world):
    """Shards within a half of the ranks, replicas in the other half."""
    names = "replicate", "shard"
    return fsdp(case, rank, world, init_device_mesh("cpu", (2, world // 2), mesh_dim_names=names))


def both(case, rank, world):
    """Tensor parallelism within a half of the ranks, FSDP across the halves."""
    net = network(case)
    net[2].eval()
    mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("data", "tensor"))
    plan = {"0": ColwiseParallel(), "3": RowwiseParallel()}
    parallelize_module(net, mesh["tensor"], plan)
    fully_shard(net, mesh=mesh["data"])
    return trained(case, net, rank // (world // 2))


def pipeline(case, rank, world):
    """Each rank with one stage, all of one class."""
    torch.manual_seed(case.seed + rank)
    net = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    stage = PipelineStage(net, rank, world, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with nnmagic.tracing(net) as trace:
        for step in range(STEPS):
            x, _ = batch(case, 0, step)
            optimizer.zero_grad()
            schedule.step(
                *([x] if rank == 0 else []), **({"target": x} if rank == world - 1 else {})
            )
            optimizer.step()
    return trace


HEALTHY = by_hand, ddp, tensor_parallel, fsdp, accumulating, hybrid, both, pipeline

PLANTED = {
    "a changed weight": (by_hand, ddp),
    "another seed": (by_hand,),
    "a skipped batch": (by_hand,),
    "a missing all-reduce": (by_hand, ddp),
    "a wrong shard": (tensor_parallel, fsdp),
    "healthy": HEALTHY,
}
"""The ways to run each case, in turns."""


def plant(rank, world, folder, numbers):
    """Run so many cases of each, and save what each rank recorded: `NAME.RANK.safetensors`."""
    for fault, number in numbers.items():
        for each in range(number):
            case = case_of(fault, each, world)
            way = PLANTED[fault][each % len(PLANTED[fault])]
            way(case, rank, world).save(folder / f"{case.name}.{rank}.safetensors")
    return {}
