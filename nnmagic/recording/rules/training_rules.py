"""The rules on a run that trains: what is wrong though nothing raises, without any threshold."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

import torch
from torch import nn

from nnmagic.display import units
from nnmagic.network.layers import modules_of
from nnmagic.recording.rules.layer_rules import statistics_never_updated, units_all_the_same
from nnmagic.recording.rules.naming_parameters import by_network, listed, some_of
from nnmagic.recording.rules.step_rules import (
    gradients_cleared_too_early,
    gradients_used_again,
    parameters_never_changed,
)
from nnmagic.recording.training import Rules, Step, TrainedParameter, Training
from nnmagic.records.finding import Finding
from nnmagic.tensors import devices
from nnmagic.tensors.metadata import HiddenFromUserCode
from nnmagic.tensors.shards import is_spread, part_here
from nnmagic.torch_private import BatchNorm

DROPOUTS = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)

SIGN_KEEPING = {"NegBackward0", "DivBackward0", "MeanBackward0", "SumBackward0"}
"""Operations after which a loss is above 0, or all of it below."""

NEVER_NEGATIVE = {
    "NllLossBackward0": "a cross entropy",
    "NllLoss2DBackward0": "a cross entropy",
    "BinaryCrossEntropyBackward0": "a binary cross entropy",
    "BinaryCrossEntropyWithLogitsBackward0": "a binary cross entropy",
    "MseLossBackward0": "a mean squared error",
    "SmoothL1LossBackward0": "a smooth L1 loss",
    "HuberLossBackward0": "a Huber loss",
}

LOOKED_AT = 3
"""The losses of so many backwards are looked at: a sign is wrong from the first one on."""

ABOVE_EPS, HALF = 10, 0.5
"""A gradient's RMS must be so many times Adam's eps; below it, half of a step's length is lost."""

IN_A_ROW = 2
"""So many calls without gradients, and without a step between them, are a validation."""


def steps_in_eval_mode(training: Training, step: Step) -> Iterator[Finding]:
    """A step on a network that ran in eval mode, which switches off what it has for training."""
    for network in by_network(step.parameters):
        last = training.with_gradients.get(training.log.networks.index(network))
        if last is None or training.log.series[last.series].training is not False:
            continue
        switched = [each for each in _mode_layers(training, network) if not each.training]
        if switched:
            yield Finding(
                network=network,
                number=len(switched),
                text=(
                    f"{network} is trained in eval mode, which switches off {_types(switched)}: "
                    "type .train() on it before the loop, and after each validation"
                ),
            )


def validation_in_train_mode(training: Training, number: int) -> Iterator[Finding]:
    """Calls in a row without gradients of a network that trains, with Dropout or BatchNorm on."""
    last = training.without[number]
    if last.in_a_row < IN_A_ROW or training.log.series[last.series].training is not True:
        return
    network = training.log.networks[number]
    if any(fact.steps for fact in training.parameters.values() if fact.network == network):
        noisy = [each for each in _mode_layers(training, network) if each.training]
        if noisy:
            yield Finding(
                network=network,
                number=len(noisy),
                text=(
                    f"{network} runs without gradients in train mode, with {_types(noisy)} at "
                    "work: type .eval() on it before the validation, and .train() after it"
                ),
            )


def loss_below_zero(training: Training, tensors: Sequence[torch.Tensor]) -> Iterator[Finding]:
    """A backward from a loss that is never below 0, and is: its sign, or its targets, are wrong.

    Of the network that ran last: a loss is turned round on purpose against another one, as by a
    generator, and then the step is not on this.
    """
    network = training.latest()
    if network is None or training.backwards >= LOOKED_AT or len(tensors) != 1:
        return
    loss, node, is_negated = tensors[0], tensors[0].grad_fn, False
    while node is not None and node.name() in SIGN_KEEPING:
        is_negated ^= node.name() == "NegBackward0"
        inputs = [each for each, _ in node.next_functions if each is not None]
        node = inputs[0] if len(inputs) == 1 else None
    what = "" if node is None else NEVER_NEGATIVE.get(node.name(), "")
    if not what or loss.numel() != 1 or devices.on_accelerator(loss) or is_spread(loss):
        return
    with HiddenFromUserCode():
        value = float(loss.detach())
    if value < 0:
        mend = "leave out the minus" if is_negated else "its targets must be in 0 … 1"
        yield Finding(
            network=network,
            number=value,
            text=f"the loss is {value:.3g}, and {what} is never below 0: {mend}",
        )


