"""Sets of ranks as text, and ranks put into classes that agree."""

from collections.abc import Hashable, Iterable, Mapping
from itertools import groupby

MOST_CLASSES = 3
"""So many classes are named one by one."""


def ranks_text(ranks: Iterable[int]) -> str:
    """Return ``0-5, 7`` for the ranks 0 to 5 and 7."""
    runs = groupby(enumerate(sorted(ranks)), key=lambda each: each[1] - each[0])
    spans = [[rank for _, rank in run] for _, run in runs]
    return ", ".join(
        f"{span[0]}-{span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans
    )


def ranks_named(ranks: Iterable[int]) -> str:
    """Return ``rank 6``, ``ranks 6 and 7`` or ``ranks 0-5, 7``."""
    numbers = sorted(ranks)
    if len(numbers) == 2:
        return f"ranks {numbers[0]} and {numbers[1]}"
    return f"rank{'s' * (len(numbers) != 1)} {ranks_text(numbers)}"


class Classes:
    """Ranks by what they hold: those of one class hold the same.

    Args:
        held: what stands for the thing that each rank holds.

    Attributes:
        classes: the ranks of each class, the largest first, of two as large that of the lower rank.
    """

    def __init__(self, held: Mapping[int, Hashable]) -> None:
        found: dict[Hashable, list[int]] = {}
        for rank, each in sorted(held.items()):
            found.setdefault(each, []).append(rank)
        self.classes = tuple(sorted(map(tuple, found.values()), key=lambda c: (-len(c), c[0])))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and self.classes == other.classes

    def __hash__(self) -> int:
        return hash(self.classes)

    @property
    def agree(self) -> bool:
        """Whether all ranks hold the same."""
        return len(self.classes) < 2

    @property
    def has_majority(self) -> bool:
        """Whether one class has several ranks, and more than every other one."""
        sizes = [len(each) for each in self.classes]
        return sizes[0] > max(1, *sizes[1:]) if sizes[1:] else bool(sizes)

    @property
    def odd(self) -> tuple[int, ...]:
        """The ranks that are not in the largest class, if that has more than every other one."""
        others = self.classes[1:] if self.has_majority else ()
        return tuple(sorted(rank for each in others for rank in each))

    @property
    def odd_rank(self) -> int | None:
        """The lowest of those, None where it cannot be said which are odd."""
        return min(self.odd, default=None)

    def parting(self, how: str) -> str:
        """Return ``ranks 0-5, 7 equal; 6 differs HOW``, or that they part where none is right."""
        if not self.has_majority:
            ranks = [rank for each in self.classes for rank in each]
            if len(ranks) > 2 and len(self.classes[0]) > 1:
                return f"ranks {self} part {how}".strip()
            return f"{ranks_named(ranks)} {'part' if len(ranks) == 2 else 'all part'} {how}".strip()
        odd = self.odd
        verb = "differs" if len(odd) == 1 else "differ"
        return f"{ranks_named(self.classes[0])} equal; {ranks_text(odd)} {verb} {how}".strip()

    def __str__(self) -> str:
        """Return ``0-7`` or ``0-5, 7 ≠ 6``."""
        if len(self.classes) > MOST_CLASSES:
            largest = self.classes[0]
            if len(largest) == 1:
                return "each differs"
            return f"{ranks_text(largest)} ≠ {len(self.classes) - 1} others"
        return " ≠ ".join(map(ranks_text, self.classes))


def short(number: float) -> str:
    """Return a relative error in one digit: ``0.3``, ``3e-2``."""
    digit, _, exponent = f"{number:.0e}".partition("e")
    if not exponent or -2 < int(exponent) < 3:
        return f"{number:.1g}"
    return f"{digit}e{int(exponent)}"
