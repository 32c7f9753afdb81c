"""The rules on what the steps of an optimizer get, and what they change."""

from collections.abc import Iterator

from nnmagic.display import units
from nnmagic.recording.rules.naming_parameters import by_network, listed, some_of
from nnmagic.recording.stepped_optimizers import SteppedOptimizer
from nnmagic.recording.training import (
    Step,
    TrainedParameter,
    Training,
)
from nnmagic.records.finding import Finding

FEWEST_AT_REST = 2
"""A schedule that warms up begins with one step at a learning rate of 0."""


def gradients_used_again(training: Training, step: Step) -> Iterator[Finding]:
    """A step gets gradients that an earlier step has used, and to which a backward has added."""
    for network, again in by_network(step.used_again).items():
        yield Finding(
            network=network,
            number=len(again),
            text=(
                f"{step.optimizer.name} steps with gradients that hold those of its last step too "
                f"({listed(again)}): type optimizer.zero_grad() before the backward"
            ),
        )


def gradients_cleared_too_early(training: Training) -> Iterator[Finding]:
    """Gradients that are made, and of which none is there when their optimizer steps."""
    for optimizer, own in _clearing(training):
        for network, facts in by_network(own).items():
            yield Finding(
                network=network,
                number=len(facts),
                text=(
                    f"the gradients of {network} are cleared before {optimizer.name} steps, so "
                    "that nothing is learned: type optimizer.zero_grad() before the backward, "
                    "not after it"
                ),
            )


def _clearing(training: Training) -> Iterator[tuple[SteppedOptimizer, list[TrainedParameter]]]:
    """Yield the optimizers that never step with a gradient, and their parameters that get some."""
    for optimizer in training.optimizers.values():
        if not optimizer.has_gradients:
            facts = [each for each in _own(training, optimizer).values() if each.gradients]
            if facts and (optimizer.is_given or not any(each.steps for each in facts)):
                yield optimizer, facts


def _own(training: Training, optimizer: SteppedOptimizer) -> dict[int, TrainedParameter]:
    """Return by their identities the parameters of the networks that an optimizer holds."""
    known = training.parameters
    return {each: fact for each, fact in known.items() if each in optimizer.parameters}


def parameters_never_changed(training: Training) -> Iterator[Finding]:
    """Parameters that get gradients, and that no step of the run has changed."""
    yield from _without_rate(training)
    if not training.optimizers:
        return
    cleared = {id(fact) for _, facts in _clearing(training) for fact in facts}
    others = (each for each in training.parameters.values() if id(each) not in cleared)
    useless = [each for each in training.optimizers.values() if not each.has_gradients]
    for network, facts in by_network(others).items():
        left = [each for each in facts if each.gradients and not each.steps and not each.is_written]
        is_stepped = any(each.steps for each in facts)
        if not left:
            continue
        if useless and not is_stepped:
            yield Finding(
                network=network,
                number=len(left),
                text=(
                    f"{useless[0].name} steps on parameters that get no gradient, and none steps "
                    f"on those of {network}, which do: make the optimizer after the network, of "
                    f"{network}.parameters()"
                ),
            )
            continue
        yield Finding(
            network=network,
            layer=left[0].layer if is_stepped else "",
            number=len(left),
            level="finding" if is_stepped else "note",
            text=(
                f"no optimizer steps on {some_of(left, facts)} of {network}, which get gradients: "
                "give them to the optimizer, or freeze them by .requires_grad_(False)"
            ),
        )


def _without_rate(training: Training) -> Iterator[Finding]:
    """Parameters whose learning rate was 0 at all steps; a note where others have one above 0."""
    for optimizer in training.optimizers.values():
        resting = optimizer.resting
        if not resting or optimizer.steps < FEWEST_AT_REST:
            continue
        own = {each: fact for each, fact in _own(training, optimizer).items() if fact.steps}
        at_rest = by_network(fact for each, fact in own.items() if each in resting)
        for network, trained in by_network(own.values()).items():
            still = at_rest.get(network)
            if still:
                are_all = len(still) == len(trained)
                which = units.plural(len(still), "parameter")
                which = f"the {which}" if are_all else some_of(still, trained)
                yield Finding(
                    network=network,
                    layer="" if are_all else still[0].layer,
                    number=len(still),
                    level="finding" if are_all else "note",
                    text=(
                        f"{optimizer.name} steps with a learning rate of 0, which moves none of "
                        f"{which} of {network}: give it one above 0"
                    ),
                )
