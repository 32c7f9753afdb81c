"""Tensors that are spread over processes: what is here of them, and what they say of the rest."""

from contextlib import contextmanager

import pytest
import torch
from exact_statistics import check, exact
from measured import record
from torch import distributed, nn
from torch.distributed import _functional_collectives as collectives
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import nnmagic
from nnmagic.tensors.digest import digest_of
from nnmagic.tensors.shards import (
    is_partial,
    is_spread,
    is_whole,
    mesh_of,
    part_here,
    placements_of,
)


@pytest.fixture
def third_of_four():
    distributed.init_process_group("fake", store=FakeStore(), rank=2, world_size=4)
    yield init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    distributed.destroy_process_group()


@pytest.fixture
def alone():
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_placements_and_the_place_in_the_mesh_are_told_axis_by_axis(third_of_four):
    here = torch.randn(3, 4)
    for placements, told in (
        ((Shard(0), Replicate()), ("Shard(0)", "Replicate()")),
        ((Replicate(), Shard(1)), ("Replicate()", "Shard(1)")),
        ((Partial(), Replicate()), ("Partial(sum)", "Replicate()")),
    ):
        tensor = DTensor.from_local(here, third_of_four, placements, run_check=False)

        assert placements_of(tensor) == told
        assert mesh_of(tensor) == ((1, 2), (0, 2))
        assert part_here(tensor).equal(here)
        assert (is_spread(tensor), is_whole(tensor), is_partial(tensor)) == (True, False, True)

    copies = DTensor.from_local(here, third_of_four, (Replicate(), Replicate()), run_check=False)
    assert not is_partial(copies)


def test_any_other_tensor_is_here_itself():
    for tensor in (torch.ones(2), nn.Parameter(torch.ones(2)), nn.Buffer(torch.ones(2))):
        assert part_here(tensor) is tensor
        assert (is_spread(tensor), is_whole(tensor), is_partial(tensor)) == (False, True, False)
    assert is_whole(None)


def test_what_a_collective_is_filling_is_waited_for_and_measured(alone):
    plain = torch.randn(5, 3)
    pending = collectives.all_reduce(plain, "sum", distributed.group.WORLD)
    assert isinstance(pending, collectives.AsyncCollectiveTensor)

    trace = nnmagic.trace(nn.Identity(), pending)

    record = trace[""].outputs[0]
    assert trace.output is pending
    assert not is_whole(pending)
    assert (record.shape, record.values, record.unknown) == ((5, 3), plain.tolist(), "")
    assert record.digest == digest_of(plain)


@contextmanager
def devices(backend, store, number):
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=number)
    try:
        yield torch.distributed.device_mesh.init_device_mesh("cpu", (number,))
    finally:
        torch.distributed.destroy_process_group()


def test_a_distributed_tensor_of_which_all_is_here_is_measured():
    plain = torch.randn(6, 4)
    with devices("gloo", torch.distributed.HashStore(), 1) as mesh:
        for placement in (Shard(0), Replicate(), Partial()):
            found = record(DTensor.from_local(plain, mesh, [placement]))

            check(found, exact(plain))
            assert (found.shape, found.values) == ((6, 4), plain.tolist())


def test_of_a_distributed_tensor_the_part_that_is_here_is_measured():
    plain = torch.randn(6, 4)
    with devices("fake", FakeStore(), 2) as mesh:
        found = [
            record(DTensor.from_local(plain, mesh, [placement]))
            for placement in (Shard(0), Partial(), Replicate())
        ]

    for each in found:
        check(each, exact(plain))
        assert (each.shape, each.mesh) == ((6, 4), ((0, 2),))
    assert [each.global_shape for each in found] == [(12, 4), (6, 4), (6, 4)]
    assert [each.placements for each in found] == [
        ("Shard(0)",),
        ("Partial(sum)",),
        ("Replicate()",),
    ]


def test_distributed_tensors_are_compared_by_what_is_here_and_tied_ones_are_one():
    plain, short = torch.randn(6, 4), torch.randn(6, 4).bfloat16()
    expected = nnmagic.compare(
        {"w": plain, "v": short}, {"w": plain.bfloat16(), "v": short.float()}
    )
    with devices("fake", FakeStore(), 2) as mesh:
        w, rounded, v, wide = (
            DTensor.from_local(each, mesh, [Shard(0)])
            for each in (plain, plain.bfloat16(), short, short.float())
        )

        found = nnmagic.compare({"w": w, "v": v}, {"w": rounded, "v": wide})
        params = nnmagic.params({"w": w, "tied": w.detach(), "v": v})

    assert [row.verdict for row in found.rows] == [row.verdict for row in expected.rows]
    assert [row.rounded for row in found.rows] == [True, True]
    assert [row.tied_to for row in params.rows] == [None, "w", None]
    assert (params["w"].shape, params["w"].count, params.total) == ((12, 4), 48, 96)
