"""A map of names, worked out from calls that were matched by their order."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.alignment import MatchedCalls, Renamer, are_alike

MOST_PATTERNS = 5
"""How many patterns are offered: more are not read."""

MOST_TRIED = 80
"""How many patterns are tried, those that come of most names first."""

MOST_STARS = 4
"""How many numbers become `*`."""

LONGEST = 120
"""Longer names are left out, for the time that several `*` take to match them."""

NUMBER = re.compile(r"\d+")

Names = Mapping[str, str | None]


def suggested_rename(
    mine: TraceLog, other: TraceLog, pairs: Sequence[MatchedCalls]
) -> dict[str, str]:
    """Return what the other side calls this side's layers, e.g. `{"blocks.*": "h.*"}`.

    The map has at most five patterns, the most specific first: those that map most names rightly,
    and none wrongly. What they leave open is matched by its order, as it was. The map is empty
    where no pair was found by its order, or where a map was given.

    Args:
        mine: this run.
        other: the other run.
        pairs: the pairs of calls.
    """
    if len(mine.networks) != 1 or len(other.networks) != 1:
        return {}
    if not any(pair.matched_by == "order" for pair in pairs):
        return {}
    if any(pair.matched_by == "rename" for pair in pairs):
        return {}
    names = _names_of(mine, other, pairs)
    layers = [{layer.name: i for i, layer in enumerate(log.layers)} for log in (mine, other)]

    def leads_to(name: str, new: str, is_exact: bool) -> bool:
        """Tell whether a pattern that maps a name to a new one would make a pair of them."""
        if new not in layers[1]:
            return False
        return is_exact or are_alike(mine, layers[0][name], other, layers[1][new])

    rules = Counter(
        rule
        for name, twin in names.items()
        if twin is not None and twin != name
        for rule in dict.fromkeys(_generalised(name, twin))
    )
    maps = {rule: _mapped(rule, names, leads_to) for rule, _ in rules.most_common(MOST_TRIED)}
    learned = {mine.layers[layer].name for layer in mine.parameters}

    def worth(rule: tuple[str, str]) -> tuple[int, int]:
        """Return what the names that a pattern maps are worth, layers with parameters twice."""
        mapped = maps[rule]
        return len(mapped) + len(mapped & learned), -_literal(rule)

    chosen: list[tuple[str, str]] = []
    while maps and len(chosen) < MOST_PATTERNS:
        best = max(maps, key=worth)
        mapped = maps.pop(best)
        if not mapped:
            break
        chosen.append(best)
        maps = {rule: names - mapped for rule, names in maps.items()}
    chosen.sort(key=_literal, reverse=True)
    return dict(chosen)


def _literal(rule: tuple[str, str]) -> int:
    """Return how many characters of a pattern stand for themselves."""
    return len(rule[0].replace("*", ""))


def _names_of(mine: TraceLog, other: TraceLog, pairs: Sequence[MatchedCalls]) -> Names:
    """Return the other side's names of this side's layers, None where there is not one alone."""
    found: dict[str, set[str]] = {}
    for a, b, _ in pairs:
        if a is not None and len(mine.layer_of(a).name) <= LONGEST:
            partners = found.setdefault(mine.layer_of(a).name, set())
            if b is not None:
                partners.add(other.layer_of(b).name)
    return {name: min(each) if len(each) == 1 else None for name, each in found.items()}


def _mapped(
    rule: tuple[str, str], names: Names, leads_to: Callable[[str, str, bool], bool]
) -> set[str]:
    """Return the names that a pattern maps rightly; none if it maps one wrongly."""
    renamed, right = Renamer(dict([rule])), set()
    for name, twin in names.items():
        for new, is_exact in renamed.names(name):
            if leads_to(name, new, is_exact):
                if new != twin:
                    return set()
                if new != name:
                    right.add(name)
    return right


def _generalised(mine: str, other: str) -> Iterator[tuple[str, str]]:
    """Yield patterns that map one name to another: numbers and a common ending become `*`.

    For `blocks.0.attn.proj` and `h.0.attn.proj` that are `blocks.*` and `h.*`, among others.
    """
    left, right = mine.split("."), other.split(".")
    for ending in range(min(len(left), len(right)) + 1):
        if ending and left[-ending] != right[-ending]:
            return
        heads = [".".join(parts[: len(parts) - ending]) for parts in (left, right)]
        tail = [] if not ending else ["*"]
        for one, two in _numbers_starred(*heads):
            yield (".".join(filter(None, [one, *tail])), ".".join(filter(None, [two, *tail])))


def _numbers_starred(mine: str, other: str) -> Iterator[tuple[str, str]]:
    """Yield both names with those numbers as `*` that are the same at the beginning or the end."""
    numbers = NUMBER.findall(mine), NUMBER.findall(other)
    leading = min(_common(*numbers), MOST_STARS)
    trailing = _common(numbers[0][::-1], numbers[1][::-1])
    for first in range(leading + 1):
        most = min(trailing, min(map(len, numbers)) - first, MOST_STARS - first)
        for last in range(most + 1):
            yield _starred(mine, first, last), _starred(other, first, last)


def _common(one: Sequence[str], two: Sequence[str]) -> int:
    """Return how many of the first entries are the same."""
    pairs = zip(one, two, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))


def _starred(name: str, first: int, last: int) -> str:
    """Return a name in which `*` stands for its first and its last numbers."""
    parts = NUMBER.split(name)
    numbers: list[str] = NUMBER.findall(name)
    stars = [
        "*" if i < first or i >= len(numbers) - last else number for i, number in enumerate(numbers)
    ]
    return "".join(part + star for part, star in zip(parts, [*stars, ""], strict=True))
