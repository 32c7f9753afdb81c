"""Networks whose parameters are DTensors: FSDP and tensor parallelism, one process of gloo."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel, RowwiseParallel, parallelize_module
)
import nnmagic

store = distributed.FileStore(sys.argv[1], 1)
distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def sharded():
    net = network()
    fully_shard(net[0], mesh=mesh)
    return fully_shard(net, mesh=mesh)


def parallel():
    plan = {
        "0": ColwiseParallel(use_local_output=False),
        "2": RowwiseParallel(use_local_output=False),
    }
    return parallelize_module(network(), mesh, plan)


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


found = {}
for make in (sharded, parallel):
    plain, traced, x = make(), make(), torch.rand(3, 4)
    expected = plain(x)
    trace = nnmagic.trace(traced, x)
    for output in (expected, trace.output):
        whole(output).sum().backward()
    pairs = zip(plain.parameters(), traced.parameters(), strict=True)
    frame = trace.to_frame()
    found[make.__name__] = {
        "layers": frame.layer.tolist(),
        "types": frame.type.tolist(),
        "shapes": frame.output_shape.tolist(),
        "kind": type(trace.output) is type(expected),
        "same": torch.equal(whole(trace.output), whole(expected)),
        "gradients": all(torch.equal(whole(a.grad), whole(b.grad)) for a, b in pairs),
        "total": nnmagic.params(traced).total,
    }
print(json.dumps(found))
distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    store = tmp_path_factory.mktemp("gloo") / "store"
    command = [sys.executable, "-c", SCRIPT, str(store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "root", "first"),
    [("sharded", "FSDPSequential", "FSDPLinear"), ("parallel", "Sequential", "Linear")],
)
def test_a_network_of_dtensors_is_traced_and_stays_as_it_is(told, name, root, first):
    assert told[name] == {
        "layers": ["", "0", "1", "2"],
        "types": [root, first, "ReLU", "Linear"],
        "shapes": [[3, 2], [3, 8], [3, 8], [3, 2]],
        "kind": True,
        "same": True,
        "gradients": True,
        "total": (4 * 8 + 8) + (8 * 2 + 2),
    }
