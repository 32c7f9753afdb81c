from array import array

import pytest

from nnmagic.records.call_log import TraceLog
from nnmagic.records.held_tensor import HeldTensor
from nnmagic.records.ranks.state import (
    MISFIT,
    MISSING,
    NO_GRADIENT,
    PARTED,
    TWICE,
    StateRules,
)

WORLD = 4


def held(name, rank, *, kind="parameter", digest=1, norm=2.0, shape=(8,), **more):
    return HeldTensor(
        network="net", name=name, kind=kind, shape=shape, dtype="float32", digest=digest,
        norm=norm, **more,
    )  # fmt: skip


def shard(name, rank, digest, **more):
    return held(
        name, rank, digest=digest, shape=(2,), global_shape=(8,), placements=("Shard(0)",),
        mesh=((rank, WORLD),), **more,
    )  # fmt: skip


def rules(after, before=lambda rank: [], own_data=False, world=WORLD):
    logs = {
        rank: TraceLog("net", rank=rank, world_size=world, held=after(rank),
                       held_before=before(rank), root_iteration=array("l", [0, 1, 2]))
        for rank in range(world)
    }  # fmt: skip
    return StateRules(logs, own_data=own_data)


def said(found):
    return [(each.rule, each.layer, each.rank) for each in found.found]


def test_equal_state_says_nothing():
    kinds = ("parameter", "buffer", "gradient")
    found = rules(lambda rank: [held("a.b.weight", rank, kind=kind) for kind in kinds])

    assert (found.found, found.notes) == ([], [])


@pytest.mark.parametrize("kind", ["parameter", "buffer", "gradient"])
def test_what_differs_on_one_rank_is_named_with_the_rank_and_the_layer(kind):
    def after(rank):
        odd = {"digest": 2, "norm": 2.5} if rank == 2 else {}
        names = ("0.weight", "block.4.mlp.weight", "block.4.mlp.bias", "head.weight")
        return [held(name, rank, kind=kind, **(odd if "block" in name else {})) for name in names]

    found = rules(after)

    assert said(found) == [(PARTED[kind], "block.4.mlp", 2)]
    (finding,) = found.found
    assert "ranks 0, 1, 3 equal; 2 differs" in finding.text
    assert "block.4.mlp.weight and block.4.mlp.bias" in finding.text
    assert finding.number == pytest.approx(0.25)
    assert finding.iteration == 2


def test_what_differs_from_the_start_is_told_once_and_said_to():
    def at(rank):
        return [held("fc.weight", rank, digest=7 if rank == 1 else 1)]

    found = rules(at, at)

    assert said(found) == [("parameters differ between ranks", "fc", 1)]
    assert "from the start" in found.found[0].text
    assert found.found[0].iteration == 0


def test_gradients_that_all_differ_were_never_reduced():
    found = rules(lambda rank: [held("fc.weight", rank, kind="gradient", digest=rank + 1)])

    assert said(found) == [(PARTED["gradient"], "fc", None)]
    assert "ranks 0-3 all part" in found.found[0].text
    assert "after the reduction" in found.found[0].text


def test_of_two_ranks_none_is_right():
    found = rules(lambda rank: [held("fc.weight", rank, digest=rank + 1)], world=2)

    assert found.found[0].rank is None
    assert "ranks 0 and 1 part" in found.found[0].text


def test_a_parameter_without_a_gradient_on_some_rank_is_named():
    def after(rank):
        gradients = ["a.weight", "b.weight"] if rank != 3 else ["a.weight"]
        return [held(name, rank, kind="gradient") for name in gradients]

    found = rules(after)

    assert said(found) == [(NO_GRADIENT, "b", 3)]
    assert "b.weight got no gradient on rank 3" in found.found[0].text
    assert "find_unused_parameters" in found.found[0].text


def test_a_rank_without_any_gradient_ran_no_backward():
    found = rules(
        lambda rank: [held("a.weight", rank), *[held("a.weight", rank, kind="gradient")] * rank]
    )

    assert found.found == []


def test_a_parameter_that_one_rank_has_not_is_named():
    found = rules(lambda rank: [held("a.weight", rank), *[held("b.weight", rank)] * (rank != 1)])

    assert said(found) == [(MISSING, "b", 1)]


def test_running_statistics_of_own_data_may_differ():
    def after(rank):
        return [held("bn.running_mean", rank, kind="buffer", digest=rank + 1)]

    own, same = rules(after, own_data=True), rules(after)

    assert own.found == []
    assert "bn.running_mean" in own.notes[0]
    assert said(same) == [(PARTED["buffer"], "bn", None)]


def test_shards_differ_and_their_replicas_do_not():
    def part(rank, digest):
        return held(
            "fc.weight", rank, digest=digest, shape=(4,), global_shape=(8,),
            placements=("Replicate()", "Shard(0)"), mesh=((rank // 2, 2), (rank % 2, 2)),
        )  # fmt: skip

    healthy = rules(lambda rank: [part(rank, rank % 2 + 1)])
    odd = rules(lambda rank: [part(rank, 9 if rank == 3 else rank % 2 + 1)])

    assert healthy.found == []
    assert said(odd) == [(PARTED["parameter"], "fc", None)]
    assert "ranks 1 and 3 part" in odd.found[0].text


def test_one_shard_on_two_ranks_is_named():
    found = rules(lambda rank: [shard("fc.weight", rank, 1 + (rank, 1)[rank == 2])])

    assert said(found) == [(TWICE, "fc", None)]
    assert "ranks 1 and 2 hold the same values as their shards" in found.found[0].text


def test_equal_shards_of_a_constant_say_nothing_and_of_a_pattern_are_a_line():
    constant = rules(lambda rank: [shard("norm.weight", rank, 1, is_constant=True)])
    pattern = rules(lambda rank: [shard("norm.weight", rank, 1)])

    assert (constant.found, constant.notes) == ([], [])
    assert pattern.found == []
    assert "norm.weight: ranks 0-3 hold the same values" in pattern.notes[0]


def test_shards_that_do_not_tile_are_named():
    def after(rank):
        part = shard("fc.weight", rank, rank + 1)
        cut = HeldTensor(**{name: getattr(part, name) for name in part.__slots__} | {"shape": (1,)})
        return [cut if rank == 2 else part]

    assert said(rules(after)) == [(MISFIT, "fc", 2)]
