import pickle
from dataclasses import replace

import pytest
import torch
from rank_traces import batch, job, network, on_rank
from torch import nn

import nnmagic
from nnmagic.records.ranks import activations, same_runs
from nnmagic.records.ranks.joint_trace import joined


def test_a_frame_has_a_row_a_call_of_each_rank():
    traces = job(3)

    joint = joined(traces)

    frame = joint.to_frame()
    assert isinstance(joint, nnmagic.Trace)
    assert frame.columns[0] == "rank"
    assert frame["rank"].tolist() == [rank for rank in range(3) for _ in traces[0]]
    assert frame[frame["rank"] == 2].reset_index(drop=True).equals(traces[2].to_frame())
    assert len(joint) == sum(map(len, traces)) == len(frame)
    assert [call.rank for call in joint.calls("2.mlp")] == [0, 1, 2]
    assert [joint.of_rank(rank) for rank in range(3)] == traces
    assert joint.rank is None
    assert joint.world_size == 3
    with pytest.raises(KeyError, match="no rank 7; there are 0-2"):
        joint.of_rank(7)
    with pytest.raises(KeyError, match="no layer named 'x'"):
        joint.calls("x")


def test_ranks_that_agree_say_nothing():
    joint = joined(job(4))

    assert joint.findings == ()
    assert joint.agreement.sentence == "ranks 0-3 agree"
    assert joint.agreement.notes == []


@pytest.mark.parametrize("odd", [0, 6, 7])
@pytest.mark.parametrize("digests", [True, False])
def test_the_rank_that_differs_is_named_with_the_first_layer_and_by_how_much(odd, digests):
    traces = job(8, odd=[odd], digests=digests)
    error = traces[odd].compare(traces[1])["2.mlp"].output_error

    joint = joined(traces)

    (finding,) = joint.findings
    assert (finding.rule, finding.rank, finding.layer) == (activations.RULE, odd, "2.mlp")
    assert (finding.network, finding.level, finding.iteration) == ("Sequential", "finding", 0)
    assert finding.number == pytest.approx(error, rel=0.1)
    assert finding.bound < finding.number
    assert finding.source
    assert f"; {odd} differs from Sequential.2.mlp (Linear) on by 1e-2" in finding.text
    assert "inputs are equal" in finding.text
    assert joint.agreement.sentence == finding.text.partition(": ")[0]
    assert joint.log.rank == (1 if odd == 0 else 0)


def test_of_two_ranks_it_says_that_they_part():
    joint = joined(job(2, odd=[1]))

    (finding,) = joint.findings
    assert finding.rank is None
    assert finding.text.startswith("ranks 0 and 1 part from Sequential.2.mlp (Linear) on by 1e-2")


def test_ranks_that_differ_in_other_layers_are_named_one_by_one():
    traces = job(6, odd=[1]), job(6, odd=[4], layer="0")

    joint = joined([*traces[0][:4], *traces[1][4:]])

    assert [(each.rank, each.layer) for each in joint.findings] == [(4, "0"), (1, "2.mlp")]


def test_runs_on_own_data_are_not_held_against_each_other():
    joint = joined(job(4, odd=[2], own=True))

    assert joint.findings == ()
    assert joint.agreement.sentence == "ranks 0-3, each on its own data"


def test_ranks_that_share_their_data_are_held_against_each_other_in_their_groups():
    pairs = [job(4, odd=[1]), job(4, own=True)]
    traces = [pairs[0][0], pairs[0][1], pairs[1][3], replace_rank(pairs[1][3], 2)]
    traces = [replace_rank(each, rank) for rank, each in enumerate(traces)]

    joint = joined(traces)

    assert [(each.layer, each.text[:21]) for each in joint.findings] == [
        ("2.mlp", "ranks 0 and 1 part fr")
    ]


def replace_rank(trace, rank):
    return replace(trace, log=replace(trace.log, rank=rank))


