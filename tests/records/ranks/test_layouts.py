from typing import NamedTuple

import pytest

from nnmagic.records.ranks.layouts import coordinate, misfit, shard_place, sharded_axis


class Part(NamedTuple):
    shape: tuple
    global_shape: tuple | None = None
    placements: tuple | None = None
    mesh: tuple | None = None


def shards(shapes, whole, placement="Shard(0)"):
    return {
        rank: Part(shape, whole, (placement,), ((rank, len(shapes)),))
        for rank, shape in enumerate(shapes)
    }


@pytest.mark.parametrize(
    ("shapes", "whole", "placement"),
    [
        ([(4, 3), (4, 3)], (8, 3), "Shard(0)"),
        ([(3,), (3,), (3,), (1,)], (10,), "Shard(0)"),
        ([(1, 2), (1, 2), (0, 2)], (2, 2), "Shard(0)"),
        ([(8, 1), (8, 2)], (8, 3), "Shard(1)"),
        ([(8, 2), (8, 2)], (8, 2), "Replicate()"),
        ([(8, 2), (8, 2)], (8, 2), "Partial(sum)"),
    ],
)
def test_shards_that_tile_the_global_shape_fit(shapes, whole, placement):
    assert misfit(shards(shapes, whole, placement)) == ("", None)


def test_a_shard_of_another_size_is_named():
    text, rank = misfit(shards([(3,), (3,), (2,), (1,)], (10,)))

    assert rank == 2
    assert "9 of the 10 values of (10,)" in text
    assert "rank 2 (2,)" in text


def test_a_shard_along_another_axis_is_named():
    text, rank = misfit(shards([(4, 8), (4, 8), (8, 4)], (12, 8)))

    assert rank == 2
    assert "(8, 4) of (12, 8)" in text


def test_what_is_replicated_has_one_shape_and_one_placement():
    plain = {rank: Part((4,)) for rank in range(3)}
    odd_placement = shards([(4,), (4,), (4,)], (4,), "Replicate()")
    odd_placement[1] = odd_placement[1]._replace(placements=("Shard(0)",))

    assert misfit(plain) == ("", None)
    assert misfit(plain | {1: Part((5,))})[1] == 1
    assert misfit(odd_placement)[1] == 1
    assert "placements" in misfit(odd_placement)[0]


def test_shards_of_ranks_that_are_not_there_are_not_missed():
    parts = shards([(4,), (4,), (4,)], (12,))

    assert misfit({rank: parts[rank] for rank in (0, 2)}) == ("", None)


def test_on_a_mesh_of_two_axes_replicas_count_once():
    placements = ("Replicate()", "Shard(0)")
    parts = {
        2 * group + at: Part((4, 2), (8, 2), placements, ((group, 2), (at, 2)))
        for group in range(2)
        for at in range(2)
    }

    assert misfit(parts) == ("", None)
    assert [coordinate(part) for part in parts.values()] == [(0,), (1,), (0,), (1,)]
    assert shard_place(Part((4,))) == ()


def test_two_axes_of_a_mesh_may_cut_one_axis_of_a_tensor():
    parts = {
        2 * a + b: Part((2,), (8,), ("_StridedShard(0, sf=2)", "Shard(0)"), ((a, 2), (b, 2)))
        for a in range(2)
        for b in range(2)
    }

    assert misfit(parts) == ("", None)
    assert sharded_axis("_StridedShard(0, sf=2)") == 0
    assert "6 of the 8" in misfit({**parts, 3: parts[3]._replace(shape=(0,))})[0]
