"""Which iterations of a run a display shows, and how it tells them apart."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from nnmagic.display import units
from nnmagic.display.messages import StepsContent
from nnmagic.records.call_log import Series, TraceLog

MOST_NAMED = 3
"""How many places a heading, or the notes, name one by one."""


class ShownIterations:
    """Chooses the iteration that was asked for of each place in the code and each mode.

    Trees stand in the order in which their places were first reached, so that rows keep their
    order from iteration to iteration.

    Args:
        log: the columns of the run.
        wanted: the iteration to show; None is the last. Where no place has it, the last is shown.

    Attributes:
        calls: the calls to show, each followed by those made within it.
        root_series: for each of those, what the iteration of its root is counted of.
        notes: lines on what was asked for and is not there.
    """

    def __init__(self, log: TraceLog, wanted: int | None) -> None:
        self.log = log
        self.wanted = wanted
        self.notes: list[str] = []
        recorded: dict[int, set[int]] = defaultdict(set)
        self._reached: dict[int, set[int]] = defaultdict(set)  # the series of each root's layer
        for root, of, number in zip(log.roots, log.root_series, log.root_iteration, strict=False):
            if root < len(log):
                recorded[of].add(number)
                self._reached[log.layer[root]].add(of)
        self._recorded = {of: sorted(numbers) for of, numbers in recorded.items()}
        self._shown = self._chosen()
        self.root_series = self._series_of_calls()
        self.notes += self._thinned()
        self.calls = sorted(log.nested(self.root_series), key=self.root_series.__getitem__)

    def _chosen(self) -> dict[int, int]:
        wanted, recorded = self.wanted, self._recorded
        last = {of: numbers[-1] for of, numbers in recorded.items()}
        if wanted is None:
            return last
        missing = [of for of, numbers in recorded.items() if wanted not in numbers]
        is_nowhere = len(missing) == len(recorded)
        alike: dict[str, list[int]] = {}
        for of in filter(self._is_network, missing):
            alike.setdefault(_ranges(recorded[of]), []).append(of)
        for numbers, members in alike.items():
            names = self._names_of(members)
            which = _listed(names)
            has, it = ("has", "it is") if which == names[0] else ("have", "they are")
            then = "the last is shown" if is_nowhere else f"{it} left out"
            told = f"only {numbers} was" if numbers.isdigit() else f"{numbers} were"
            self.notes.append(f"{which} {has} no iteration {wanted}: {told} recorded, {then}")
        return last if is_nowhere else {of: wanted for of in recorded if of not in missing}

    def _series_of_calls(self) -> dict[int, int]:
        log, found = self.log, dict[int, int]()
        roots = zip(log.roots, log.root_series, log.root_iteration, strict=False)
        chosen = {root: of for root, of, number in roots if self._shown.get(of) == number}
        for call in range(min(chosen, default=len(log)), len(log)):
            parent = log.parent[call]
            of = chosen.get(call) if parent < 0 else found.get(parent)
            if of is not None:
                found[call] = of
        return found

    def _thinned(self) -> list[str]:
        """Say of which series of a long run not all recorded iterations are kept."""
        log, alike = self.log, dict[tuple[int, int, int], list[int]]()
        for of, numbers in self._recorded.items():
            if log.stride[of] > 1 and self._is_network(of):
                counts = len(numbers), log.recorded[of], log.stride[of]
                alike.setdefault(counts, []).append(of)
        return [
            f"{_listed(self._names_of(members))}: {kept:,} of {recorded:,} recorded iterations are "
            f"kept, one in {stride}, with the last and the first non-finite one"
            for (kept, recorded, stride), members in alike.items()
        ]

    def _is_network(self, of: int) -> bool:
        """Tell whether a series is one of calls, not of functions outside every module."""
        return self.log.series[of].training is not None

    @property
    def text(self) -> str:
        """What a heading says: which iterations are shown, of how many; empty where each is one.

        `iteration 55 of 56`: they are numbered from 0. Places are named where they differ.
        """
        log = self.log
        groups: dict[tuple[int, int, int], list[int]] = {}
        for of, number in self._shown.items():
            if log.begun[of] > 1 and self._is_network(of):
                counts = number, log.recorded[of], log.begun[of]
                groups.setdefault(counts, []).append(of)
        if len(groups) > MOST_NAMED:
            which = "the last iteration" if self.wanted is None else f"iteration {self.wanted}"
            return f"{which} of {units.plural(sum(map(len, groups.values())), 'place')}"
        return " · ".join(
            (f"{_listed(self._names_of(members))} " if len(groups) > 1 else "")
            + f"iteration {number:,} of {begun:,}"
            + (f" ({recorded:,} recorded)" if recorded < begun else "")
            for (number, recorded, begun), members in groups.items()
        )

    def _names_of(self, members: Sequence[int]) -> list[str]:
        """Return the names of some series: those of their networks where that tells them."""
        log = self.log
        networks = {log.series[of].network for of in members}
        others = [of for of in self._recorded if log.series[of].network in networks]
        if set(others) <= set(members):
            return list(dict.fromkeys(log.networks[log.series[of].network] for of in members))
        return list(dict.fromkeys(map(self._full_name, members)))

    def named(self, root: int, name: str) -> str:
        """Return the name of a root call, with what tells it from others of its layer.

        `net at train.py:12 (eval)`; in a notebook the call expression itself, `net(x) (eval)`, with
        its line where others read the same. Those of one line are numbered.
        """
        return self._told_apart(name, self.root_series[root], self._reached[self.log.layer[root]])

    @property
    def names(self) -> dict[int, str]:
        """By its number the name of each recorded series of a network: `net`, `net (eval)`."""
        return {of: self._full_name(of) for of in filter(self._is_network, self._recorded)}

    def _full_name(self, of: int) -> str:
        network = self.log.series[of].network
        rivals = [each for each in self._recorded if self.log.series[each].network == network]
        return self._told_apart(self.log.networks[network], of, rivals)

    def _told_apart(self, name: str, of: int, rivals: Iterable[int]) -> str:
        series = self.log.series[of]
        others = [self.log.series[each] for each in rivals if each != of]
        same = [each for each in others if _looks_the_same(each, series)]
        twins = [each for each in rivals if self._are_twins(each, of)]
        if len(same) < len(others) or len(twins) > 1:
            place = _place(series, others)
            is_source = place == f"“{series.source}”" and series.source.startswith(f"{name}(")
            name = series.source if is_source else f"{name} at {place}"
            name += self._line_or_number(of, twins)
        if any(each.training != series.training for each in same):
            name += " (train)" if series.training else " (eval)"
        elif any(each.grad != series.grad for each in same):
            name += " (gradients)" if series.grad else " (no gradients)"
        return name

    def _are_twins(self, one: int, other: int) -> bool:
        """Tell whether two series of one layer are of the same mode and read the same."""
        a, b = self.log.series[one], self.log.series[other]
        if not _looks_the_same(a, b) or (a.training, a.grad) != (b.training, b.grad):
            return False
        return any({one, other} <= each for each in self._reached.values())

    def _line_or_number(self, of: int, twins: Iterable[int]) -> str:
        """Return what tells a series from others that read the same: its line, or its number."""
        lines = {each: self.log.series[each].line for each in twins}
        beside = sorted(each for each, line in lines.items() if line == lines[of])
        text = f" (line {lines[of]})" if len(beside) < len(lines) else ""
        number = f" ({beside.index(of) + 1} of {len(beside)})" if len(beside) > 1 else ""
        return text + number

    def content(self) -> StepsContent:
        """Return what a page needs to let the reader choose an iteration."""
        numbers = max(self._recorded.values(), key=len, default=[0])
        shown = numbers[-1] if self.wanted not in numbers else self.wanted or 0
        return {"iterations": numbers, "shown": shown}


def _is_in_notebook(series: Series) -> bool:
    return series.place.startswith("“")


def _looks_the_same(one: Series, other: Series) -> bool:
    """Tell whether two series are shown by the same place: in a notebook by the same source."""
    in_notebook = _is_in_notebook(one) and _is_in_notebook(other)
    return one[:3] == other[:3] or (in_notebook and one.source == other.source)


def _place(series: Series, others: Iterable[Series]) -> str:
    """Return how the place of a series is shown beside others: in a notebook by its source."""
    if series.source and _is_in_notebook(series):
        return f"“{series.source}”"
    sources = {each.source for each in others if each.place == series.place}
    is_shared = bool(sources - {series.source})
    return f"{series.place} {series.source}" if is_shared else series.place or "no line of code"


def _listed(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMED:
        return units.plural(len(names), "place")
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _ranges(numbers: Sequence[int]) -> str:
    if len(numbers) <= 5:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]}, {numbers[1]}, … {numbers[-1]}"
