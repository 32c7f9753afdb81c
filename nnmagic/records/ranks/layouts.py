"""How a DTensor lies on its ranks: where it is replicated, cut into shards, or to be summed."""

import re
from collections.abc import Mapping
from math import prod

from nnmagic.display import units
from nnmagic.records.held_tensor import HeldTensor
from nnmagic.records.ranks.rank_sets import Classes, ranks_named
from nnmagic.records.tensor import Metadata

SHARD = re.compile(r"_?(?:Strided)?Shard\((?:dim=)?(-?\d+)")


Part = Metadata | HeldTensor
"""A tensor of one rank: plain, or its part of a DTensor."""


def is_replicated(part: Part) -> bool:
    """Tell whether all ranks are to hold the same of a tensor."""
    return all(each.startswith("Replicate") for each in part.placements or ())


def sharded_axis(placement: str) -> int | None:
    """Return the axis of the tensor that is cut along an axis of the mesh; None where none is."""
    found = SHARD.match(placement)
    return None if found is None else int(found[1])


def coordinate(part: Part) -> tuple[int, ...]:
    """Return where a rank is on those axes of the mesh on which ranks hold different parts.

    Ranks at the same place hold the same. That of a plain tensor is `()`.
    """
    if part.placements is None or part.mesh is None:
        return ()
    axes = zip(part.placements, part.mesh, strict=True)
    return tuple(at for placement, (at, _) in axes if not placement.startswith("Replicate"))


def misfit(parts: Mapping[int, Part]) -> tuple[str, int | None]:
    """Return what is wrong with how the parts of a tensor lie, and on which rank; empty if nothing.

    Shards have to tile the global shape; all else has one shape everywhere. What other ranks hold
    that are not there is not missed.
    """
    first = next(iter(parts.values()))
    for what, held in (
        ("global shape", {rank: each.global_shape for rank, each in parts.items()}),
        ("placements", {rank: each.placements for rank, each in parts.items()}),
        ("shape", {} if shards(first) else {rank: each.shape for rank, each in parts.items()}),
    ):
        classes = Classes(held)
        if not classes.agree:
            shown = (f"{held[ranks[0]]} on {ranks_named(ranks)}" for ranks in classes.classes[:3])
            return f"the {what} is {', '.join(shown)}", classes.odd_rank
    return _untiled(parts, first) if shards(first) else ("", None)


def shards(part: Part) -> list[int]:
    """Return the axes of the tensor that are cut; none of a plain one."""
    axes = map(sharded_axis, part.placements or ())
    return [axis % max(1, len(part.shape)) for axis in axes if axis is not None]


def _untiled(parts: Mapping[int, Part], first: Part) -> tuple[str, int | None]:
    whole, cut = first.global_shape or (), set(shards(first))
    for rank, part in parts.items():
        sizes = enumerate(zip(part.shape, whole, strict=False))
        is_uncut_whole = all(a == b for axis, (a, b) in sizes if axis not in cut)
        if len(part.shape) != len(whole) or not is_uncut_whole:
            shapes = f"{units.shape(part.shape)} of {units.shape(whole)}"
            return f"rank {rank} holds {shapes}, which is cut along another axis", rank
    places = {shard_place(part): part for part in parts.values()}
    if len(places) < _places(first) or prod(whole) == 0:
        return "", None  # some ranks are not there
    held = sum(prod(size or 0 for size in part.shape) for part in places.values())
    if held == prod(whole):
        return "", None
    odd = [rank for rank, part in parts.items() if not _is_even(part)]
    text = f"the shards hold {held:,} of the {prod(whole):,} values of {units.shape(whole)}"
    if odd:
        text += f"; {ranks_named(odd)} {units.shape(parts[odd[0]].shape)}"
    return text, min(odd, default=None)


def _is_even(part: Part) -> bool:
    """Tell whether a shard is as long as torch cuts it: all of one size, the last ones shorter."""
    for axis, placement in enumerate(part.placements or ()):
        cut = sharded_axis(placement)
        if cut is not None and part.mesh is not None and part.global_shape is not None:
            at, size = part.mesh[axis]
            longest = -(-part.global_shape[cut] // size)
            even = max(0, min(longest, part.global_shape[cut] - at * longest))
            if len(shards(part)) == 1 and part.shape[cut] != even:
                return False
    return True


def shard_place(part: Part) -> tuple[int, ...]:
    """Return where a rank is on those axes of the mesh along which the tensor is cut."""
    axes = zip(part.placements or (), part.mesh or (), strict=True)
    return tuple(at for placement, (at, _) in axes if sharded_axis(placement) is not None)


def _places(part: Part) -> int:
    """Return how many different parts of a tensor there are."""
    axes = zip(part.placements or (), part.mesh or (), strict=True)
    return prod(size for placement, (_, size) in axes if sharded_axis(placement) is not None)
