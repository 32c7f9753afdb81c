from collections import OrderedDict

import pytest
import torch
from rank_traces import batch, job, network, on_rank
from torch import nn

import nnmagic
from nnmagic.records.loading import ranks


def saved(traces, folder):
    for trace in traces:
        trace.save(folder / f"rank{trace.rank}.safetensors")
    return str(folder / "rank*.safetensors")


def test_a_glob_gives_one_trace_of_all_ranks(tmp_path):
    traces = job(12, odd=[11])

    joint = nnmagic.load(saved(traces, tmp_path))

    assert [each.rank for each in joint.ranks] == [*range(12)]
    assert list(joint.ranks) == traces
    assert joint.lines == ()
    assert [each.rank for each in joint.findings] == [11]


def test_files_without_a_rank_have_their_position(tmp_path):
    net = network()
    for number in (2, 10):
        nnmagic.trace(net, batch(number)).save(tmp_path / f"{number}.safetensors")

    joint = nnmagic.load(str(tmp_path / "*.safetensors"))

    assert [each.rank for each in joint.ranks] == [0, 1]
    means = [nnmagic.load(tmp_path / f"{number}.safetensors")[""].mean for number in (2, 10)]
    assert [call.mean for call in joint.calls("")] == means


def test_missing_broken_and_truncated_files_are_lines(tmp_path):
    glob, paths = saved(job(6), tmp_path), sorted(tmp_path.glob("*"))
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2])
    paths[2].write_bytes(b"nothing")
    paths[3].write_bytes(content[:-3] + b"abc")
    paths[4].unlink()
    nnmagic.params(network()).save(tmp_path / "rank7.safetensors")

    joint = nnmagic.load([*paths, tmp_path / "rank7.safetensors"])
    same = nnmagic.load(glob)

    assert [each.rank for each in joint.ranks] == [each.rank for each in same.ranks] == [0, 5]
    assert len(joint.lines) == 6
    for line, name in zip(joint.lines, ("rank1", "rank2", "rank3", "rank4", "rank7"), strict=False):
        assert name in line
        assert len(line.splitlines()) == 1
    assert joint.lines[3].endswith("No such file or directory")
    assert joint.lines[5] == "of 6 ranks 1-4 are missing"
    assert {*joint.lines} <= {*joint.table().notes}


def test_nothing_that_can_be_read_is_an_error_of_one_line(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"x")
    for source in (
        [tmp_path / "a.safetensors", tmp_path / "b.safetensors"],
        str(tmp_path / "none*.safetensors"),
        [],
    ):
        with pytest.raises(ValueError, match=r"none of 2 files|no file") as raised:
            nnmagic.load(source)

        assert len(str(raised.value).splitlines()) == 1


def test_one_path_is_one_record_as_ever(tmp_path):
    saved(job(2), tmp_path)
    odd = tmp_path / "[odd]*.safetensors"
    job(1)[0].save(odd)

    assert nnmagic.load(tmp_path / "rank1.safetensors").rank == 1
    assert nnmagic.load(odd).rank == 0
    with pytest.raises(FileNotFoundError):
        nnmagic.load(tmp_path / "rank2.safetensors")


def test_traces_that_came_back_from_other_processes_are_one(tmp_path):
    traces = job(4, odd=[3])
    saved(traces, tmp_path)

    joint = nnmagic.load([traces[0], tmp_path / "rank1.safetensors", *traces[2:]])
    nested = nnmagic.load([nnmagic.load(traces[:2]), nnmagic.load(traces[2:])])

    assert list(joint.ranks) == list(nested.ranks) == traces
    assert joint.findings == nested.findings
    with pytest.raises(TypeError):
        nnmagic.load([3])


def test_what_ranks_have_in_common_is_kept_once(tmp_path):
    traces = job(3, own=True, steps=2)

    joint = nnmagic.load(saved(traces, tmp_path))

    first, *others = [each.log for each in joint.ranks]
    for log, trace in zip(others, traces[1:], strict=True):
        assert log.layer is first.layer
        assert log.outputs is first.outputs
        assert log.tensors.metadata is first.tensors.metadata
        assert log == trace.log


def test_ranks_that_differ_share_nothing_that_they_have_not_in_common(tmp_path):
    nets = [nn.Sequential(OrderedDict(a=nn.ReLU())), nn.Sequential(OrderedDict(b=nn.ReLU()))]
    for rank, net in enumerate(nets):
        on_rank(nnmagic.trace(net, torch.ones(2)), rank, 2).save(tmp_path / f"{rank}.safetensors")

    joint = nnmagic.load(str(tmp_path / "*.safetensors"))

    assert [[call.layer for call in each] for each in joint.ranks] == [["", "a"], ["", "b"]]


def test_each_rank_keeps_its_losses(tmp_path):
    for rank in range(2):
        net = network()
        with nnmagic.tracing(net) as trace:
            for _ in range(2):
                (net(batch(rank)).square().mean() * (rank + 1)).backward()
        on_rank(trace, rank, 2).save(tmp_path / f"{rank}.safetensors")

    joint = nnmagic.load(str(tmp_path / "*.safetensors"))

    losses = [list(each.log.measures.value) for each in joint.ranks]
    assert losses[0]
    assert losses[0] != losses[1]


def test_a_rank_that_there_cannot_be_is_a_line(tmp_path):
    glob = saved(job(2), tmp_path)
    on_rank(job(1)[0], 7, 2).save(tmp_path / "rank7.safetensors")

    joint = nnmagic.load(glob)

    assert [each.rank for each in joint.ranks] == [0, 1]
    assert "rank7.safetensors" in joint.lines[0]
    assert "the rank is none of the ranks" in joint.lines[0]


def test_values_are_kept_within_a_budget(tmp_path, monkeypatch):
    glob = saved(job(4, own=True), tmp_path)
    size = 2 * sum(
        each.nbytes
        for name, each in ranks.read(tmp_path / "rank0.safetensors").arrays.items()
        if ranks.VALUES.match(name)
    )
    monkeypatch.setattr(ranks, "MOST_BYTES", size)

    joint = nnmagic.load(glob)

    kept = [each["0"].outputs[0].leading is not None for each in joint.ranks]
    assert kept == [True, True, False, False]
    assert "of the last 2 ranks no values are kept" in joint.lines
    assert joint.of_rank(3)["0"].mean is not None


@pytest.mark.slow
def test_a_hundred_ranks_are_loaded_and_folded(tmp_path):
    net = network()
    with nnmagic.tracing(net, keep="none") as trace:
        for step in range(100):
            net(batch(step))
    for rank in range(100):
        on_rank(trace, rank, 100).save(tmp_path / f"{rank}.safetensors")

    joint = nnmagic.load(str(tmp_path / "*.safetensors"))

    assert len(joint) == 100 * 900
    assert joint.agreement.sentence == "ranks 0-99 agree"
