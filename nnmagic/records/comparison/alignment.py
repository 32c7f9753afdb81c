"""Which calls of two runs are the same: by name, by a map of names, by type, shape and order."""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from math import prod
from typing import NamedTuple

from nnmagic.records.call_log import RUNNING, STOPPED, TraceLog

Renaming = Mapping[str, str]
"""Patterns of this side's layers, each with what the other side calls them.

`*` stands for any text, dots included; the n-th `*` on the right is what the n-th on the left is.
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
    renamed = Renamer(rename or {})
    left, right = _calls_by_layer(mine), _calls_by_layer(other)
    of_one = len(mine.networks) == len(other.networks) == 1
    by_name = {_key(other, layer, of_one): layer for layer in right}
    pairs: dict[int, tuple[int, str]] = {}
    for layer, calls in left.items():
        network, name = _key(mine, layer, of_one)
        new_name = renamed(name)
        twin = by_name.get((network, name if new_name is None else new_name))
        if twin is None or not (new_name is not None or _are_alike(mine, layer, other, twin)):
            continue
        how = "name" if new_name is None else "rename"
        pairs |= {a: (b, how) for a, b in zip(calls, right[twin], strict=False)}
    taken = {b for b, _ in pairs.values()}
    rest = sorted(call for calls in left.values() for call in calls if call not in pairs)
    others = sorted(call for calls in right.values() for call in calls if call not in taken)
    pairs |= {a: (b, "order") for a, b in _by_order(mine, rest, other, others)}
    taken = {b for b, _ in pairs.values()}
    everything = sorted(call for calls in left.values() for call in calls)
    return (
        *(MatchedCalls(call, *pairs.get(call, (None, ""))) for call in everything),
        *(MatchedCalls(None, call) for call in others if call not in taken),
    )


class Renamer:
    """Gives this side's names of layers those that the other side has for them.

    Args:
        rename: patterns, each with what stands in its place; the first that matches counts.

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

    def __call__(self, name: str) -> str | None:
        """Return the name on the other side, None where no pattern matches."""
        for pattern, parts in self._rules:
            found = pattern.fullmatch(name)
            if found:
                groups = (*found.groups(), *[""] * len(parts))
                pieces = zip(parts, (*groups[: len(parts) - 1], ""), strict=True)
                return "".join(part + group for part, group in pieces)
        return None


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


def _are_alike(mine: TraceLog, layer: int, other: TraceLog, twin: int) -> bool:
    if mine.layers[layer].type == other.layers[twin].type:
        return True
    return _sizes(mine, layer) == _sizes(other, twin)


def _sizes(log: TraceLog, layer: int) -> Hashable:
    """Return the shapes of a layer's own parameters, whichever way they are called and turned."""
    return tuple(sorted(tuple(sorted(shape)) for shape in log.parameters.get(layer, {}).values()))


def _by_order(
    mine: TraceLog, left: Sequence[int], other: TraceLog, right: Sequence[int]
) -> Iterable[tuple[int, int]]:
    """Yield pairs among the calls that no name matches: of one kind and shape, in one order."""
    keys = [_kind(mine, call) for call in left], [_kind(other, call) for call in right]
    for a, b, size in SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
        yield from zip(left[a : a + size], right[b : b + size], strict=True)


def _kind(log: TraceLog, call: int) -> Hashable:
    """Return what calls have in common that may be the same under other names.

    The type is that of torch's own layers without parameters alone: those who write a network anew
    name their own classes anew.
    """
    layer = log.layer[call]
    sizes = _sizes(log, layer)
    is_named = not sizes and layer not in log.custom
    output = log.main_output(call)
    shape = () if output is None else log.tensors.metadata_of(output).shape
    calls_others = call + 1 < len(log) and log.parent[call + 1] == call
    has_items = prod(size or 1 for size in shape)
    return sizes, log.layers[layer].type if is_named else "", has_items, shape, calls_others
