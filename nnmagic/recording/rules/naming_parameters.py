"""How rules name parameters in their texts."""

from collections.abc import Iterable, Sequence

from nnmagic.display import units
from nnmagic.recording.training import TrainedParameter


def by_network(
    parameters: Iterable[TrainedParameter],
) -> dict[str, list[TrainedParameter]]:
    """Return parameters by the names of their networks."""
    found: dict[str, list[TrainedParameter]] = {}
    for each in parameters:
        found.setdefault(each.network, []).append(each)
    return found


def listed(parameters: Sequence[TrainedParameter]) -> str:
    """Return the name of the first parameter, and how many more there are."""
    more = f", and {len(parameters) - 1:,} more" if len(parameters) > 1 else ""
    return parameters[0].name + more


def some_of(some: Sequence[TrainedParameter], of: Sequence[TrainedParameter]) -> str:
    """Return how many parameters of how many, and the name of the first."""
    return f"{len(some):,} of the {units.plural(len(of), 'parameter')} ({listed(some)})"