def test_a_rank_that_skipped_a_batch_is_named_with_the_first_call_that_it_lacks():
    traces = job(4, own=True, steps=3)
    short = job(4, own=True, steps=2)

    joint = joined([*traces[:2], short[2], traces[3]])

    (finding,) = joint.findings
    assert (finding.rule, finding.rank, finding.layer) == (same_runs.RULE, 2, "")
    assert "rank 2 made 18 calls, the others 27" in finding.text
    assert "iteration 2" in finding.text


def test_another_order_of_calls_is_named_by_its_first_place():
    class Net(nn.Module):
        def __init__(self, order):
            super().__init__()
            self.order = order
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            for name in self.order:
                x = getattr(self, name)(x)
            return x

    orders = ["abc", "abc", "acb", "abc"]
    traces = [
        on_rank(nnmagic.trace(Net(order), batch()), rank, 4) for rank, order in enumerate(orders)
    ]

    found = [each for each in joined(traces).findings if each.rule == same_runs.RULE]

    assert [(each.rank, each.layer, each.number) for each in found] == [(2, "b", 2)]
    assert "rank 2 called c (Linear), the others b (Linear), as call 2" in found[0].text


def test_stages_of_a_pipeline_are_not_held_against_each_other():
    stages = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 4), nn.ReLU())]
    traces = []
    for rank, stage in enumerate(stages):
        trace = nnmagic.trace(stage, batch())
        trace.log.networks[0] = f"Sequential (stage {rank})"
        traces.append(on_rank(trace, rank, 2))

    joint = joined(traces)

    assert joint.findings == ()
    assert joint.agreement.sentence == "2 networks on rank 0; rank 1"
    labels = [row.label for row in joint.table().rows]
    assert labels[0] == "Sequential (stage 0) on rank 0"
    assert labels[3] == "Sequential (stage 1) on rank 1"


def test_a_dropout_of_another_seed_parts_in_the_dropout():
    traces = []
    for rank in range(4):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), nn.Linear(6, 2))
        torch.manual_seed(5 + (rank == 3))
        with torch.no_grad():
            traces.append(on_rank(nnmagic.trace(net, batch()), rank, 4))

    (finding,) = joined(traces).findings

    assert (finding.rank, finding.layer) == (3, "1")
    assert "drops values at random" in finding.text


def test_a_trace_without_a_rank_gets_its_position():
    traces = [nnmagic.trace(network(), batch()) for _ in range(3)]

    joint = joined(traces)

    assert [each.rank for each in joint.ranks] == [0, 1, 2]
    assert joint.world_size == 3
    assert joint.agreement.notes[0].startswith("no digests were noted")


def test_missing_and_doubled_ranks_are_lines():
    traces = job(4)

    joint = joined([traces[0], traces[3], traces[3]])

    assert joint.lines[0].startswith("two traces are of rank 3: the second is shown as 2")
    assert "of 4 ranks 1 is missing" in joint.lines
    assert set(joint.lines) <= {*joint.table().notes}


def test_it_is_pickled_and_saved_whole(tmp_path):
    joint = joined(job(4, odd=[2]), ["a line"])

    joint.show(depth=2).save(tmp_path / "joint.safetensors")
    for found in (nnmagic.load(tmp_path / "joint.safetensors"), pickle.loads(pickle.dumps(joint))):
        assert type(found) is type(joint)
        assert found == joint
        assert found.findings == joint.findings
        assert found.show(depth=None).to_markdown() == joint.to_markdown()


def test_other_display_options_judge_nothing_anew():
    joint = joined(job(2))

    assert joint.show(depth=1).agreement is joint.agreement


def test_the_history_has_a_rank():
    frame = joined(job(2, steps=2)).history()

    assert frame.columns[0] == "rank"
    assert frame.groupby("rank").size().tolist() == [len(frame) // 2] * 2


def test_a_failed_rank_is_the_one_that_failed():
    traces = job(3)
    with pytest.raises(RuntimeError), nnmagic.tracing() as trace:
        network()(torch.rand(3, 5))
    traces[1] = on_rank(trace, 1, 3)

    joint = joined(traces)

    assert joint.failed.rank == 1
    assert joint.failed.layer == "0"
