"""The rules on a run that trains whose bounds come from somewhere: what is far from all health."""

from collections.abc import Callable, Iterator
from functools import cached_property
from math import isfinite, prod
from typing import NamedTuple

import numpy as np

from nnmagic.display import units
from nnmagic.records.call_log import FINISHED, TraceLog
from nnmagic.records.curves.history import Curve, History
from nnmagic.records.finding import Finding
from nnmagic.records.findings.origins import Origins
from nnmagic.records.kept_slices import WHOLE, step_of
from nnmagic.records.measures import LOSS

RECTIFIERS = {"ReLU", "ReLU6", "Threshold"}
BOUNDED = {"Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Hardtanh": (-1.0, 1.0)}
INPUTS = 512
"""A layer's units are judged on the last so many inputs that are recorded, at least."""

NEAR, OFTEN = 0.05, 0.85
"""A value is at a bound if it is within this part of the range, and so often it must be."""

LEARNED, LAST_LOSSES = 0.01, 5
"""A loss has fallen to nothing if the last few are within this part of the first one."""

STEPS, FIRST_STEPS = 50, 10
EARLIER = 50
"""A spike needs so many losses before it, to tell how they vary; at most the last 1,000 count."""

LARGE = 100.0
"""An activation that is large for a neighbour must be large in itself too."""

FEWEST = 5
"""Gradients are compared in so many iterations at least."""


class Exceeded(NamedTuple):
    """What exceeds a bound: where, in which iteration, by what number, and in words."""

    network: int
    layer: str
    iteration: int
    number: float
    text: str
    level: str = "finding"


