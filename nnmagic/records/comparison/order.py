"""Calls of two runs matched where no name tells: by type, shape and order."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.subsequences import heaviest_pairs
from nnmagic.records.tensor import Statistics

CERTAIN, OF_PARAMETERS, OF_TYPE, COARSE = (weight << 13 for weight in (8, 4, 2, 1))
"""The weights of a pair: matched by name, of equal parameters, of one type, of one shape alone.

They lie so far apart that all that decides between equals, 2 a pair, never outweighs one.
"""

NEAR = 0.03
"""Statistics that differ by less than this part of mean and std are those of the same values."""

NUMBER = re.compile(r"\d+")

COMPARED = [Statistics._fields.index(name) for name in ("min", "max", "mean", "std")]

Shape = tuple[int | None, ...]


class Key(NamedTuple):
    """What a call is matched by.

    Attributes:
        kind: what it has in common with its partner.
        weight: what a pair of this kind is worth.
        coarse: what it has in common with a partner that is worth less; None for nothing.
        is_open: whether that is enough; of one of the two it has to be.
    """

    kind: Hashable
    weight: int
    coarse: Hashable = None
    is_open: bool = False


class RunCalls:
    """The calls of one run, and what each is known by.

    Args:
        log: the run.
        calls: the numbers of the calls, in their order.
    """

    def __init__(self, log: TraceLog, calls: Sequence[int]) -> None:
        self.log, self.calls = log, calls
        self.containers = {log.parent[call] for call in calls} - {-1}
        self.leaves = [call for call in calls if call not in self.containers]

    def shape(self, call: int) -> Shape:
        """Return the shape of what a call returned, without the number of items."""
        output = self.log.main_output(call)
        return () if output is None else self.log.tensors.metadata_of(output).shape[1:]

    def sizes(self, call: int) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the own parameters of a call's layer."""
        return parameter_sizes(self.log, self.log.layer[call])

    def is_custom(self, call: int) -> bool:
        """Tell whether the forward of a call's layer is not torch's own."""
        return self.log.layer[call] in self.log.custom

    def hands_on(self, call: int) -> bool:
        """Tell whether a call returns what it got, as a dropout in eval mode does."""
        output = self.log.main_output(call)
        return output is not None and output in self.log.inputs[call]

    def leaf_key(self, call: int) -> Key:
        """Return what a call that calls no others is matched by.

        The type counts of layers without parameters alone, and of torch's own: those who write a
        network anew name their own classes anew.
        """
        sizes, shape, hands_on = self.sizes(call), self.shape(call), self.hands_on(call)
        if sizes:
            return Key((sizes, _plain(shape)), OF_PARAMETERS, (sizes, shape[-1:]), is_open=True)
        kind = self.log.layer_of(call).type, shape, hands_on
        return Key(kind, OF_TYPE, (shape, hands_on), self.is_custom(call))

    def may_be_fused(self, call: int) -> bool:
        """Tell whether a call that calls no others may do what several do elsewhere."""
        return not self.hands_on(call) and (self.is_custom(call) or bool(self.sizes(call)))

    def statistics(self, call: int) -> list[float]:
        """Return min, max, mean and std of what a call returned, NaN where they are unknown."""
        output = self.log.main_output(call)
        if output is None:
            return [np.nan] * len(COMPARED)
        statistics = self.log.tensors.statistics_of(output)
        return [statistics[each] for each in COMPARED]

    def number(self, call: int) -> float:
        """Return the first number in the name of a call's layer, NaN if there is none."""
        found = NUMBER.search(self.log.layer_of(call).name)
        return np.nan if found is None else float(found[0])


