"""A finding: a fact about a run that raises nothing, but is wrong or worth knowing."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact about a run.

    Attributes:
        rule: which rule found it, e.g. `"probabilities into a loss"`.
        level: `"finding"` for what is wrong, `"note"` for what is worth knowing.
        network: the name of the network.
        layer: the layer's name in it; `""` for the network itself.
        iteration: in which iteration it was seen first, from 0.
        text: what a person reads: the thing, what it got, what it wants, what to type.
        number: the measured number that the rule is about, None where it is exact.
        bound: the number that it is held against.
        source: where the bound comes from; `""` where the rule is exact.
        rank: of several ranks that are held against each other the one that is off, of more than
            one the lowest; None where that cannot be said, as of two that part.
    """

    rule: str = ""
    level: str = "finding"
    network: str
    layer: str = ""
    iteration: int = 0
    text: str
    number: float | None = None
    bound: float | None = None
    source: str = ""
    rank: int | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands among others: causes before what follows from them, notes last."""
        if self.level == "note":
            return 3, 0
        if self.rule.endswith("in a gradient"):
            return 2, 0
        return (0, 0) if self.bound is None else (1, self.iteration)


def once_each(findings: Iterable[Finding]) -> list[Finding]:
    """Return the first finding of each rule on each layer: causes first, notes last."""
    first: dict[tuple[str, str, str], Finding] = {}
    for each in findings:
        first.setdefault((each.rule, each.network, each.layer), each)
    return sorted(first.values(), key=lambda each: each.order)