class Run:
    """What the rules read of a run.

    Args:
        log: the columns of the run.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self.history = History(log)

    @cached_property
    def curves(self) -> list[Curve]:
        """The curves of the iterations that gradients were enabled in."""
        curves = self.history.curves([LOSS, "weight.grad_norm", "weight.update_ratio"])
        return [curve for curve in curves if self.log.series[curve.series].grad]

    def of(self, quantity: str) -> dict[int, list[Curve]]:
        """Return the curves of a quantity by network, in the order in which the layers ran."""
        found: dict[int, list[Curve]] = {}
        for curve in self.curves:
            if curve.quantity == quantity and len(curve.values):
                found.setdefault(curve.network, []).append(curve)
        return found

    def is_after(self, call: int, series: int, iteration: int) -> bool:
        """Tell whether a call is of a later iteration of a series."""
        its_series, its_iteration = self.log.series_and_iteration_of(call)
        return its_series == series and its_iteration > iteration

    def has_learned(self, network: int) -> bool:
        """Tell whether the loss of a network has fallen to nothing."""
        curves = [curve.values for curve in self.of(LOSS).get(network, [])]
        return bool(curves) and all(
            losses[0] > 0 and 0 <= np.median(losses[-LAST_LOSSES:]) <= LEARNED * losses[0]
            for losses in curves
        )

    @cached_property
    def calls(self) -> dict[tuple[int, str, str], list[int]]:
        """The calls that returned while gradients were enabled, by network, layer and type."""
        log, series, found = self.log, 0, dict[tuple[int, str, str], list[int]]()
        roots = dict(zip(log.roots, log.root_series, strict=True))
        for call in range(len(log)):
            series = roots.get(call, series)
            is_trained = log.series[series].grad and call not in log.recomputed
            if is_trained and log.ended[call] == FINISHED and log.main_output(call) is not None:
                network, name, kind = log.layer_of(call)
                found.setdefault((network, name, kind), []).append(call)
        return found

    def last_calls(self, calls: list[int]) -> list[int]:
        """Return the last calls that together got so many inputs; none where they are fewer."""
        inputs, last = 0, []
        for call in reversed(calls):
            inputs += self.sizes(call)[0] if self.sizes(call) else 1
            last.append(call)
            if inputs >= INPUTS:
                return last
        return []

    def output(self, call: int) -> int:
        """Return the tensor that a call returned."""
        output = self.log.main_output(call)
        assert output is not None
        return output

    def sizes(self, call: int) -> list[int]:
        """Return the shape of what a call returned; an axis without one size has 1."""
        shape = self.log.tensors.metadata_of(self.output(call)).shape
        return [1 if size is None else size for size in shape]

    def sample(self, call: int) -> np.ndarray:
        """Return values taken evenly from what a call returned, in one dimension."""
        spread = self.log.tensors.samples_of(self.output(call)).spread
        return np.zeros(0) if spread is None else spread.real_array().ravel()


def dead_units(run: Run, bound: float) -> Iterator[Exceeded]:
    """Units of a rectifier that were 0 in every sampled value."""
    for (network, layer, kind), calls in run.calls.items():
        last = run.last_calls(calls) if kind in RECTIFIERS else []
        zeros = [run.log.tensors.statistics_of(run.output(call)).zeros for call in last]
        if not last or not min(zeros) >= bound:
            continue  # so large a part of the units is 0 only where as many values are
        shape = run.sizes(last[0])
        axis = 1 if len(shape) != 3 else 2  # channels of pictures, features of all else
        if len(shape) < 2:
            continue
        is_alive = np.zeros(shape[axis], dtype=bool)
        seen = np.zeros(shape[axis], dtype=bool)
        for call in last:
            values, sizes = run.sample(call), run.sizes(call)
            if sizes[1:] == shape[1:]:
                step = step_of(prod(sizes), WHOLE) if prod(sizes) > WHOLE else 1
                places = np.arange(len(values)) * step
                unit = places // prod(shape[axis + 1 :]) % shape[axis]
                seen[unit] = True
                is_alive[unit[values != 0]] = True
        share = float(1 - is_alive[seen].mean()) if seen.any() else 0.0
        if share >= bound:
            yield Exceeded(
                *(network, layer, run.log.iteration_of(last[0]), share),
                f"{share:.0%} of the units are 0 for each of the last {INPUTS} inputs or more: "
                "lower the learning rate, or begin with smaller weights",
            )


def saturated(run: Run, bound: float) -> Iterator[Exceeded]:
    """A sigmoid or tanh at its bounds most of the time, inside a network that has yet to learn."""
    for (network, layer, kind), calls in run.calls.items():
        last = run.last_calls(calls) if kind in BOUNDED else []
        if not last or run.output(last[0]) in run.log.outputs[run.log.root_of(last[0])]:
            continue  # a probability that the network returns may be near 0 or 1
        if run.has_learned(network):
            continue  # it needs no gradient any more
        low, high = BOUNDED[kind]
        edge = NEAR * (high - low)
        shares = [((v < low + edge) | (v > high - edge)).mean() for v in map(run.sample, last)]
        if np.mean([share > bound for share in shares]) >= OFTEN:
            share = float(np.median(shares))
            yield Exceeded(
                *(network, layer, run.log.iteration_of(last[0]), share),
                f"{share:.0%} of the {kind}'s outputs are at its bounds, where it has no gradient: "
                "scale what comes in, or begin with smaller weights",
            )


def large_activations(run: Run, bound: float) -> Iterator[Exceeded]:
    """One value that is far larger than the others of its tensor, not in a language model."""
    words = {network for network, _, kind in run.calls if kind.startswith("Embedding")}
    told = set[int]()
    for (network, layer, kind), calls in run.calls.items():
        if network in words | told or kind == "Softmax":
            continue
        for call in calls[:1] + calls[-1:]:
            numbers = run.log.tensors.statistics_of(run.output(call))
            largest = max(-numbers.min, numbers.max)
            if not largest > LARGE:
                continue
            values = np.abs(run.sample(call))
            usual = float(np.median(values[values > 0])) if (values > 0).any() else 0.0
            if usual and largest > bound * usual:
                told.add(network)
                yield Exceeded(
                    *(network, layer, run.log.iteration_of(call), largest / usual),
                    f"a value of {largest:,.4g} is {largest / usual:,.4g} times the usual one: "
                    "scale the inputs, or add a normalisation",
                )
                break


def loss_not_finite(run: Run, bound: float) -> Iterator[Exceeded]:
    """A loss that is NaN or infinite."""
    for network, curves in run.of(LOSS).items():
        for curve in curves:
            bad = np.flatnonzero(~np.isfinite(curve.values))
            if len(bad):
                at = int(curve.iterations[bad[0]])
                first = Origins(run.log).first
                if first is not None and run.is_after(first, curve.series, at):
                    first = None  # it only followed
                layer = "" if first is None else run.log.layer_of(first).name
                came = "" if first is None else f", first in {run.log.name_of(first)}"
                what = "NaN" if np.isnan(curve.values[bad[0]]) else "infinite"
                stays = len(bad) > 1 and len(bad) == len(curve.values) - bad[0]
                more = " and in later ones" if len(bad) > 1 else ""
                when = f"from iteration {at:,} on" if stays else f"in iteration {at:,}{more}"
                yield Exceeded(
                    network, layer, at, float(len(bad)), f"the loss is {what} {when}{came}"
                )
                break


def loss_spikes(run: Run, bound: float) -> Iterator[Exceeded]:
    """A loss far above those before it."""
    for network, curves in run.of(LOSS).items():
        for curve in curves:
            values = curve.values
            for at in range(EARLIER, len(values)):
                before = values[max(0, at - 1000) : at]
                before = before[np.isfinite(before)]
                spread = before.std() if len(before) >= EARLIER else 0.0
                height = (values[at] - before.mean()) / spread if spread else 0.0
                if height > bound:
                    yield Exceeded(
                        *(network, "", int(curve.iterations[at]), float(height)),
                        f"the loss jumps to {values[at]:.3g}, {height:.0f} standard deviations "
                        "above those before: clip the gradients, or lower the learning rate",
                    )
                    break


def vanishing_gradients(run: Run, bound: float) -> Iterator[Exceeded]:
    """The first weight's gradient against the last one's."""
    for network, curves in run.of("weight.grad_norm").items():
        first, last = curves[0], curves[-1]
        count = min(len(first.values), len(last.values))
        if len(curves) < 2 or count < FEWEST:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.median(first.values[-count:] / last.values[-count:]))
        if isfinite(ratio) and ratio < bound:
            yield Exceeded(
                *(network, first.layer, int(first.iterations[-1]), ratio),
                f"its gradient is {ratio:.1g} times that of {last.layer}: take ReLU for sigmoid or "
                "tanh, add normalisations or skip connections",
            )


def exploding_gradients(run: Run, bound: float) -> Iterator[Exceeded]:
    """The growth of all gradients in the first iterations."""
    for network, curves in run.of("weight.grad_norm").items():
        early = [curve.values[: FIRST_STEPS + 1] for curve in curves]
        growth = [float(np.nanmax(v) / v[0]) for v in early if len(v) > 1 and v[0] > 0]
        if growth and len(growth) == len(curves) and min(growth) >= bound:
            yield Exceeded(
                *(network, "", FIRST_STEPS, min(growth)),
                f"all gradients grow {min(growth):,.4g} times or more in the first {FIRST_STEPS} "
                "iterations: lower the learning rate",
            )


def small_updates(run: Run, bound: float) -> Iterator[Exceeded]:
    """Steps that hardly move the weights."""
    for network, curves in run.of("weight.update_ratio").items():
        last = [curve.values[-STEPS:] for curve in curves if len(curve.values) >= STEPS]
        ratio = float(np.nanmedian(np.concatenate(last))) if last else bound
        if ratio < bound:
            yield Exceeded(
                *(network, "", int(curves[0].iterations[-1]), ratio),
                f"the steps change the weights by {ratio:.1g} of their size: raise the learning "
                "rate",
            )


def large_logits(run: Run, bound: float) -> Iterator[Exceeded]:
    """The largest logit of an attention that was worked out."""
    for call, attention in run.log.attention.items():
        largest = max((each for each in attention.largest_logit if each is not None), default=0.0)
        if largest > bound:
            layer = run.log.layer_of(call)
            yield Exceeded(
                *(layer.network, layer.name, run.log.iteration_of(call), largest),
                f"an attention logit is {largest:,.0f}: normalise the queries and the keys",
                "finding" if largest > 1e4 else "note",
            )


class Threshold(NamedTuple):
    """A rule with a bound.

    Attributes:
        name: its name.
        bound: the bound.
        source: where that comes from.
        find: yields what exceeds it.
    """

    name: str
    bound: float
    source: str
    find: Callable[[Run, float], Iterator[Exceeded]]


MEASURED = "measured: 26 healthy runs of 13 networks stay within"

THRESHOLDS = (
    Threshold("a loss that is not finite", 0, "", loss_not_finite),
    Threshold("dead units", 0.9, f"{MEASURED} (62 % at most)", dead_units),
    Threshold("saturated units", 0.5, "Glorot and Bengio 2010; TheDeepChecker", saturated),
    Threshold("vanishing gradients", 1e-3, "AUTOTRAINER (ICSE 2021)", vanishing_gradients),
    Threshold("exploding gradients", 100, MEASURED, exploding_gradients),
    Threshold("steps that change nothing", 1e-6, MEASURED, small_updates),
    Threshold("a spike of the loss", 7, "OLMo 2 (2501.00656)", loss_spikes),
    Threshold("large attention logits", 100, "Wortsman 2023 (2309.14322)", large_logits),
    Threshold("very large activations", 1000, "Sun 2024 (2402.17762)", large_activations),
)


def exceeded(log: TraceLog) -> list[Finding]:
    """Return what the rules with a bound find of a run that trains."""
    run = Run(log)
    return [
        Finding(
            rule=rule.name,
            level=each.level,
            network=log.networks[each.network],
            layer=each.layer,
            iteration=each.iteration,
            text=f"{units.layer_name(log.networks[each.network], each.layer)}: {each.text}",
            number=each.number,
            bound=rule.bound,
            source=rule.source,
        )
        for rule in THRESHOLDS
        for each in rule.find(run, rule.bound)
    ]
