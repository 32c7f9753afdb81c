"""Which calls of two runs are the same: by name, by a map of names, by type, shape and order."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from nnmagic.records.call_log import RUNNING, STOPPED, TraceLog
from nnmagic.records.comparison.order import OrderMatcher, RunCalls, parameter_sizes

Renaming = Mapping[str, str]
"""Patterns of this side's layers, each with what the other side calls them.

`*` stands for any text, dots included; the n-th `*` on the right is what the n-th on the left is.
The first pattern that leads to a layer of the other side counts; one that ends in `*` means all
that is below, and leads only to layers of the same type or with parameters of the same shapes.
"""


class MatchedCalls(NamedTuple):
    """A call of one run and the same call of another, or a call that only one of them made.

    Attributes:
        mine: the number of the call in this run; None where only the other one made it.
        other: its number in the other run; None likewise.
        matched_by: how the pair was found: `"name"`, `"rename"` or `"order"`; `""` for no pair.
    """

    mine: int | None
    other: int | None
    matched_by: str = ""


def aligned(
    mine: TraceLog, other: TraceLog, rename: Renaming | None = None
) -> tuple[MatchedCalls, ...]:
    """Return the calls of two runs in pairs, in this run's order, then those of the other alone.

    The calls of a layer are matched in their order. Two layers of one name are the same if they
    have the same type, or parameters of the same shapes.

    Args:
        mine: this run.
        other: the other run.
        rename: what the other side calls this side's layers, where it has other names.

    Raises:
        ValueError: if a pattern on the right has more `*` than the one on the left.
    """
    left, right = _calls_by_layer(mine), _calls_by_layer(other)
    found = _by_name(mine, left, other, right, Renamer(rename or {}))
    calls = [sorted(chain.from_iterable(each.values())) for each in (left, right)]
    known = {a: b for a, (b, _) in found.items()}
    pairs = OrderMatcher(RunCalls(mine, calls[0]), RunCalls(other, calls[1]), known).pairs
    taken = {*pairs.values()}
    return (
        *(
            MatchedCalls(call, *found.get(call, (pairs[call], "order")))
            if call in pairs
            else MatchedCalls(call, None)
            for call in calls[0]
        ),
        *(MatchedCalls(None, call) for call in calls[1] if call not in taken),
    )


def _by_name(
    mine: TraceLog,
    left: Mapping[int, Sequence[int]],
    other: TraceLog,
    right: Mapping[int, Sequence[int]],
    renamed: "Renamer",
) -> dict[int, tuple[int, str]]:
    """Return for calls of this run those of the other one by their names, and how each was found.

    Args:
        mine: this run.
        left: the calls of each of its layers.
        other: the other run.
        right: the calls of each of its layers.
        renamed: what the other side calls this side's layers.
    """
    of_one = len(mine.networks) == len(other.networks) == 1
    by_name = {_key(other, layer, of_one): layer for layer in right}
    pairs: dict[int, tuple[int, str]] = {}
    for layer, calls in left.items():
        network, name = _key(mine, layer, of_one)
        names = [(*each, "rename") for each in renamed.names(name)]
        for new, is_exact, how in (*names, (name, False, "name")):
            twin = by_name.get((network, new))
            if twin is not None and (is_exact or are_alike(mine, layer, other, twin)):
                pairs |= {a: (b, how) for a, b in zip(calls, right[twin], strict=False)}
                break
    return pairs


class Renamer:
    """Gives this side's names of layers those that the other side has for them.

    Args:
        rename: patterns, each with what stands in its place.

    Raises:
        ValueError: if a pattern on the right has more `*` than the one on the left.
    """

    def __init__(self, rename: Renaming) -> None:
        self._rules: list[tuple[re.Pattern[str], list[str]]] = []
        for pattern, replacement in rename.items():
            if replacement.count("*") > pattern.count("*"):
                raise ValueError(
                    f"rename {pattern!r} to {replacement!r}: each * on the right needs one on the "
                    f"left"
                )
            parts = map(re.escape, pattern.split("*"))
            self._rules.append((re.compile("(.*)".join(parts)), replacement.split("*")))

    def names(self, name: str) -> Iterator[tuple[str, bool]]:
        """Yield the name by each pattern that matches, and whether that names the layer itself."""
        for pattern, parts in self._rules:
            found = pattern.fullmatch(name)
            if found:
                groups = (*found.groups(), *[""] * len(parts))
                pieces = zip(parts, (*groups[: len(parts) - 1], ""), strict=True)
                yield "".join(part + group for part, group in pieces), parts[-1] != ""


def _calls_by_layer(log: TraceLog) -> dict[int, list[int]]:
    """Return the calls of each layer; what a backward computed again is left out."""
    found: dict[int, list[int]] = {}
    for call in range(len(log)):
        if call not in log.recomputed and log.ended[call] not in (RUNNING, STOPPED):
            found.setdefault(log.layer[call], []).append(call)
    return found


def _key(log: TraceLog, layer: int, of_one: bool) -> tuple[str, str]:
    """Return what a layer is found by: its network, unless there is one alone, and its name."""
    network, name, _ = log.layers[layer]
    if layer in log.functions:
        name = f"{name}()"
    return "" if of_one else log.networks[network], name


def are_alike(mine: TraceLog, layer: int, other: TraceLog, twin: int) -> bool:
    """Tell whether two layers may be the same: by their type, or the shapes of their parameters."""
    one, two = mine.layers[layer], other.layers[twin]
    if not one.name or one.type == two.type:  # the networks themselves are what is compared
        return True
    return parameter_sizes(mine, layer) == parameter_sizes(other, twin)
