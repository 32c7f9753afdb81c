"""What is wrong with what a loss gets, though it raises nothing."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from nnmagic.network.places import calling_line
from nnmagic.network.watched_functions import watch
from nnmagic.recording.rules.target_rules import TargetRules
from nnmagic.records.call_log import FINISHED, RUNNING, TraceLog
from nnmagic.records.findings.nonfinite import is_softmax
from nnmagic.records.findings.of_calls import finding_of
from nnmagic.tensors import devices
from nnmagic.tensors.metadata import HiddenFromUserCode
from nnmagic.tensors.shards import is_whole, part_here
from nnmagic.tensors.values import why_unreadable
from nnmagic.tensors.writer import TensorWriter

ITEMS = 256
"""How many items of a batch are looked at."""

ROUNDING = {torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How far the sum of probabilities may be from 1, where it is not the usual 1e-4."""

MODULES = {
    "cross_entropy": "CrossEntropyLoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "nll_loss": "NLLLoss",
    "mse_loss": "MSELoss",
    "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss",
    "huber_loss": "HuberLoss",
}
"""The layers of the losses, by the functions that they call."""

LOSSES = tuple(getattr(F, function) for function in MODULES)
"""The functions that are watched, which their layers call too."""

ACTIVATIONS = {
    "SigmoidBackward0": "a sigmoid",
    "TanhBackward0": "a tanh",
    "ReluBackward0": "a ReLU",
}
"""What takes a part of their range from scores, by its name in the graph."""

SCORED = {"cross_entropy", "binary_cross_entropy_with_logits"}
"""The losses that want scores of any size."""

VIEWS = {"SqueezeBackward1", "SqueezeBackward0", "ViewBackward0", "UnsqueezeBackward0"}

ABOVE_UNIFORM, FEWEST = 1.5, 32
"""So many times ln C is more than a network of C classes may err before it has learned, in the mean
of so many items: that of fewer varies too much."""

CALLS = 50
"""How many calls back the softmax before a loss is looked for."""

Flags = list[torch.Tensor]


class Rule(NamedTuple):
    """A rule on the values that a loss gets.

    Attributes:
        name: the name of the rule.
        flags: gives what is to be true of the scores for the rule to hold.
        text: what is wrong, and what to type.
        is_of_batch: whether a part of a large batch cannot tell.
    """

    name: str
    flags: Callable[[torch.Tensor], Flags]
    text: str
    is_of_batch: bool = False


def _classes(scores: torch.Tensor) -> int:
    """Return the axis of the classes."""
    return 1 if scores.dim() > 1 else 0


def are_probabilities(scores: torch.Tensor) -> Flags:
    """Return whether all values are in 0..1, and add up to 1 over the classes."""
    apart = (scores.sum(_classes(scores)) - 1).abs()
    in_range = (scores >= 0) & (scores <= 1)
    return [in_range.all(), (apart <= ROUNDING.get(scores.dtype, 1e-4)).all()]


def are_over_the_batch(scores: torch.Tensor) -> Flags:
    """Return whether probabilities add up to 1 over the items of a batch, and not over classes."""
    near = ROUNDING.get(scores.dtype, 1e-4)
    over_items, over_classes = ((scores.sum(axis) - 1).abs() <= near for axis in (0, 1))
    in_range = (scores >= 0) & (scores <= 1)
    return [in_range.all(), over_items.all(), ~over_classes.all()]


def are_raw_scores(scores: torch.Tensor) -> Flags:
    """Return whether some value is no logarithm of a probability, nor all a probability."""
    scores = scores.float()
    is_sum = (scores.sum(_classes(scores)) - 1).abs() <= 1e-2
    return [(scores > 1e-2).any(), ~(is_sum & (scores >= 0).all()).all()]


OVER_THE_BATCH = (
    "got a softmax over the batch (the values of each class add up to 1, and not those of each "
    "item){source}: type dim=1"
)

