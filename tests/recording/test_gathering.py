import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gathering_ranks import LIMIT
from torch import nn

import nnmagic

TESTS = Path(__file__).parent.parent


def ran(scenario, folder, store="file"):
    """What each of three ranks told, None of one that was killed."""
    address = f"file://{folder}/store"
    if store == "tcp":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "gathering_ranks.py"), scenario, str(folder), "3"]
    done = subprocess.run(
        [*command, address], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    files = [folder / f"{rank}.json" for rank in range(3)]
    return [json.loads(each.read_text()) if each.exists() else done.stderr for each in files]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["file", "tcp"])
def test_one_rank_gets_the_traces_of_all(tmp_path, store):
    told = ran("whole", tmp_path, store)

    everyone = {"ranks": [0, 1, 2], "said": "ranks 0-2 agree"}
    assert [each["all"] for each in told] == [everyone, None, None]
    assert [each["to the last"] for each in told] == [None, None, everyone]
    assert [each["again"] for each in told] == [everyone, None, None]
    pair = {"ranks": [1, 2], "said": "ranks 1 and 2 agree"}
    assert [each["pair"] for each in told[1:]] == [pair, None]
    outside = [each["outside"]["told"] for each in told]
    assert {each["error"] for each in outside} == {"ValueError"}
    joint = nnmagic.load(str(tmp_path / "rank*.safetensors"))
    assert [each.rank for each in joint.ranks] == [0, 1, 2]
    assert joint.agreement.sentence == "ranks 0-2 agree"


@pytest.mark.slow
def test_within_a_forward_it_is_refused(tmp_path):
    for told in ran("within a forward", tmp_path):
        for each in told.values():
            assert each["told"] == {
                "error": "RuntimeError",
                "text": "gather cannot run within a forward: call it after the run",
            }
            assert each["seconds"] < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("store", ["file", "tcp"])
@pytest.mark.parametrize("scenario", ["last killed", "last killed, another slow"])
def test_a_killed_rank_ends_it_by_the_timeout_and_the_files_still_load(tmp_path, scenario, store):
    told = ran(scenario, tmp_path, store)[:2]

    for each in told:
        assert each["told"]["error"] == "TimeoutError"
        assert "rank 2 did not answer within 3 s" in each["told"]["text"]
        assert each["seconds"] < LIMIT + 15
    assert told[0]["seconds"] >= LIMIT * 0.9
    assert len(nnmagic.load(str(tmp_path / "rank*.safetensors")).ranks) == 3


@pytest.mark.slow
@pytest.mark.parametrize("store", ["file", "tcp"])
def test_a_gather_that_a_rank_skipped_puts_no_later_one_out_of_step(tmp_path, store):
    told = ran("skipped", tmp_path, store)

    for culprit in (2, 0):
        for each in told[:culprit] + told[culprit + 1 :]:
            text = each[f"without {culprit}"]["told"]["text"]
            assert text == f"gather: rank {culprit} did not answer within 3 s"
        everyone = {"ranks": [0, 1, 2], "said": "ranks 0-2 agree"}
        assert [each[f"after {culprit}"]["told"] for each in told] == [everyone, None, None]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["file", "tcp"])
def test_a_killed_rank_that_should_get_them_hangs_nobody(tmp_path, store):
    for each in ran("first killed", tmp_path, store)[1:]:
        assert each["told"]["error"] in ("TimeoutError", "RuntimeError")
        assert len(each["told"]["text"].splitlines()) == 1
        assert each["seconds"] < LIMIT + 15


def test_outside_a_job_it_says_what_to_type():
    trace = nnmagic.trace(nn.ReLU(), torch.rand(2))

    with pytest.raises(RuntimeError, match="init_process_group"):
        trace.gather()
