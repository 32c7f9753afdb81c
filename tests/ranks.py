"""Real processes of gloo for the tests: programs that all ranks run, and what each tells of it.

As a program it makes the ranks: one process imports torch, the others are its forks.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from datetime import timedelta
from importlib import import_module
from pathlib import Path

TESTS = Path(__file__).parent


def run_ranks(programs, world, folder, *, seconds=120, **options):
    """Run programs in so many ranks, one after the other; return by program what each rank told.

    Args:
        programs: functions as `"module:function"`, each called as `function(rank, world, folder)`
            and, where there are options, `function(..., **options)`.
        world: how many ranks.
        folder: where they may write files.
        seconds: after so long all are stopped.
        options: what else the functions get.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback()}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    asked = json.dumps([programs, world, str(folder), seconds, options])
    command = [sys.executable, str(TESTS / "ranks.py"), asked]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 30, env=environment
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return {
        program: [json.loads(_told(folder, program, rank).read_text()) for rank in range(world)]
        for program in programs
    }


def loopback():
    return "lo0" if sys.platform == "darwin" else "lo"


def _told(folder, program, rank):
    return Path(folder) / f"{program.rpartition(':')[2]}.{rank}.json"


def _be_rank(rank, programs, world, folder, seconds, options):
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), world)
    patience = timedelta(seconds=seconds)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=patience
    )
    for program in programs:
        module, _, name = program.partition(":")
        try:
            told = getattr(import_module(module), name)(rank, world, Path(folder), **options)
        except Exception:  # noqa: BLE001 - the test says what it was
            told = {"error": traceback.format_exc()}
        _told(folder, program, rank).write_text(json.dumps(told))
        distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # a group of which a rank has failed may not be taken down in order


def _be_launcher(programs, world, folder, seconds, options):
    for program in programs:
        import_module(program.partition(":")[0])
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    arguments = programs, world, folder, seconds, options
    ranks = [context.Process(target=_be_rank, args=(rank, *arguments)) for rank in range(world)]
    for each in ranks:
        each.start()
    until = time.monotonic() + seconds
    for each in ranks:
        each.join(max(0, until - time.monotonic()))
    late = [rank for rank, each in enumerate(ranks) if each.exitcode is None]
    for rank in late:
        ranks[rank].kill()
    failed = [(rank, each.exitcode) for rank, each in enumerate(ranks) if each.exitcode]
    if late or failed:
        sys.exit(f"ranks {late} did not come to an end, {failed} failed")


if __name__ == "__main__":
    _be_launcher(*json.loads(sys.argv[1]))
