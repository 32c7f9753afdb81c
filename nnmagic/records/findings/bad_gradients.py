"""NaN and Inf in the gradients of a run: of what layers returned, and of their parameters."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from math import isnan
from typing import NamedTuple

import numpy as np

from nnmagic.display import units
from nnmagic.records.call_log import TraceLog
from nnmagic.records.finding import Finding

ITS_OUTPUT = "its output"
LEFT_OUT = ", and no step used it, as a GradScaler leaves it out"

NORM = ".grad_norm"
"""How the quantity of a parameter's gradient ends."""


class LayerInIteration(NamedTuple):
    """A layer in one iteration: its series and number, the network's index and the layer's name."""

    series: int
    iteration: int
    network: int
    layer: str


class BadGradient(NamedTuple):
    """What is NaN, or Inf, in the gradients of a layer in one iteration.

    Attributes:
        where: the layer and the iteration.
        what: `"NaN"` or `"Inf"`.
        text: what a person reads.
        is_used: whether a step may have used it.
    """

    where: LayerInIteration
    what: str
    text: str
    is_used: bool


class BadGradients:
    """Looks through the gradients of all iterations, whichever is shown.

    Args:
        log: the columns of the run.

    Attributes:
        found: what is bad, by time, in the order of the layers; what no step used comes last.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self._outputs: dict[int, str] = {}
        self._bad: dict[LayerInIteration, dict[str, str]] = defaultdict(dict)
        self._held: dict[int | None, str] = {}
        if log.graded:
            for what in ("Inf", "NaN"):  # of both NaN is the worse
                held = np.flatnonzero(np.array(log.tensors.column(what.lower())) > 0)
                self._held |= dict.fromkeys(held.tolist(), what)
            self._look_at_outputs()
            self._look_at_parameters()
            self._look_at_earlier()
        self.found = self._in_order() if self._bad else []

    def texts(self, call: int) -> dict[str, str]:
        """Return in words what is bad in the gradients of a call, by `"NaN"` and `"Inf"`."""
        if not self.found:
            return {}
        bad = dict(self._bad.get(self._layer_of(call), {}))
        bad.pop(ITS_OUTPUT, None)  # that of another call of the layer may be in order
        return _texts(bad | ({ITS_OUTPUT: self._outputs[call]} if call in self._outputs else {}))

    def findings(self) -> list[Finding]:
        """Return the findings."""
        return [
            Finding(
                rule=f"{each.what} in a gradient",
                level="finding" if each.is_used else "note",
                network=self.log.networks[each.where.network],
                layer=each.where.layer,
                iteration=each.where.iteration,
                text=f"{each.text}{'' if each.is_used else LEFT_OUT}",
            )
            for each in self.found
        ]

    def elsewhere(self, calls: Iterable[int]) -> list[BadGradient]:
        """Return the first NaN, and the first Inf, that is of none of these calls.

        Of several layers it is the last one that ran, to which the backward came first.
        """
        shown = set(map(self._layer_of, calls)) if self.found else set()
        first: dict[str, BadGradient] = {}
        for each in self.found:
            known = first.setdefault(each.what, each)
            if known.where[:2] == each.where[:2] and known.is_used == each.is_used:
                first[each.what] = each
        return [each for each in first.values() if each.where not in shown]

    def _layer_of(self, call: int) -> LayerInIteration:
        layer = self.log.layer_of(call)
        return LayerInIteration(*self.log.series_and_iteration_of(call), layer.network, layer.name)

    def _look_at_outputs(self) -> None:
        """Find the calls whose outputs got a bad gradient."""
        log = self.log
        bad = {t: self._held[g] for t, g in log.gradients.items() if g in self._held}
        if not bad:
            return
        for call in range(len(log)):
            found = [bad[each] for each in log.outputs[call] if each in bad]
            if found:
                self._outputs[call] = self._bad[self._layer_of(call)][ITS_OUTPUT] = max(found)

    def _look_at_parameters(self) -> None:
        """Find the iterations in which the norm of a parameter's gradient was NaN or Inf."""
        log, measures = self.log, self.log.measures
        names = [each.name.endswith(NORM) for each in measures.quantities]
        count = len(measures)
        of = np.array(measures.quantity[:count], dtype=np.int64)
        values = np.array(measures.value[:count])
        bad = np.array(names, dtype=bool)[of] & ~np.isfinite(values)
        for row in np.flatnonzero(bad).tolist():
            network, layer, name = measures.quantities[of[row]]
            where = log.series_and_iteration_of(measures.root[row])
            what = "NaN" if isnan(values[row]) else "Inf"
            key = LayerInIteration(*where, network, layer)
            self._bad[key][name.removesuffix(NORM)] = what

    def _look_at_earlier(self) -> None:
        """Find the parameters whose bad gradients no backward of the run made."""
        log = self.log
        made = {each for each in log.measures.quantities if each.name.endswith(NORM)}
        last = {layer: call for call, layer in enumerate(log.layer[: len(log)])}
        for layer, own in log.parameter_gradients.items():
            network, name, _ = log.layers[layer]
            for parameter, gradient in own.items():
                is_new = (network, name, f"{parameter}{NORM}") in made
                if gradient in self._held and not is_new and layer in last:
                    self._bad[self._layer_of(last[layer])][parameter] = self._held[gradient]

    def _in_order(self) -> list[BadGradient]:
        log, moved = self.log, self._moved()
        time: dict[tuple[int, int], int] = {}
        for iteration in zip(log.root_series, log.root_iteration, strict=False):
            time.setdefault(iteration, len(time))
        order = {(each.network, each.name): place for place, each in enumerate(log.layers)}
        found = []
        for where, bad in self._bad.items():
            place = units.layer_name(log.networks[where.network], where.layer)
            is_used = moved is None or where[:2] in moved
            for what, text in _texts(bad).items():
                found.append(BadGradient(where, what, f"{place}: {text}", is_used))
        return sorted(
            found,
            key=lambda each: (
                not each.is_used,
                time.get(each.where[:2], 0),
                order.get(each.where[2:], len(order)),
            ),
        )

    def _moved(self) -> Collection[tuple[int, int]] | None:
        """Return the iterations whose steps changed a parameter; None where none is known to."""
        log, measures = self.log, self.log.measures
        ratios = {i for i, q in enumerate(measures.quantities) if q.name.endswith("update_ratio")}
        steps = zip(measures.root, measures.quantity, measures.value, strict=True)
        moved = {root for root, of, value in steps if of in ratios and value != 0}
        return {log.series_and_iteration_of(root) for root in moved} or None


def _texts(bad: dict[str, str]) -> dict[str, str]:
    """Return in words which gradients are NaN, and which Inf, of those by their names."""
    texts = {}
    for what in ("NaN", "Inf"):
        found = (name for name, held in bad.items() if held == what)
        names = sorted(found, key=lambda name: (name != ITS_OUTPUT, not name.startswith("weight")))
        if names:
            texts[what] = f"{what} in the gradient of {', '.join(names)}"
    return texts
