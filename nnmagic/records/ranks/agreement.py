"""What several ranks agree on: by the networks that they ran, all of it in a sentence."""

from nnmagic.display import units
from nnmagic.records.ranks import activations
from nnmagic.records.ranks.rank_sets import ranks_named
from nnmagic.records.ranks.replicas import Replicas
from nnmagic.records.ranks.same_runs import Logs, of_same_network


class Agreement:
    """What several ranks agree on.

    Args:
        logs: their runs, by rank; at least one.

    Attributes:
        groups: the ranks that ran the same network, the largest group first.
        findings: what parts, in the order of the rules.
        notes: lines on what was not held against each other, and on what may differ.
    """

    def __init__(self, logs: Logs) -> None:
        found = ({rank: logs[rank] for rank in ranks} for ranks in of_same_network(logs))
        self.groups = sorted(map(Replicas, found), key=lambda each: -len(each.logs))
        self.findings = [each for group in self.groups for each in group.findings]
        self.notes = [*dict.fromkeys(note for group in self.groups for note in group.notes)]
        self.ranks = list(logs)

    @property
    def sentence(self) -> str:
        """Who agrees, in a few words: ``ranks 0-5, 7 equal; 6 differs from block.4.mlp on``."""
        parted = [each for each in self.findings if each.rule == activations.RULE]
        if parted:
            return parted[0].text.partition(": ")[0]
        if self.findings:
            return self.findings[0].text
        if len(self.groups) > 1:
            names = "; ".join(ranks_named(group.logs) for group in self.groups)
            return f"{units.plural(len(self.groups), 'network')} on {names}"
        group = self.groups[0]
        if len(self.ranks) == 1:
            return ranks_named(self.ranks)
        if group.own_data:
            held = " agree in what they hold" if group.log.held else ""
            return f"{ranks_named(self.ranks)}{held}, each on its own data"
        is_equal = all(each.agree.all() or each.spread for each in group.of_same_data)
        return f"{ranks_named(self.ranks)} agree{'' if is_equal else ' within rounding'}"
