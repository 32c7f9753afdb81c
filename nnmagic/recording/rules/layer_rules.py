"""The rules on the values that layers hold while they are trained."""

from collections.abc import Iterator

import torch
from torch import nn

from nnmagic.network.layers import layers_of
from nnmagic.recording.training import Step, Training
from nnmagic.records.finding import Finding
from nnmagic.tensors import devices
from nnmagic.tensors.metadata import HiddenFromUserCode
from nnmagic.torch_private import BatchNorm, ConvNd, parameters_of

ALIKE = 1e-4
"""Rows of a weight are the same, but for rounding, if they differ by less than this part of it."""

FEWEST_STEPS = 4
"""So many steps would tell units, or statistics, apart."""


def units_all_the_same(training: Training, step: Step) -> Iterator[Finding]:
    """The first layer of a network whose units all hold the same weights after some steps."""
    for network, layers in _trained(training, step):
        for name, layer in layers.items():
            weight = parameters_of(layer).get("weight")
            fact = training.parameters.get(id(weight))
            if weight is None or fact is None or not fact.steps:
                continue
            if isinstance(layer, nn.Linear | ConvNd) and are_alike(weight):
                yield Finding(
                    network=network,
                    layer=name,
                    number=len(weight),
                    text=(
                        f"the {len(weight):,} units of {fact.name} hold the same values, so that "
                        "all learn one thing: begin with random weights, as the layer itself does"
                    ),
                )
                break


def are_alike(weight: torch.Tensor) -> bool:
    """Tell whether all rows of a weight are the same, and not 0."""
    is_plain = type(weight.data) is torch.Tensor and weight.is_floating_point()
    if not is_plain or weight.element_size() < 2 or weight.is_meta or len(weight) < 2:
        return False
    with torch.no_grad(), HiddenFromUserCode():
        rows = weight.detach()
        near = ALIKE * rows[0].abs().max()
        # of nearly all weights two rows can tell
        is_other = bool((rows[1] - rows[0]).abs().max() > near) or not bool(near)
        return not is_other and bool((rows - rows[0]).abs().max() <= near)


def statistics_never_updated(training: Training, step: Step) -> Iterator[Finding]:
    """A BatchNorm that has trained, and whose running statistics are those that it began with."""
    for network, layers in _trained(training, step):
        norms = [(name, each) for name, each in layers.items() if isinstance(each, BatchNorm)]
        still = [(name, each, count) for name, each in norms if (count := _batches_unused(each))]
        if still:
            name, layer, count = still[0]
            more = f", and of {len(still) - 1:,} more," if len(still) > 1 else ""
            yield Finding(
                network=network,
                layer=name,
                number=len(still),
                text=(
                    f"the running statistics of {name}{more} are 0 and 1 after "
                    f"{count:,} batches, and eval mode takes those: "
                    f"momentum is {layer.momentum}, leave it at 0.1"
                ),
            )


def _batches_unused(layer: BatchNorm) -> int:
    """Return how many batches a BatchNorm has seen that holds a mean of 0 and a variance of 1.

    0 for one that holds others, or none.
    """
    mean, variance, batches = layer.running_mean, layer.running_var, layer.num_batches_tracked
    if mean is None or variance is None or batches is None or mean.is_meta:
        return 0
    with torch.no_grad(), HiddenFromUserCode():
        is_as_made = not mean.any() and bool((variance == 1).all())
        return int(batches) if is_as_made else 0


def _trained(training: Training, step: Step) -> Iterator[tuple[str, dict[str, nn.Module]]]:
    """Yield the networks that a step trains, and their layers; after the steps 4, 8, 16, ..."""
    number = step.optimizer.steps
    if number < FEWEST_STEPS or number & (number - 1):
        return
    parameters = (each.alive() for each in step.parameters)
    if any(each is not None and devices.is_capturing(each) for each in parameters):
        return
    for label in dict.fromkeys(each.network for each in step.parameters):
        network = training.network_of(label).module()
        if network is not None:
            yield label, layers_of(network)
