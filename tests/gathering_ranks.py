"""Ranks of real gloo processes that gather their traces; each writes what it got to a file.

`python gathering_ranks.py SCENARIO FOLDER WORLD STORE`: one process imports torch, its forks are
the ranks.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn

import nnmagic
from nnmagic.recording import gathering

LIMIT = 3.0


class Linear(nn.Linear):
    then = None

    def forward(self, x):
        return self.then() if self.then else super().forward(x)


def traced(rank):
    torch.manual_seed(0)
    net = nn.Sequential(Linear(4, 4), nn.ReLU())
    x = torch.rand(2, 4)
    return nnmagic.trace(net, x)


def brief(joint):
    if joint is None:
        return None
    return {"ranks": [each.rank for each in joint.ranks], "said": joint.agreement.sentence}


def attempt(function):
    start = time.monotonic()
    try:
        told = function()
    except Exception as error:  # noqa: BLE001 - which one is what the test asks
        told = {"error": type(error).__name__, "text": str(error)}
    return {"told": told, "seconds": time.monotonic() - start}


def whole(rank):
    trace = traced(rank)
    pair = distributed.new_group([1, 2])
    found = {
        "all": brief(trace.gather()),
        "to the last": brief(trace.gather(dst=2, timeout=20)),
        "again": brief(trace.gather()),
    }
    if rank:
        found["pair"] = brief(trace.gather(pair, dst=1))
    found["outside"] = attempt(lambda: trace.gather(pair, dst=0))
    trace.save(f"rank{rank}.safetensors")
    distributed.barrier()  # the store lives in the first rank's process
    return found


def within_a_forward(rank):
    trace, net = traced(rank), nn.Sequential(Linear(4, 4))
    net[0].then = trace.gather
    traced_call = attempt(lambda: nnmagic.trace(net, torch.rand(2, 4)))
    return {"traced": traced_call, "plain": attempt(lambda: net(torch.rand(2, 4)))}


def killed(rank, culprit):
    trace = traced(rank)
    trace.save(f"rank{rank}.safetensors")
    distributed.barrier()
    if rank == culprit:
        os._exit(0)
    return attempt(lambda: brief(trace.gather(timeout=LIMIT)))


def killed_and_slow(rank):
    """As if one were killed, where the other sees late that it was told so."""
    wait = gathering._Post._wait

    def wait_longer(post, keys, ranks):
        wait(post, keys, ranks)
        time.sleep(0.5)

    if rank == 1:
        gathering._Post._wait = wait_longer
    return killed(rank, 2)


def skipped(rank):
    """Gather twice without one rank, once the last and once the one that gets, each time again."""
    trace, told = traced(rank), {}
    trace.save(f"rank{rank}.safetensors")  # what it imports is not part of what is waited for
    for culprit in (2, 0):
        if rank != culprit:
            told[f"without {culprit}"] = attempt(lambda: brief(trace.gather(timeout=LIMIT)))
        distributed.barrier()
        told[f"after {culprit}"] = attempt(lambda: brief(trace.gather(timeout=20)))
    distributed.barrier()
    return told


SCENARIOS = {
    "whole": whole,
    "within a forward": within_a_forward,
    "skipped": skipped,
    "last killed": lambda rank: killed(rank, 2),
    "last killed, another slow": killed_and_slow,
    "first killed": lambda rank: killed(rank, 0),
}


def be_rank(rank, scenario, world, address):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    told = SCENARIOS[scenario](rank)
    Path(f"{rank}.json").write_text(json.dumps(told))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    scenario, folder, world, address = sys.argv[1:]
    os.chdir(folder)
    ranks = []
    for rank in range(int(world)):
        child = os.fork()
        if child == 0:
            be_rank(rank, scenario, int(world), address)
        ranks.append(child)
    for child in ranks:
        os.waitpid(child, 0)
