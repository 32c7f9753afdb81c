"""Which ranks ran the same network, and whether they made the same calls in the same order."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from nnmagic.display import units
from nnmagic.records.call_log import TraceLog
from nnmagic.records.finding import Finding
from nnmagic.records.findings.of_calls import finding_of
from nnmagic.records.ranks.rank_sets import Classes, ranks_text

ALIKE = 0.5
"""Networks are the same if they have more than this part of all their layers in common."""

RULE = "other calls on other ranks"

Logs = Mapping[int, TraceLog]
"""The runs of several ranks, by rank."""


def of_same_network(logs: Logs) -> list[list[int]]:
    """Return the ranks in groups that ran the same network, as those of one stage of a pipeline."""
    groups: list[tuple[frozenset[Any], list[int]]] = []
    known: dict[int, int] = {}  # ranks may share their columns
    for rank, log in logs.items():
        group = known.get(id(log.layers))
        if group is None:
            layers = _layers(log)
            alike = (i for i, (others, _) in enumerate(groups) if _are_alike(layers, others))
            group = known[id(log.layers)] = next(alike, len(groups))
            if group == len(groups):
                groups.append((layers, []))
        groups[group][1].append(rank)
    return [ranks for _, ranks in groups]


def _layers(log: TraceLog) -> frozenset[Any]:
    held = {(each.network, each.name) for each in log.held}
    return frozenset(held | {(log.networks[each.network], *each[1:]) for each in log.layers})


def _are_alike(one: frozenset[Any], two: frozenset[Any]) -> bool:
    return one == two or len(one & two) > ALIKE * len(one | two)


def orders(logs: Logs) -> dict[int, Hashable]:
    """Return for each rank what is equal on those that made the same calls in the same order."""
    layers: dict[int, int] = {}  # ranks may share their columns
    found: dict[int, Hashable] = {}
    for rank, log in logs.items():
        if id(log.layers) not in layers:
            layers[id(log.layers)] = hash((*log.networks, *log.layers))
        found[rank] = layers[id(log.layers)], hash((log.layer.tobytes(), log.parent.tobytes()))
    return found


def findings_of_order(logs: Logs, classes: Classes) -> Iterator[Finding]:
    """Yield for each class of ranks but the largest the first place at which its calls differ.

    Args:
        logs: the runs.
        classes: the ranks by the order of their calls.
    """
    usual = logs[classes.classes[0][0]]
    for ranks in classes.classes[1:]:
        other = logs[ranks[0]]
        place = _first_difference(usual, other)
        log = usual if place < len(usual) else other
        name = log.name_with_type(place)
        if place in (len(other), len(usual)):
            which = "that lacks" if place == len(other) else "beyond them"
            what = f"made {units.plural(len(other), 'call')}, the others {len(usual):,}"
            what += f": the first {which} is {name}{_iteration(log, place)}"
        else:
            what = f"called {other.name_with_type(place)}, the others {name}, as call {place}"
        who = f"rank{'s' * (len(ranks) > 1)} {ranks_text(ranks)}"
        rank = ranks[0] if classes.has_majority else None
        yield finding_of(log, place, RULE, f"{who} {what}", number=place, rank=rank)


def _first_difference(one: TraceLog, two: TraceLog) -> int:
    sides = [
        [(log.networks[layer.network], *layer[1:]) for layer in log.layers] for log in (one, two)
    ]
    pairs = zip(one.layer, one.parent, two.layer, two.parent, strict=False)
    for place, (layer, parent, other, other_parent) in enumerate(pairs):
        if sides[0][layer] != sides[1][other] or parent != other_parent:
            return place
    return min(len(one), len(two))


def _iteration(log: TraceLog, call: int) -> str:
    series, iteration = log.series_and_iteration_of(call)
    return f" of iteration {iteration}" if log.begun[series] > 1 else ""
