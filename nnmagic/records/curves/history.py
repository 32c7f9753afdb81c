"""The record over iterations: the quantities of each layer as curves, and as a data frame."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nnmagic.records.call_log import TraceLog
from nnmagic.records.histograms import binned
from nnmagic.records.measures import LOSS
from nnmagic.records.shown_iterations import ShownIterations
from nnmagic.records.tensor import STATISTICS, Statistics
from nnmagic.records.tensor_log import WIDTH

BINS = 32
"""How many bins the histogram of a layer's output has in each iteration."""

GRADIENTS = ("grad_norm", "grad_mean", "grad_std")
"""What is known of the gradient of a layer's output."""


class Curve(NamedTuple):
    """One quantity of one layer over the recorded iterations of one series.

    Attributes:
        series: the number of the series: a place in the code and a mode.
        network: the index of the network.
        layer: the layer's dotted name, `""` for the network itself.
        quantity: e.g. `"mean"`, `"grad_norm"`, `"weight.update_ratio"`, `"loss"`.
        iterations: int64, the numbers of the iterations, ascending.
        values: float64, one an iteration, of several calls the last one's; NaN where unknown.
    """

    series: int
    network: int
    layer: str
    quantity: str
    iterations: np.ndarray
    values: np.ndarray


class Distributions(NamedTuple):
    """The histograms of a layer's output over the recorded iterations of one series.

    Attributes:
        iterations: int64, (iterations,).
        low: float64, (iterations,): the least finite value of each.
        high: the greatest one.
        counts: int64, (iterations, 32): how many values fall into each of the equal bins between.
        of: int64, (iterations,): how many values each histogram is over, all or a sample.
        numel: int64, (iterations,): how many the output had.
    """

    iterations: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray
    of: np.ndarray
    numel: np.ndarray


class _Rows(NamedTuple):
    """Numbers, one a row, as columns; `layer` and `quantity` are indices of names."""

    root: np.ndarray
    layer: np.ndarray
    quantity: np.ndarray
    value: np.ndarray


