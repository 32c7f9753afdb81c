"""The iteration that a running loop has come to, as a point of each curve of each row."""

from collections.abc import Sequence

import numpy as np

from nnmagic.display.messages import PointContent
from nnmagic.display.table import Row
from nnmagic.records.call_log import TraceLog
from nnmagic.records.curves.drawn_curves import looks_of, middle_of
from nnmagic.records.measures import LOSS

OF_OUTPUTS = ("mean", "zeros", "grad_norm")
"""What is told of what a layer returned; then comes what is told of its parameters."""


def point_of(
    log: TraceLog, iteration: int, rows: Sequence[Row]
) -> tuple[PointContent, list[bytes]]:
    """Return the point, and the values and both ends of the band as little-endian float32.

    Args:
        log: the columns of the run, in which no call is in progress.
        iteration: the one that they have come to.
        rows: the rows of its table.
    """
    measured = _measured(log, {log.root_of(row.subject.call) for row in rows})
    names = [*OF_OUTPUTS, *dict.fromkeys(name for _, _, name in measured)]
    values = np.full((len(rows), len(names)), np.nan, dtype="<f4")
    ends = np.full((2, len(rows)), np.nan, dtype="<f4")
    for place, row in enumerate(rows):
        call, output = row.subject.call, row.subject.output
        layer = log.layer_of(call)
        if output is not None:
            numbers = log.tensors.statistics_of(output)
            values[place, :2] = numbers.mean, numbers.zeros
            ends[:, place] = middle_of(log.tensors.samples_of(output).spread)
            if output in log.gradients:
                values[place, 2] = log.tensors.norm_of(log.gradients[output])
        for column, name in enumerate(names[3:], 3):
            values[place, column] = measured.get((layer.network, layer.name, name), np.nan)
    content: PointContent = {
        "iteration": iteration,
        "curves": [looks_of(name) for name in names],
        "values": 0,
        "low": 1,
        "high": 2,
    }
    return content, [each.tobytes() for each in (values, *ends)]


def _measured(log: TraceLog, roots: set[int]) -> dict[tuple[int, str, str], float]:
    """Return what was measured of the parameters in some root calls, by network, layer and name."""
    measures = log.measures
    chosen = np.flatnonzero(np.isin(np.array(measures.root), list(roots)))
    found: dict[tuple[int, str, str], float] = {}
    for place in chosen.tolist():
        quantity = measures.quantities[measures.quantity[place]]
        if quantity.name != LOSS and not quantity.name.endswith(".norm"):
            found[quantity.network, quantity.layer, quantity.name] = measures.value[place]
    return found
