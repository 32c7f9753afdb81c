"""Which tensors of two sides are the same parameter: by name, or by a map of names."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from nnmagic.records.comparison.alignment import Renamer, Renaming

MOST_LEVELS = 4
"""How many levels of names a prefix is sought in that one side has and the other lacks."""

MOST_PREFIXES = 50
"""How many prefixes of a side are tried, the most frequent ones."""


class NamePair(NamedTuple):
    """The names of one parameter on two sides.

    Attributes:
        name: the name on this side; None where only the other one has it.
        other: the name on the other side; None likewise.
        also: further names of it on this side, or on the other where only that has it.
    """

    name: str | None
    other: str | None
    also: tuple[str, ...] = ()


def paired(
    mine: Mapping[str, Hashable], other: Mapping[str, Hashable], rename: Renaming | None = None
) -> list[NamePair]:
    """Return the parameters of two sides in pairs, in this side's order, then those of the other.

    A parameter of several names counts once, and is found on the other side by any of them.

    Args:
        mine: the names on this side, each with a key: tensors of one key are one parameter.
        other: those on the other side.
        rename: what the other side calls this side's parameters, where it has other names; a
            pattern that leads to none is passed over.

    Raises:
        ValueError: if a pattern on the right has more `*` than the one on the left.
    """
    renamed = Renamer(rename or {})
    twins = {
        name: next((new for new, _ in [*renamed.names(name), (name, True)] if new in other), None)
        for name in mine
    }
    by_key: dict[Hashable, str | None] = {}  # for a name without a twin, that of another name
    for name, twin in twins.items():
        by_key[mine[name]] = by_key.get(mine[name]) or twin
    found: dict[tuple[Hashable, Hashable], list[tuple[str | None, str | None]]] = {}
    for name, own in twins.items():
        twin = own or by_key[mine[name]]
        found.setdefault((mine[name], twin and other[twin]), []).append((name, twin))
    taken = {key for _, key in found}
    for theirs, key in other.items():
        if key not in taken:
            found.setdefault((None, key), []).append((None, theirs))
    return [_pair(names, twins) for names in found.values()]


def _pair(names: list[tuple[str | None, str | None]], twins: Mapping[str, str | None]) -> NamePair:
    """Return a pair by the first of its names that is on both sides, else by its first name."""
    first = next((each for each in names if twins.get(each[0] or "") is not None), names[0])
    return NamePair(*first, tuple(a or b or "" for a, b in names if (a, b) != first))


def prefix_map(mine: Iterable[str], other: Iterable[str]) -> dict[str, str]:
    """Return the rename map that lets names of which none is on both sides meet, `{}` for none.

    Wrappers put such a prefix before all names: `"module."` (DataParallel), `"_orig_mod."`
    (torch.compile), `"model."`. At least half of the names of one side must meet.
    """
    left, right = frozenset(mine), frozenset(other)
    least = max(1, min(len(left), len(right)) / 2)
    best: tuple[int, dict[str, str]] = 0, {}
    for prefix in _prefixes(right):
        met = sum(prefix + name in right for name in left)
        best = max(best, (met, {"*": f"{prefix}*"}), key=lambda each: each[0])
    for prefix in _prefixes(left):
        met = sum(prefix + name in left for name in right)
        best = max(best, (met, {f"{prefix}*": "*"}), key=lambda each: each[0])
    return best[1] if best[0] >= least else {}


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return what many of the names begin with, up to a dot."""
    counts = Counter[str]()
    for name in names:
        levels = name.split(".")[:-1][:MOST_LEVELS]
        counts.update(f"{prefix}." for prefix in accumulate(levels, "{}.{}".format))
    return [prefix for prefix, _ in counts.most_common(MOST_PREFIXES)]
