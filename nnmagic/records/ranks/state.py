"""Whether the ranks hold the same parameters, buffers and reduced gradients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from nnmagic.records.finding import Finding
from nnmagic.records.held_tensor import BUFFER, GRADIENT, PARAMETER, HeldTensor
from nnmagic.records.ranks.layouts import coordinate, misfit, shard_place
from nnmagic.records.ranks.rank_sets import Classes, ranks_named, short
from nnmagic.records.ranks.same_runs import Logs

OF_OWN_DATA = ("running_mean", "running_var", "num_batches_tracked")
"""Buffers that a batch norm makes of the data that its rank gets."""

PARTED = {kind: f"{kind}s differ between ranks" for kind in (PARAMETER, BUFFER, GRADIENT)}

MISSING, NO_GRADIENT = "missing on some ranks", "no gradient on some ranks"

MISFIT, TWICE = "shards do not fit together", "the same shard twice"

Key = tuple[str, str, str]
"""A network, a kind and a name."""


class StateRules:
    """Holds against each other what ranks that ran the same network have at the end.

    Args:
        logs: their runs, at least two.
        own_data: whether each rank got data of its own.

    Attributes:
        found: what is wrong.
        notes: lines on what differs and may.
    """

    def __init__(self, logs: Logs, *, own_data: bool) -> None:
        self.logs = logs
        self.own_data = own_data
        self.notes: list[str] = []
        self._last = max((max(log.root_iteration, default=0) for log in logs.values()), default=0)
        self._told = set[tuple[str, str, str, Classes]]()
        before = _by_name({rank: log.held_before for rank, log in logs.items()})
        after = _by_name({rank: log.held for rank, log in logs.items()})
        self.found = [*self._of(before, 0, "from the start")]
        self.found += self._of_missing(after)
        self.found += self._of(after, self._last, "after the run")

    def _of(
        self, held: Mapping[Key, Mapping[int, HeldTensor]], iteration: int, when: str
    ) -> Iterator[Finding]:
        """Yield what is wrong with what the ranks held at one time, and was not before."""
        parted: dict[tuple[str, str, Classes], list[str]] = {}
        for (network, kind, name), parts in held.items():
            for finding, classes in self._of_layout(network, kind, name, parts):
                if self._is_new(finding.rule, network, name, classes):
                    yield replace(finding, iteration=iteration)
            for classes in _replicas(parts):
                if not classes.agree and self._is_new(kind, network, name, classes):
                    parted.setdefault((network, kind, classes), []).append(name)
        for (network, kind, classes), names in parted.items():
            for finding in self._of_parted(network, kind, classes, names, held, when):
                yield replace(finding, iteration=iteration)

    def _is_new(self, rule: str, network: str, name: str, classes: Classes) -> bool:
        key = rule, network, name, classes
        is_new = key not in self._told
        self._told.add(key)
        return is_new

    def _finding(self, rule: str, network: str, name: str, **more: Any) -> Finding:
        layer = name.rpartition(".")[0]
        return Finding(rule=rule, network=network, layer=layer, iteration=self._last, **more)

    def _of_missing(self, held: Mapping[Key, Mapping[int, HeldTensor]]) -> Iterator[Finding]:
        """Yield a finding for each set of ranks that lacks tensors which others have."""
        have_gradients = {
            rank for (_, kind, _), parts in held.items() if kind == GRADIENT for rank in parts
        }
        networks: dict[str, set[int]] = {}
        for (network, _, _), parts in held.items():
            networks.setdefault(network, set()).update(parts)
        lacking: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
        for (network, kind, name), parts in held.items():
            there = networks[network] & have_gradients if kind == GRADIENT else networks[network]
            lacks = tuple(sorted(there - parts.keys()))
            if lacks:
                lacking.setdefault((network, kind, lacks), []).append(name)
        for (network, kind, lacks), names in lacking.items():
            is_gradient = kind == GRADIENT
            what = f"{_listed(names)} got no gradient" if is_gradient else f"{_listed(names)} lacks"
            text = f"{what} on {ranks_named(lacks)}, and is there on the others"
            if is_gradient:
                text = (
                    f"{what} on {ranks_named(lacks)}, and did on the others: "
                    f"DistributedDataParallel waits for it, unless find_unused_parameters=True"
                )
            rule = NO_GRADIENT if is_gradient else MISSING
            yield self._finding(rule, network, names[0], text=text, rank=lacks[0])

    def _of_layout(
        self, network: str, kind: str, name: str, parts: Mapping[int, HeldTensor]
    ) -> Iterator[tuple[Finding, Classes]]:
        """Yield what is wrong with how a tensor lies on the ranks, and their classes by it."""
        text, rank = misfit(parts)
        if text:
            classes = Classes({rank: (part.shape, part.placements) for rank, part in parts.items()})
            text = f"{kind} {name}: {text}"
            yield self._finding(MISFIT, network, name, text=text, rank=rank), classes
        elif kind == PARAMETER:
            classes = _shards(parts)
            same = classes.classes[:1]
            if not same or len(same[0]) < 2:
                return
            text = f"parameter {name}: {ranks_named(same[0])} hold the same values as their shards"
            if not classes.agree:
                yield self._finding(TWICE, network, name, text=text), classes
            elif self._is_new(TWICE, network, name, classes):
                self.notes.append(f"{text}; unless it repeats itself, all have loaded one")

    def _of_parted(
        self,
        network: str,
        kind: str,
        classes: Classes,
        names: Sequence[str],
        held: Mapping[Key, Mapping[int, HeldTensor]],
        when: str,
    ) -> Iterator[Finding]:
        """Yield that ranks hold other values of some tensors."""
        if kind == BUFFER and self.own_data:
            own = [name for name in names if name.rpartition(".")[2] in OF_OWN_DATA]
            names = [name for name in names if name not in own]
            if own:
                self.notes.append(
                    f"{_listed(own)}: each rank has the batch statistics of its own data"
                )
        if not names:
            return
        parts = held[network, kind, names[0]]
        usual, other = parts[classes.classes[0][0]], parts[classes.classes[1][0]]
        number = _change_of_norm(usual, other)
        how = when if not number else f"by {short(number)} of its norm, {when}"
        if kind == GRADIENT:
            how = how.replace(when, "after the reduction")
        text = f"{kind} {_listed(names)}: {classes.parting(how)}"
        yield self._finding(
            PARTED[kind], network, names[0], text=text, number=number, rank=classes.odd_rank
        )


def _by_name(held: Mapping[int, Sequence[HeldTensor]]) -> dict[Key, dict[int, HeldTensor]]:
    found: dict[Key, dict[int, HeldTensor]] = {}
    for rank, tensors in held.items():
        for each in tensors:
            found.setdefault((each.network, each.kind, each.name), {})[rank] = each
    return found


def _replicas(parts: Mapping[int, HeldTensor]) -> Iterator[Classes]:
    """Yield the ranks that are to hold the same of a tensor, by what they hold."""
    together: dict[tuple[int, ...], dict[int, Any]] = {}
    for rank, part in parts.items():
        held = str(part.norm) if part.digest is None else part.digest
        together.setdefault(coordinate(part), {})[rank] = part.dtype, part.shape, held
    return map(Classes, together.values())


def _shards(parts: Mapping[int, HeldTensor]) -> Classes:
    """Return the ranks at different places of a cut tensor by the values of their shards."""
    places = {shard_place(part): rank for rank, part in sorted(parts.items(), reverse=True)}
    if len(places) < 2:
        return Classes({})
    shards = {rank: parts[rank] for rank in places.values() if not parts[rank].is_constant}
    return Classes({rank: (each.shape, each.digest or rank) for rank, each in shards.items()})


def _change_of_norm(one: HeldTensor, two: HeldTensor) -> float | None:
    """Return how far the norms of two tensors lie apart, relative to the first one's."""
    if not one.norm or two.norm is None or not isfinite(one.norm - two.norm):
        return None
    return abs(one.norm - two.norm) / one.norm


def _listed(names: Sequence[str]) -> str:
    if len(names) < 3:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1:,} more"