class OrderMatcher:
    """Matches the calls that have no partner yet.

    First those that call no others: of equal parameters, else of one type and shape, in one order.
    Then those that hold the same pairs; last, where two calls are a pair, one within it that
    calls others and one that does the same alone, as a fused layer does what its parts do.

    Args:
        mine: this run.
        other: the other run.
        pairs: the pairs that are known.
    """

    def __init__(self, mine: RunCalls, other: RunCalls, pairs: Mapping[int, int]) -> None:
        self.mine, self.other = mine, other
        self.pairs = dict(pairs)
        self.partners = {b: a for a, b in pairs.items()}
        found = self._in_order(mine.leaves, other.leaves, RunCalls.leaf_key, RunCalls.leaf_key)
        self._add(self._turned_right(found))
        self._add(self._one_of_a_kind())
        self._match_containers()
        self._match_fused()

    def _add(self, found: Iterable[tuple[int, int]]) -> None:
        for a, b in found:
            if a not in self.pairs and b not in self.partners:
                self.pairs[a], self.partners[b] = b, a

    def _in_order(
        self,
        left: Sequence[int],
        right: Sequence[int],
        left_key: Callable[[RunCalls, int], Key],
        right_key: Callable[[RunCalls, int], Key],
    ) -> list[tuple[int, int]]:
        """Return pairs in one order, those that are known among them."""

        def keyed(
            side: RunCalls, calls: Sequence[int], key: Callable[[RunCalls, int], Key]
        ) -> list[Key]:
            known = self.pairs if side is self.mine else self.partners
            pair = [call if side is self.mine else known.get(call) for call in calls]
            return [
                Key(("pair", number), CERTAIN) if call in known else key(side, call)
                for call, number in zip(calls, pair, strict=True)
            ]

        codes: dict[Hashable, int] = {}
        one = Kinds(self.mine, left, keyed(self.mine, left, left_key), codes)
        two = Kinds(self.other, right, keyed(self.other, right, right_key), codes)
        pairs = heaviest_pairs(
            len(left), len(right), lambda rows, columns: one.weights(rows, two, columns)
        )
        return [(left[row], right[column]) for row, column in pairs]

    def _turned_right(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the pairs, with q, k and v set right where the two sides call them in turns.

        Neighbours of equal parameters are in another order where their values say so.
        """
        partners = dict(pairs)
        groups: dict[Hashable, list[int]] = {}
        for a, b in pairs:
            sizes = self.mine.sizes(a)
            if sizes and a not in self.pairs and not self._are_near(a, b):
                place = self.mine.log.parent[a], self.other.log.parent[b]
                groups.setdefault((sizes, place), []).append(a)
        for group in groups.values():
            for a in group:
                for c in group:
                    if self._are_near(a, partners[c]):
                        partners[a], partners[c] = partners[c], partners[a]
                        break
        return [*partners.items()]

    def _are_near(self, a: int, b: int) -> bool:
        one, two = np.array([self.mine.statistics(a)]), np.array([self.other.statistics(b)])
        return bool(_near(one, two)[0])

    def _one_of_a_kind(self) -> Iterable[tuple[int, int]]:
        """Yield pairs of parameters that only one call without a partner has on either side."""
        sides = (self.mine, self.pairs), (self.other, self.partners)
        lonely = [
            [
                (side.leaf_key(call).coarse, call)
                for call in side.leaves
                if call not in matched and side.sizes(call)
            ]
            for side, matched in sides
        ]
        counts = [Counter(kind for kind, _ in each) for each in lonely]
        partners = dict(lonely[1])
        for kind, call in lonely[0]:
            if counts[0][kind] == counts[1][kind] == 1:
                yield call, partners[kind]

    def _match_containers(self) -> None:
        """Match the calls that hold the same pairs."""
        others = self._holders(self.other, self.partners)
        for content, left in self._holders(self.mine, self.pairs).items():
            right = others.get(content)
            if right:
                self._add(self._in_order(left, right, _shape_key, _shape_key))

    def _holders(self, side: RunCalls, matched: Mapping[int, int]) -> dict[Hashable, list[int]]:
        """Return the calls without a partner by the pairs that they hold."""
        content: dict[int, list[int]] = {}
        for call, partner in matched.items():
            parent = side.log.parent[call]
            while parent >= 0:
                content.setdefault(parent, []).append(call if side is self.mine else partner)
                parent = side.log.parent[parent]
        holders: dict[Hashable, list[int]] = {}
        for call in sorted(content.keys() & side.containers - matched.keys()):
            holders.setdefault(tuple(sorted(content[call])), []).append(call)
        return holders

    def _match_fused(self) -> None:
        """Match a call that calls others and one that does not, between the same neighbours."""
        left, right = _children(self.mine), _children(self.other)
        for parent, calls in left.items():
            others = right.get(-1 if parent < 0 else self.pairs.get(parent, -2), [])
            lack = [c for c in calls if c not in self.pairs]
            if lack and any(c not in self.partners for c in others):
                found = self._in_order(calls, others, _fused_key, _parts_key)
                self._add(found)


class Kinds:
    """The keys of calls, as columns.

    Args:
        side: the run.
        calls: the numbers of the calls.
        keys: what each is matched by.
        codes: numbers for what is in the keys, shared by both sides; they are added to.
    """

    def __init__(
        self, side: RunCalls, calls: Sequence[int], keys: Sequence[Key], codes: dict[Hashable, int]
    ) -> None:
        def numbers(parts: Iterable[Hashable]) -> np.ndarray:
            return np.array([codes.setdefault(part, len(codes)) for part in parts], np.int32)

        self.kind = numbers(("kind", key.kind) for key in keys)
        self.coarse = numbers(("coarse", key.coarse) for key in keys)  # None is never open
        self.weight = np.array([key.weight for key in keys], np.int32)
        self.is_open = np.array([key.is_open for key in keys], bool)
        self.statistics = np.array([side.statistics(call) for call in calls]).reshape(
            len(calls), -1
        )
        self.number = np.array([side.number(call) for call in calls])

    def weights(self, rows: slice, other: "Kinds", columns: slice) -> np.ndarray:
        """Return what each pair of some of these calls and some of the others is worth."""
        weights = np.where(
            self.kind[rows, None] == other.kind[columns], self.weight[rows, None], np.int32(0)
        )
        is_alike = self.coarse[rows, None] == other.coarse[columns]
        is_alike &= self.is_open[rows, None] | other.is_open[columns]
        weights[is_alike & (weights == 0)] = COARSE
        left, right = np.nonzero(weights)
        left, right = left + rows.start, right + columns.start
        near = _near(self.statistics[left], other.statistics[right])
        weights[weights > 0] += near.astype(np.int32) + (self.number[left] == other.number[right])
        return weights


def parameter_sizes(log: TraceLog, layer: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a layer's own parameters, whichever way they are called and turned."""
    shapes = log.parameters.get(layer, {}).values()
    return tuple(sorted(_plain(shape) for shape in shapes))


def _plain(shape: Sequence[int | None]) -> tuple[int, ...]:
    """Return the sizes of a shape in order, without those of 1: a 1x1 kernel is a matrix."""
    return tuple(sorted(size for size in shape if size is not None and size != 1))


def _near(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Tell for each row of statistics whether both are of the same values, but for rounding."""
    return np.asarray(np.abs(one - two).max(1) <= NEAR * np.abs(one[:, 2:]).sum(1))


def _children(side: RunCalls) -> dict[int, list[int]]:
    """Return the calls that each call made, those outside all others at -1."""
    children: dict[int, list[int]] = {}
    for call in side.calls:
        children.setdefault(side.log.parent[call], []).append(call)
    return children


def _shape_key(side: RunCalls, call: int) -> Key:
    return Key(side.shape(call), OF_TYPE)


def _fused_key(side: RunCalls, call: int) -> Key:
    """Return what a call of this side is matched by where one layer may do what several do."""
    if call in side.containers:
        return Key(("parts", side.shape(call)), OF_TYPE)
    return Key(("fused", side.shape(call)) if side.may_be_fused(call) else "mine", OF_TYPE)


def _parts_key(side: RunCalls, call: int) -> Key:
    """Return the same of the other side, where the parts are of this side's fused layer."""
    if call in side.containers:
        return Key(("fused", side.shape(call)), OF_TYPE)
    return Key(("parts", side.shape(call)) if side.may_be_fused(call) else "other", OF_TYPE)
