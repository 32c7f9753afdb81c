"""One rank of two that train a small transformer: what it really holds, as JSON.

Run as `python rank_of_plan.py RANK STORE`, a process a rank. The first one also says what it would
hold as one of many, on a process group that torch fakes.
"""

import json
import sys
from datetime import timedelta
from itertools import chain

import torch
from small_transformer import IDS, Transformer
from torch import distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore

BLOCK = {
    **dict.fromkeys(("attention.q", "attention.k", "attention.v", "up"), ColwiseParallel),
    **dict.fromkeys(("attention.o", "down"), RowwiseParallel),
}


def local(tensor):
    """Return the plain tensor that this rank holds."""
    for name in ("_local_tensor", "elem"):
        tensor = getattr(tensor, name, tensor)
    return tensor


def size(tensors):
    held = [local(each) for each in tensors if isinstance(each, torch.Tensor)]
    return sum(each.numel() * each.element_size() for each in held)


def sharded(net, mesh):
    for block in net.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def parallel(net, mesh):
    for block in net.blocks:
        parallelize_module(block, mesh, {name: style() for name, style in BLOCK.items()})
        block.attention.n_heads //= mesh.size()
    return net


def held_after_a_step(net):
    """Return the bytes of each kind that a rank holds in a step of training."""
    saved, apart = {}, set()

    def pack(tensor):
        storage = local(tensor).untyped_storage()
        saved[storage._cdata] = storage  # which keeps it, so that no other gets its number
        return tensor

    def note_parameters(module, args):
        own = module.parameters(recurse=False)  # gathered by now
        apart.update(local(each).untyped_storage()._cdata for each in own)

    apart.update(buffer.untyped_storage()._cdata for buffer in net.buffers())
    hooks = [each.register_forward_pre_hook(note_parameters) for each in net.modules()]
    optimizer = torch.optim.Adam(net.parameters())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(IDS)
    for hook in hooks:
        hook.remove()
    saved_bytes = sum(each.nbytes() for key, each in saved.items() if key not in apart)
    local(output).sum().backward() if output.requires_grad else None
    optimizer.step()
    states = chain.from_iterable(state.values() for state in optimizer.state.values())
    return {
        "param_bytes": size(net.parameters()),
        "grad_bytes": size(each.grad for each in net.parameters()),
        "optimizer_bytes": size(states),
        "buffer_bytes": size(net.buffers()),
        "saved_bytes": saved_bytes,
    }


def gathered_at_once():
    """Return the most that torch's own tracker sees gathered on one of four ranks."""
    mesh = init_device_mesh("cpu", (4,))
    with FakeTensorMode():
        net, ids = sharded(Transformer(), mesh), torch.zeros((2, 48), dtype=torch.int64)
        tracker = FSDPMemTracker(net, torch.optim.Adam(net.parameters()))
        with tracker:
            net(ids).sum().backward()
    of_modules = (stats.snapshots.values() for stats in tracker.memory_tracking.values())
    snapshots = chain.from_iterable(chain.from_iterable(of_modules))
    return max(gathered(each[IDS.device]) for each in snapshots)


def gathered(held):
    """Return the bytes of the parameters that are gathered, of all that is held at a time."""
    by_kind = {getattr(kind, "value", kind): size for kind, size in held.items()}
    return by_kind.get("Unsharded Param", 0) + by_kind.get("All Gather", 0)


def cut_twice():
    """Return the bytes of the parameters of one of four ranks: two by two."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("fsdp", "tp"))
    net = sharded(parallel(Transformer(), mesh["tp"]), mesh["fsdp"])
    return size(net.parameters())


def main(rank, path):
    store = distributed.FileStore(path, 2)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    mesh = init_device_mesh("cpu", (2,))
    found = {
        cut.__name__: held_after_a_step(cut(Transformer(), mesh)) for cut in (sharded, parallel)
    }
    distributed.barrier()
    distributed.destroy_process_group()
    if rank == 0:
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
        found |= {"gathered_bytes": gathered_at_once(), "cut_twice_bytes": cut_twice()}
        distributed.destroy_process_group()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