def schedule_before_optimizer(training: Training, step: Step) -> Iterator[Finding]:
    """A schedule that stepped before the first step of its optimizer, which loses its first rate.

    Not where a backward came both before and between them: then a GradScaler has left a step out.
    """
    backwards = training.scheduled.get(id(step.optimizer.alive()))
    if backwards is None or 0 < backwards < training.backwards:
        return
    for network in by_network(step.parameters):
        yield Finding(
            network=network,
            text=(
                f"the learning rate's schedule of {step.optimizer.name} steps before the "
                "optimizer, which leaves out its first rate: type scheduler.step() after "
                "optimizer.step()"
            ),
        )


def gradients_below_eps(training: Training, step: Step) -> Iterator[Finding]:
    """Weight matrices whose gradient is so small that Adam's eps decides how far a step goes.

    Looked at after the steps 1, 2, 4, 8, ...; three times in a row it must be so.
    """
    optimizer, number = step.optimizer.alive(), step.optimizer.steps
    if optimizer is None or "Adam" not in step.optimizer.name or number & (number - 1):
        return
    eps = {id(p): group["eps"] for group in optimizer.param_groups for p in group["params"]}
    small, smallest = list[TrainedParameter](), (inf, 0.0)
    for fact in step.parameters:
        parameter = fact.alive()
        gradient = None if parameter is None else parameter.grad
        if gradient is None or gradient.dim() < 2 or devices.is_capturing(gradient):
            continue
        with torch.no_grad(), HiddenFromUserCode():
            held = part_here(gradient)
            size = float(held.norm()) / max(1, held.numel()) ** 0.5
        is_small = 0 < size < ABOVE_EPS * eps[id(parameter)]
        fact.below_eps = fact.below_eps + 1 if is_small else 0
        if fact.below_eps >= LOOKED_AT:
            small.append(fact)
            smallest = min(smallest, (size, eps[id(parameter)]))
    for network, facts in by_network(small).items():
        lost = smallest[1] / sum(smallest)
        yield Finding(
            network=network,
            layer=facts[0].layer,
            number=smallest[0],
            bound=ABOVE_EPS * smallest[1],
            source="Wortsman 2023 (2309.14322): RMS of the gradient below 10 eps",
            level="finding" if lost > HALF else "note",
            text=(
                f"the gradient's RMS is down to {smallest[0]:.1g} ({listed(facts)}), and eps of "
                f"{step.optimizer.name} is {smallest[1]:.1g}, which takes {lost:.0%} of a step "
                "away: lower eps"
            ),
        )


def missing_gradients(training: Training) -> Iterator[Finding]:
    """Parameters that get no gradient of any backward, in a network where others do, and why.

    Not an average, a target or a teacher: what was written to meanwhile, or feeds no trained layer.
    """
    reasons: dict[tuple[str, str], list[TrainedParameter]] = defaultdict(list)
    for fact in training.missing():
        reasons[fact.network, _why_missing(training, fact)].append(fact)
    for network in training.log.networks:
        if network not in training.missing_gradients.feeding:
            reasons.pop((network, "no_grad"), None)  # a target or a teacher
    for (network, reason), facts in reasons.items():
        text, level, mend = REASONS[reason]
        cut = training.missing_gradients.cuts.get(network, ("", ""))
        names = [units.layer_name(network, each) for each in cut]
        yield Finding(
            network=network,
            layer=facts[0].layer,
            number=len(facts),
            level=level,
            text=f"{listed(facts)} {text.format(*names)}{mend}",
        )


REASONS = {
    "never ran": ("got no gradient: the layer never ran", "note", ""),
    "no_grad": (
        "got no gradient: the layer ran under no_grad",
        "finding",
        "; call it outside of it, or freeze it by .requires_grad_(False)",
    ),
    "detached": (
        "got no gradient: between {0} and {1} the output was detached from its graph",
        "finding",
        "; leave out .detach(), .data or .numpy(), or freeze it by .requires_grad_(False)",
    ),
    "unused": ("got no gradient: the layer ran, and no loss depends on it", "note", ""),
}
"""Why a parameter got no gradient: in words, at which level, and what to do."""