VALUE_RULES = {
    "cross_entropy": (
        Rule("a softmax over the batch", are_over_the_batch, OVER_THE_BATCH, is_of_batch=True),
        Rule(
            "probabilities into a loss that wants scores",
            are_probabilities,
            "got probabilities (each row adds up to 1){source}, and applies log_softmax itself: "
            "leave out the softmax and pass the scores",
        ),
    ),
    "nll_loss": (
        Rule(
            "a softmax over the batch",
            lambda scores: are_over_the_batch(scores.exp()),
            OVER_THE_BATCH,
            is_of_batch=True,
        ),
        Rule(
            "probabilities into a loss that wants their logarithms",
            are_probabilities,
            "got probabilities (each row adds up to 1){source} and wants their logarithms: "
            "type nn.LogSoftmax(1) for the softmax, or pass scores to nn.CrossEntropyLoss",
        ),
        Rule(
            "scores into a loss that wants log-probabilities",
            are_raw_scores,
            "got scores above 0 and wants log-probabilities: "
            "pass them to nn.CrossEntropyLoss, or type nn.LogSoftmax(1) after the last layer",
        ),
    ),
}
"""By the name of the loss function."""


def broadcast_text(output: torch.Tensor, target: torch.Tensor) -> str:
    """Say that an output and a target are compared each with each; empty where they are not."""
    shapes = tuple(output.shape), tuple(target.shape)
    try:
        together = tuple(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        return ""  # the loss refuses them itself
    if together in shapes:
        return ""
    more = max(range(2), key=lambda i: len(shapes[i]))
    what = ("the output", "the target")[more]
    axes = [i for i, size in enumerate(shapes[more]) if size == 1]
    mend = f": type .squeeze({axes[-1]}) on {what}" if axes else ""
    return f"of {shapes[0]} against {shapes[1]} compares each with each, {together}{mend}"


def activation_before(scores: torch.Tensor) -> str:
    """Return which activation made scores, as `"a sigmoid"`; empty where none did."""
    node = scores.grad_fn
    while node is not None and node.name() in VIEWS:
        node = node.next_functions[0][0]
    return "" if node is None else ACTIVATIONS.get(node.name(), "")


class LossRules:
    """Holds what losses get against the rules, once for each place in the code.

    Args:
        log: the columns of the run, which get the findings.
        tensors: reads flags that are on an accelerator.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter) -> None:
        self.log = log
        self.tensors = tensors
        self._thread = get_ident()
        self._seen: set[Any] = set()
        self._targets = TargetRules(tensors)
        self._started: Callable[[torch.Tensor], None] | None = None
        self._starts: list[Callable[[], None]] = []
        self._leave: Callable[[], None] | None = None

    def begin(self) -> None:
        """Look at every loss from now on."""
        if self._leave is None:
            self._leave = watch(LOSSES, self._note, self._returned)

    def let_go(self) -> None:
        """Look at no more losses."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def conclude(self) -> None:
        """Add what all batches together tell."""
        if len(self.log.measures):  # no loss is too large that nothing learns from
            for tell in self._starts:
                tell()
        self._targets.conclude()

    def _note(self, function: str, given: Mapping[str, Any]) -> None:
        place, self._started = (function, *calling_line()), None
        if get_ident() != self._thread or not len(self.log):
            return
        output, target = given["input"], given["target"]
        if not (is_whole(output) and is_whole(target)):
            return  # what is here may be a part of each item, and the classes elsewhere
        if function in VALUE_RULES and not why_unreadable(target):
            add = partial(self._finding, "batches of one class", function)
            with HiddenFromUserCode():
                self._targets.look_at(place, target, add)
        if place in self._seen:
            return
        self._seen.add(place)
        if why_unreadable(output) or why_unreadable(target) or not output.is_floating_point():
            return
        if function in SCORED and torch.is_grad_enabled() and (how := activation_before(output)):
            self._finding("an activation before a loss that wants scores", function)(
                f"got the output of {how}, and wants scores: leave it out after the last layer"
            )
        if function == "cross_entropy" and given.get("reduction", "mean") == "mean":
            self._started = self._start(output)
        with HiddenFromUserCode(), torch.no_grad():
            if function not in VALUE_RULES:
                text = broadcast_text(output, target)
                if text:
                    self._finding("each output against each target", function)(text)
            elif output.dim() and output.numel() and output.shape[_classes(output)] > 1:
                self._look_at_values(function, part_here(output).detach())

    def _returned(self, function: str, loss: Any) -> None:
        started, self._started = self._started, None
        if started is not None and isinstance(loss, torch.Tensor) and loss.requires_grad:
            with HiddenFromUserCode(), torch.no_grad():
                started(part_here(loss).detach())

    def _start(self, scores: torch.Tensor) -> Callable[[torch.Tensor], None] | None:
        """Return what holds the first loss of a network that trains against that of a guess."""
        classes = scores.shape[_classes(scores)] if scores.dim() else 1
        if classes < 2 or scores.numel() < FEWEST * classes or not scores.requires_grad:
            return None
        guess, add = math.log(classes), self._finding("a large loss at the start", "cross_entropy")

        def held(losses: list[torch.Tensor], reason: str = "") -> None:
            loss = math.nan if reason else float(losses[0])
            if math.isfinite(loss) and loss > ABOVE_UNIFORM * guess:
                tell = partial(
                    add,
                    f"begins at {loss:.3g}, and a guess among {classes} classes has {guess:.3g}: "
                    "scale the inputs, or begin with smaller weights in the last layer",
                    number=loss,
                    bound=ABOVE_UNIFORM * guess,
                    source="CS231n: the loss at chance, ln C; 50 % above it",
                )
                self._starts.append(tell)

        def look(loss: torch.Tensor) -> None:
            if devices.on_accelerator(loss):
                self.tensors.read_later([loss.clone()], held)
            else:
                held([loss])

        return look

    def _look_at_values(self, function: str, scores: torch.Tensor) -> None:
        source = self._softmax_of(tuple(scores.shape))
        looked_at = scores[:ITEMS] if scores.dim() > 1 else scores
        # as many items as classes: pairs of a contrastive loss, which may be read either way
        is_whole = scores.dim() > 1 and 1 < len(scores) <= ITEMS and len(scores) != scores.shape[1]
        for rule in VALUE_RULES[function]:
            if rule.is_of_batch and not is_whole:
                continue
            flags, add = rule.flags(looked_at), self._finding(rule.name, function)
            text = rule.text.format(source=source)
            if devices.on_accelerator(scores):
                self.tensors.read_later(flags, partial(_add_later, add, text))
            elif all(flags):
                add(text)

    def _softmax_of(self, shape: tuple[int, ...]) -> str:
        """Return from which call that returned last probabilities of this shape may come."""
        log = self.log
        for call in range(len(log) - 1, max(-1, len(log) - 1 - CALLS), -1):
            output = log.main_output(call) if log.ended[call] == FINISHED else None
            if output is None or log.tensors.metadata_of(output).shape != shape:
                continue
            if is_softmax(log, call):
                return f" from {log.name_with_type(call)}"
        return ""

    def _finding(self, rule: str, function: str) -> Callable[..., None]:
        """Return what adds a finding on the loss that is called now, given its text."""
        log, call = self.log, len(self.log) - 1
        found = finding_of(log, call, rule, log.name_of(call))
        if log.ended[call] != RUNNING or log.layer_of(call).type != MODULES[function]:
            found = replace(found, layer="", text=f"F.{function}")

        def add(text: str, **more: Any) -> None:
            log.findings.append(replace(found, text=f"{found.text} {text}", **more))

        return add


def _add_later(
    add: Callable[[str], None], text: str, flags: list[torch.Tensor], reason: str
) -> None:
    """Add a finding once its flags are read."""
    if not reason and all(map(bool, flags)):
        add(text)
