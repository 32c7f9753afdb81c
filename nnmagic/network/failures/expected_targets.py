"""What the losses of torch expect of scores and targets, and what they got instead."""

from typing import Any

import torch
from torch import nn

from nnmagic.display.units import layer_name
from nnmagic.network.failures.earlier_calls import Given, mixed_items
from nnmagic.network.failures.expected_inputs import (
    Explain,
    is_integer,
    name_of,
    shape_of,
    two_devices,
)


def class_loss(module: Any, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the targets of a loss over classes."""
    scores, target = given.tensor("input"), given.tensor("target")
    if scores is None or target is None or not scores.dim():
        return ""
    ids = scores.shape[:1] + scores.shape[2:] if scores.dim() > 1 else ()
    both = f"got scores {shape_of(scores)} and targets {shape_of(target)}"
    if not scores.is_floating_point() and target.is_floating_point():
        return f"{both}: they are exchanged, the scores come first"
    if not scores.is_floating_point():
        return (
            f"got scores {shape_of(scores)} {name_of(scores.dtype)}: class ids, as .argmax gives "
            f"them; the loss takes the scores themselves, type loss_fn(net(x), y)"
        )
    chances = isinstance(module, nn.CrossEntropyLoss) and target.shape == scores.shape
    if chances:
        if target.is_floating_point():
            return _device(scores, target)
        return f"{both} {name_of(target.dtype)}: make them class ids with .argmax(1)"
    if tuple(ids) != shape_of(target):
        text = f"{both}: the targets must be {tuple(ids)}, one class id for each item"
        if shape_of(target) == (*ids, 1):
            return f"{text}; type targets.squeeze(-1)"
        if shape_of(target) == (*ids[:1], 1, *ids[1:]):
            return f"{text}; type targets.squeeze(1)"
        if target.shape == scores.shape:
            return f"{text}; type targets.argmax(1)"
        if scores.dim() > 2 and target.shape == scores.shape[:-1]:
            return f"{text}; the classes stand last, move them with scores.movedim(-1, 1)"
        return _mixed(scores, target, given) or text
    if target.dtype not in (torch.int64, torch.uint8):
        return f"got targets {name_of(target.dtype)}: class ids are int64, type targets.long()"
    return (
        _class_weights(module, scores) or _range(module, scores, target) or _device(scores, target)
    )


def _class_weights(module: Any, scores: torch.Tensor) -> str:
    classes = scores.shape[1] if scores.dim() > 1 else scores.shape[0]
    if module.weight is None or module.weight.shape == (classes,):
        return ""
    return f"its weight is {shape_of(module.weight)}: the scores are of {classes} classes, one each"


def _mixed(scores: torch.Tensor, target: torch.Tensor, given: Given) -> str:
    """Say where a network made another number of items than it got."""
    if not target.dim() or scores.shape[0] == target.shape[0]:
        return ""
    found = mixed_items(given.earlier, shape_of(scores), target.shape[0])
    if found is None:
        return ""
    network, inside = found
    name = layer_name(network.network, network.layer)
    before = f", before {inside.layer} ({inside.type})" if inside is not None else ""
    return (
        f"got scores {shape_of(scores)} and targets {shape_of(target)}: {name} made "
        f"{scores.shape[0]} items of {target.shape[0]}{before}; a view or a reshape mixes items "
        f"there, keep the first axis, as x.flatten(1) does"
    )


def _range(module: Any, scores: torch.Tensor, target: torch.Tensor) -> str:
    classes = scores.shape[1] if scores.dim() > 1 else scores.shape[0]
    if target.is_meta:
        return ""
    counted = target[target != module.ignore_index]
    if not counted.numel():
        return ""
    low, high = int(counted.min()), int(counted.max())
    if low >= 0 and high < classes:
        return ""
    text = f"got targets {low} … {high}: the scores are of {classes} classes, 0 … {classes - 1}"
    if low > 0 and high == classes:
        return f"{text}; type targets - 1, or give the network {high + 1} outputs"
    return f"{text}; give the network {high + 1} outputs" if low >= 0 else text


def pair_loss(module: Any, got: torch.Tensor, given: Given) -> str:
    """Say what is wrong with the targets of a loss that compares value by value."""
    scores, target = given.tensor("input"), given.tensor("target")
    if scores is None or target is None:
        return ""
    if scores.shape != target.shape:
        text = f"got {shape_of(scores)} and targets {shape_of(target)}: they must have one shape"
        if shape_of(scores) == (*target.shape, 1):
            return f"{text}; type targets.unsqueeze(-1)"
        if shape_of(target) == shape_of(scores)[:1] and is_integer(target):
            return f"{text}; class ids go into nn.CrossEntropyLoss"
        if shape_of(target) == shape_of(scores)[:1]:
            return f"{text}; for one value an item give the network 1 output, and .squeeze(-1) it"
        return text
    binary = isinstance(module, nn.BCELoss | nn.BCEWithLogitsLoss)
    if binary and (is_integer(target) or target.dtype is torch.bool):
        return f"got targets {name_of(target.dtype)}: they must be numbers, type targets.float()"
    if isinstance(module, nn.BCELoss) and scores.numel() and not scores.is_meta:
        low, high = (float(each) for each in scores.detach().aminmax())
        if low < 0 or high > 1:
            return (
                f"got {low:.3g} … {high:.3g}: it takes probabilities in 0 … 1; "
                f"nn.BCEWithLogitsLoss takes scores"
            )
    return _device(scores, target)


def _device(scores: torch.Tensor, target: torch.Tensor) -> str:
    text = f"got scores on {scores.device} and targets on {target.device}"
    return two_devices(text, scores, "the targets", target)


PAIRWISE = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.KLDivLoss,
)

LOSSES: tuple[tuple[Any, Explain], ...] = (
    ((nn.CrossEntropyLoss, nn.NLLLoss), class_loss),
    (PAIRWISE, pair_loss),
)
"""For each kind of loss what explains why it refuses its input."""
