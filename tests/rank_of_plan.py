"""One rank of two that train a small transformer: what it really holds, as JSON.

Run as `python rank_of_plan.py RANK STORE`, a process a rank.
"""

import json
import sys
from datetime import timedelta
from itertools import chain

import torch
from small_transformer import IDS, Transformer
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

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
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
