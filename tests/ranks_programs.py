"""What the ranks of the tests run: each way to train on several of them, traced and not."""

from datetime import timedelta

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import nnmagic

STEPS = 20

OUTPUTS = "shape", "placements", "unknown"
"""What is told of each output of a layer."""


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4)
    )


def batches(rank, own=True):
    generator = torch.Generator().manual_seed(rank if own else 0)
    for _ in range(STEPS):
        yield torch.randn(6, 8, generator=generator), torch.randn(6, 4, generator=generator)


def here(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def state(net):
    return [here(each).detach().clone() for each in [*net.parameters(), *net.buffers()]]


def train(net, rank, own=True):
    """Train; return the losses, bit by bit."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    torch.manual_seed(rank)
    losses = []
    for x, y in batches(rank, own):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(here(net(x)), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item().hex())
    return losses


def compared(make, train, rank):
    """Train untraced, traced, and traced on even ranks alone; return whether all is the same."""
    plain = make()
    losses = train(plain)
    told = {"same": [], "held": [], "rank": None}
    for options in ({}, {"grad": True, "ops": True}, None):
        net = make()
        if options is None and rank % 2:
            same = train(net) == losses
        else:
            with nnmagic.tracing(**(options or {})) as trace:
                same = train(net) == losses
        is_equal = all(torch.equal(a, b) for a, b in zip(state(net), state(plain), strict=True))
        told["same"].append(same and is_equal)
        if options == {}:
            told |= {"rank": trace.rank, "world_size": trace.world_size, "notes": trace.log.notes}
            told["held"] = [
                [
                    *(each.kind, each.name, each.shape, each.global_shape, each.placements),
                    *(each.mesh, each.digest),
                ]
                for each in trace.held
            ]
            told["layers"] = [
                [
                    call.layer,
                    *([getattr(one, what) for one in call.outputs] for what in OUTPUTS),
                ]
                for call in trace
                if call.iteration == 1
            ]
            told["digests"] = all(one.digest for call in trace for one in call.outputs)
            told["networks"] = trace.log.networks
    return told


def ddp(rank, world, folder):
    """Each rank with its own batches, gradients reduced."""
    return compared(lambda: DistributedDataParallel(network()), lambda net: train(net, rank), rank)


def fsdp(rank, world, folder):
    """Parameters in shards, gathered for each layer."""
    mesh = init_device_mesh("cpu", (world,))

    def make():
        net = network()
        fully_shard(net[0], mesh=mesh)
        return fully_shard(net, mesh=mesh)

    told = compared(make, lambda net: train(net, rank), rank)
    forward = nnmagic.trace(make().eval(), torch.ones(2, 8))  # leaves parameters gathered
    return told | {"after a forward": forward.log.notes}


def tensor_parallel(rank, world, folder):
    """Each layer computed in parts, on one batch."""
    mesh = init_device_mesh("cpu", (world,))

    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        plan = {
            "0": ColwiseParallel(use_local_output=False),
            "2": RowwiseParallel(),
        }
        return parallelize_module(net, mesh, plan)

    return compared(make, lambda net: train(net, 0, own=False), rank)


class Reader(nn.Module):
    """Attends to ids and guesses the next one of 8."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 8)

    def forward(self, ids):
        x = self.embed(ids)
        return self.head(self.block(x + self.attend(x, x, x)[0])).flatten(0, 1)


def guess(net, rank):
    """Train on ids of a rank's own; return the losses, bit by bit."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(rank)
    torch.manual_seed(rank)
    losses = []
    for _ in range(4):
        ids = torch.randint(8, (2, 5), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(ids), ids.flatten())
        loss.backward()
        optimizer.step()
        losses.append(here(loss).item().hex())
    return losses


def fsdp_attention(rank, world, folder):
    """Attention of torch's own, whose weights are in shards before each call and after it."""
    mesh = init_device_mesh("cpu", (world,))

    def make():
        torch.manual_seed(0)
        net = Reader()
        for each in (net.attend, net.block, net.head):
            fully_shard(each, mesh=mesh)
        return fully_shard(net, mesh=mesh)

    return compared(make, lambda net: guess(net, rank), rank)


def parallel_loss(rank, world, folder):
    """Scores and a loss that are DTensors, and a layer's part that a collective is filling."""
    mesh = init_device_mesh("cpu", (world,))

    def make():
        torch.manual_seed(0)
        plan = {
            "embed": RowwiseParallel(input_layouts=Replicate()),
            "head": ColwiseParallel(output_layouts=Shard(-1), use_local_output=False),
        }
        return parallelize_module(Reader(), mesh, plan)

    def run(net):
        with loss_parallel():
            return guess(net, 0)

    return compared(make, run, rank)


def pipeline(rank, world, folder):
    """Each rank with one stage of the network."""

    def make():
        torch.manual_seed(rank)
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def run(net):
        stage = PipelineStage(net, rank, world, torch.device("cpu"))
        schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=nn.functional.mse_loss)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        generator, found = torch.Generator().manual_seed(0), []
        for _ in range(STEPS):
            x, y = (torch.randn(4, 8, generator=generator) for _ in range(2))
            losses = []
            optimizer.zero_grad()
            first, last = rank == 0, rank == world - 1
            last_only = {"target": y, "losses": losses} if last else {}
            schedule.step(*([x] if first else []), **last_only)
            optimizer.step()
            found += [loss.item().hex() for loss in losses]
        return found

    return compared(make, run, rank)


class Unused(nn.Module):
    """One of the layers is left out on one rank."""

    def __init__(self, leaves_out):
        super().__init__()
        self.used, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.leaves_out = leaves_out

    def forward(self, x):
        x = self.used(x)
        return x if self.leaves_out else self.other(x)


def unused(rank, world, folder):
    """A parameter without a gradient on the last rank; the others wait for it in vain."""
    group = distributed.new_group(timeout=timedelta(seconds=2))
    net = DistributedDataParallel(Unused(rank == world - 1), process_group=group)
    said = ""
    try:
        with nnmagic.tracing(net) as trace:
            for _ in range(2):
                net(torch.ones(2, 4)).sum().backward()
    except RuntimeError as error:
        said = str(error)
    path = folder / f"unused.{rank}.safetensors"
    trace.save(path)
    gradients = [each.name for each in trace.held if each.kind == "gradient"]
    return {"said": said, "gradients": gradients, "path": str(path)}


def shards(rank, world, folder):
    """What a record says of DTensors; no rank asks another, for only the first one records."""
    mesh = init_device_mesh("cpu", (world,))
    whole = torch.arange(12.0).reshape(6, 2)
    mine = whole.tensor_split(world)[rank]
    tensor = DTensor.from_local(
        mine, mesh, [Shard(0)], run_check=False, shape=whole.shape, stride=whole.stride()
    )
    told = {}
    if rank == 0:
        trace = nnmagic.trace(nn.Identity(), tensor)
        record = trace[""].outputs[0]
        told = {
            "shape": record.shape,
            "global_shape": record.global_shape,
            "placements": record.placements,
            "mesh": record.mesh,
            "values": record.values,
            "mean": record.mean,
            "caption": record.caption,
            "same": trace.output is tensor,
            "params": nnmagic.params({"w": tensor}).to_frame().iloc[0].to_dict(),
        }
        told["params"] = {key: str(value) for key, value in told["params"].items()}
        told["text"] = str(nnmagic.params({"w": tensor}))
    return told