class History:
    """Reads a log over its iterations.

    Args:
        log: the columns of the run.

    Attributes:
        layers: the network and the name of each layer that has a number; rows hold their indices.
        quantities: the names of the quantities, likewise.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self.layers: list[tuple[int, str]] = []
        self.quantities = [*STATISTICS, *(GRADIENTS if log.graded else ())]
        self._of_tensors = frozenset(self.quantities)
        self._layer_index: dict[tuple[int, str], int] = {}
        self._layers_of_log = [self._index(each.network, each.name) for each in log.layers]
        log.tensors.column("min")  # reads what waits on accelerators

    @cached_property
    def _statistics(self) -> np.ndarray:
        return np.array(self.log.tensors.statistics).reshape(-1, WIDTH)

    def _index(self, network: int, layer: str) -> int:
        key = network, layer
        index = self._layer_index.setdefault(key, len(self.layers))
        if index == len(self.layers):
            self.layers.append(key)
        return index

    @cached_property
    def _outputs(self) -> np.ndarray:
        """What the calls returned: the root call's place, the layer and the tensor, (calls, 3)."""
        log, layers = self.log, self._layers_of_log
        place = {root: place for place, root in enumerate(log.roots)}
        found = []
        for call, root in enumerate(log.root_of_each()):
            output = log.main_output(call)
            if output is not None and call not in log.recomputed:
                found.append((place[root], layers[log.layer[call]], output))
        return np.array(found, dtype=np.int64).reshape(-1, 3)

    @cached_property
    def rows(self) -> _Rows:
        """All numbers, in the order of the root calls that they belong to."""
        parts = [self._of_outputs(), self._of_measures()]
        return _in_order(_Rows(*map(np.concatenate, zip(*parts, strict=True))))

    def _of_outputs(self) -> _Rows:
        log, columns = self.log, [Statistics._fields.index(name) for name in STATISTICS]
        roots, layers, tensors = self._outputs.T
        values = self._statistics[tensors][:, columns]
        if log.graded:
            gradients = [log.gradients.get(each, -1) for each in tensors.tolist()]
            values = np.hstack([values, self._of_gradients(np.array(gradients, dtype=np.int64))])
        count = values.shape[1]
        return _Rows(
            np.repeat(roots, count),
            np.repeat(layers, count),
            np.tile(np.arange(count), len(values)),
            values.ravel(),
        )

    def _of_gradients(self, gradients: np.ndarray) -> np.ndarray:
        """Return the norm, the mean and the standard deviation of gradients; -1 is none."""
        found = np.full((len(gradients), 3), np.nan)
        for place, gradient in enumerate(gradients.tolist()):
            if gradient >= 0:
                found[place, 0] = self.log.tensors.norm_of(gradient)
        has = gradients >= 0
        mean = Statistics._fields.index("mean")
        found[has, 1:] = self._statistics[gradients[has]][:, mean : mean + 2]
        return found

    def _of_measures(self, wanted: Sequence[str] | None = None) -> _Rows:
        log = self.log
        measures = log.measures
        layers, names = [], []
        for network, layer, name in measures.quantities:
            if name not in self.quantities:
                self.quantities.append(name)
            layers.append(self._index(network, layer))
            names.append(self.quantities.index(name))
        count = len(measures)
        quantity = np.array(measures.quantity[:count], dtype=np.int64)
        if wanted is None:
            kept = np.arange(count)
        else:
            is_wanted = np.array([each.name in wanted for each in measures.quantities], dtype=bool)
            kept = np.flatnonzero(is_wanted[quantity])
        quantity, count = quantity[kept], len(kept)
        value = np.array(measures.value)[kept]
        root = np.searchsorted(np.array(log.roots), np.array(measures.root)[kept])
        is_loss = np.array([each.name == LOSS for each in measures.quantities], dtype=bool)
        groups = np.stack([*self._iteration_of(root), quantity])
        # of each group the last row, which is the first one from behind
        _, last, group = np.unique(groups[:, ::-1], axis=1, return_index=True, return_inverse=True)
        last, group = count - 1 - last, group.ravel()[::-1]
        means = np.bincount(group, value, len(last)) / np.maximum(1, np.bincount(group))
        last_is_loss = is_loss[quantity[last]] if count else np.zeros(0, dtype=bool)
        order = np.argsort(last)
        last = last[order]
        return _Rows(
            root[last],
            np.array(layers, dtype=np.int64)[quantity[last]],
            np.array(names, dtype=np.int64)[quantity[last]],
            np.where(last_is_loss[order], means[order], value[last]),
        )

    def _iteration_of(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the series and the iterations of root calls, given by their places."""
        log = self.log
        series = np.array(log.root_series, dtype=np.int64)
        return series[roots], np.array(log.root_iteration, dtype=np.int64)[roots]

    def curves(self, quantities: Sequence[str] | None = None) -> Iterator[Curve]:
        """Yield each quantity of each layer in each series as a curve.

        Args:
            quantities: the names of those that are wanted; None is all.
        """
        if quantities is None or self._of_tensors.intersection(quantities):
            rows = self.rows
        else:  # those of no tensor are quick to find
            rows = _in_order(self._of_measures(quantities))
        series, iterations = self._iteration_of(rows.root)
        wanted = np.array([quantities is None or each in quantities for each in self.quantities])
        chosen = np.flatnonzero(wanted[rows.quantity]) if len(rows.root) else np.zeros(0, np.int64)
        keys = np.stack([series, rows.layer, rows.quantity])[:, chosen]
        order = np.lexsort((np.arange(len(chosen)), iterations[chosen], *keys[::-1]))
        keys, chosen = keys[:, order], chosen[order]
        ends = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(0)) + 1
        for part in np.split(np.arange(len(chosen)), ends):
            if not len(part):
                continue
            of, layer, quantity = keys[:, part[0]].tolist()
            numbers, values = iterations[chosen[part]], rows.value[chosen[part]]
            is_last = np.append(numbers[1:] != numbers[:-1], True)
            network, name = self.layers[layer]
            yield Curve(
                of, network, name, self.quantities[quantity], numbers[is_last], values[is_last]
            )

    def outputs(self, series: int, layer: str) -> dict[int, int]:
        """Return the tensor that a layer returned, by the iteration of a series."""
        roots, layers, tensors = self._outputs.T
        of, iterations = self._iteration_of(roots)
        named = np.array([name == layer for _, name in self.layers], dtype=bool)
        found = np.flatnonzero((of == series) & named[layers])
        return {int(iterations[each]): int(tensors[each]) for each in found}

    def distributions(self, series: int, layer: str) -> Distributions:
        """Return the histograms of a layer's output over the iterations of a series."""
        log, last = self.log, self.outputs(series, layer)
        limits = self._statistics[list(last.values())][:, :2].reshape(-1, 2)
        counts, sizes, numel = [], [], []
        for tensor, (low, high) in zip(last.values(), limits.tolist(), strict=True):
            spread = log.tensors.samples_of(tensor).spread
            values = np.zeros((1, 0)) if spread is None else spread.real_array().reshape(1, -1)
            counts.append(binned(values, np.array([[low]]), np.array([[high]]), BINS)[0])
            sizes.append(values.size)
            numel.append(log.tensors.metadata_of(tensor).numel)
        return Distributions(
            np.array(list(last), dtype=np.int64),
            limits[:, 0],
            limits[:, 1],
            np.array(counts, dtype=np.int64).reshape(-1, BINS),
            np.array(sizes, dtype=np.int64),
            np.array(numel, dtype=np.int64),
        )

    def frame(self, *, series: bool) -> Any:
        """Return a tidy DataFrame: network, iteration, step, layer, quantity and value.

        Args:
            series: whether a seventh column names the series: `net`, or `net (eval)`.
        """
        import pandas as pd

        log, rows = self.log, self.rows
        networks = np.array([log.networks[network] for network, _ in self.layers], dtype=object)
        names = np.array([name for _, name in self.layers], dtype=object)
        of, iterations = self._iteration_of(rows.root)
        steps = np.array([log.step[root] for root in log.roots], dtype=np.int64)
        columns = {
            "network": networks[rows.layer],
            "iteration": iterations,
            "step": steps[rows.root],
            "layer": names[rows.layer],
            "quantity": np.array(self.quantities, dtype=object)[rows.quantity],
            "value": rows.value,
        }
        if series:
            shown = ShownIterations(log, None).names
            labels = [shown.get(each, "") for each in range(len(log.series))]
            columns["series"] = np.array(labels, dtype=object)[of]
        return pd.DataFrame(columns)


def _in_order(rows: _Rows) -> _Rows:
    order = np.argsort(rows.root, kind="stable")
    return _Rows(*(column[order] for column in rows))