def _why_missing(training: Training, fact: TrainedParameter) -> str:
    """Return the reason for which a parameter got no gradient."""
    key, gradients = (fact.network, fact.layer), training.missing_gradients
    number = training.log.networks.index(fact.network)
    if key in gradients.without_graph:
        return "no_grad"
    ran = any(each[:2] == (number, fact.layer) for each in training.log.layers)
    if not ran and key not in gradients.ran:
        return "never ran"
    return "detached" if fact.network in gradients.cuts else "unused"


def frozen_among_trained(training: Training) -> Iterator[Finding]:
    """Parameters that require no gradient in a network of which others are trained."""
    for network, facts in by_network(training.parameters.values()).items():
        frozen = [
            each for each in facts if not (each.requires_grad or each.steps or each.is_written)
        ]
        if frozen and any(each.steps for each in facts):
            yield Finding(
                network=network,
                layer=frozen[0].layer,
                number=len(frozen),
                level="note",
                text=f"{some_of(frozen, facts)} of {network} are frozen while others are trained",
            )


def bias_before_normalisation(training: Training) -> Iterator[Finding]:
    """Layers whose bias is trained, and whose output goes into a BatchNorm, which takes it away."""
    log, makers = training.log, dict[int, tuple[int, str]]()
    useless: dict[int, list[str]] = defaultdict(list)
    biased = {
        (each.network, each.layer)
        for each in training.parameters.values()
        if each.name.endswith(".bias") and each.steps
    }
    for call in log.returned(_first_steps(log)):
        layer = log.layer_of(call)
        if layer.type.startswith(("BatchNorm", "SyncBatchNorm")):
            for tensor in log.inputs[call][:1]:
                made = makers.get(tensor)
                if made and (log.networks[made[0]], made[1]) in biased:
                    useless[made[0]].append(made[1])
        if layer.type.startswith(("Linear", "Conv", "LazyLinear", "LazyConv")):
            for tensor in log.outputs[call]:
                makers[tensor] = layer.network, layer.name
    for network, names in useless.items():
        where = names[0] + (f", and of {len(names) - 1:,} more," if len(names) > 1 else "")
        yield Finding(
            network=log.networks[network],
            layer=names[0],
            number=len(names),
            level="note",
            text=f"the bias of {where} has no effect before a BatchNorm: type bias=False",
        )


def _first_steps(log: Any) -> list[int]:
    """Return the calls of the first recorded step of each network."""
    first: dict[int, int] = {}
    for root in log.roots:
        first.setdefault(log.layer_of(root).network, log.step[root])
    return [
        call for call in range(len(log)) if first.get(log.layer_of(call).network) == log.step[call]
    ]


RULES = Rules(
    at_call={"validation in train mode": validation_in_train_mode},
    at_backward={"a loss below 0": loss_below_zero},
    at_step={
        "gradients that are not cleared": gradients_used_again,
        "training in eval mode": steps_in_eval_mode,
        "a schedule before its optimizer": schedule_before_optimizer,
        "gradients below Adam's eps": gradients_below_eps,
        "units that are all the same": units_all_the_same,
        "running statistics that never change": statistics_never_updated,
    },
    at_end={
        "gradients that are cleared before the step": gradients_cleared_too_early,
        "parameters that no step changes": parameters_never_changed,
        "parameters without a gradient": missing_gradients,
        "frozen parameters": frozen_among_trained,
        "a bias before a BatchNorm": bias_before_normalisation,
    },
)


def _mode_layers(training: Training, network: str) -> list[nn.Module]:
    """Return the layers of a network that do one thing in train mode and another in eval mode."""
    module = training.network_of(network).module()
    return [
        each
        for each in ([] if module is None else modules_of(module))
        if isinstance(each, BatchNorm) or (isinstance(each, DROPOUTS) and each.p > 0)
    ]


def _types(layers: Sequence[nn.Module]) -> str:
    counts = Counter(type(each).__name__ for each in layers)
    return " and ".join(f"{number} {name}" for name, number in counts.items())
