"""The panel of two runs side by side: a call's values here, there, and how they differ."""

from math import lcm

import numpy as np

from nnmagic.display import messages, units
from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.differences import KeptValues, overlap_of
from nnmagic.records.comparison.rows import ComparedCall, verdict_of
from nnmagic.records.comparison.table import ComparedRow
from nnmagic.records.histograms import values_of
from nnmagic.records.tensor import Picture, Sample
from nnmagic.widget.axes import Axes
from nnmagic.widget.cards import kept_grid
from nnmagic.widget.panel import LayerDetails, PanelMaker
from nnmagic.widget.tensor_names import output_names

MATCHED = {
    "name": "by its name",
    "rename": "by the map of names",
    "order": "by type, shape and order",
}


def comparison_panel(
    comparison: Comparison, row: ComparedRow, panels: PanelMaker
) -> messages.PanelContent:
    """Return the panel of a pair of calls; of a call that one side alone made, that side's.

    Args:
        comparison: the record.
        row: what a row of its table is about.
        panels: packs the panel.
    """
    compared, mine, other = row.call, comparison.mine, comparison.other
    said = verdict_of(compared)
    call, twin = compared.call, compared.other_call
    if call is not None and twin is not None:
        figures = _pairs(panels, mine, call, other, twin)
    elif call is not None:
        figures = [[card] for card in _cards(panels, mine, call, "a")]
    else:
        assert twin is not None
        figures = [[card] for card in _cards(panels, other, twin, "b")]
    name = compared.layer or compared.other_layer or compared.network
    panel = panels.layer_content(name, compared.type, LayerDetails())
    shapes = dict.fromkeys(map(units.shape, (compared.output_shape, compared.other_shape)))
    return {
        **panel,
        "shapes": " against ".join(filter(None, shapes)),
        "wrong": [said] if row.parts else [],
        "notes": [] if row.parts else [said],
        "figures": figures,
        "facts": [*_facts(comparison, compared), ("a", mine.title), ("b", other.title)],
    }


def _facts(comparison: Comparison, row: ComparedCall) -> list[tuple[str, str]]:
    """Return the numbers of a pair, each with its name."""
    errors = {
        "input error": row.input_error,
        "output error": row.output_error,
        "own error, on the same input": row.own_error,
        "error in float64": row.float64_error,
        "gradient error": row.gradient_error,
        "tolerance": row.tolerance,
        "largest |a - b|": row.max_abs,
    }
    facts = [(name, units.error(error)) for name, error in errors.items() if error is not None]
    if row.cosine is not None:
        facts.append(("cosine", f"{row.cosine:.6g}"))
    if row.matched_by is not None:
        how = MATCHED.get(row.matched_by, row.matched_by)
        facts.append(("matched", f"{how}, with {row.other_layer or 'the network'}"))
    return facts


def _pairs(
    panels: PanelMaker, mine: TraceLog, call: int, other: TraceLog, twin: int
) -> list[list[messages.TensorContent]]:
    """Return for each output that both sides have its values here, there, and the difference."""
    kept = KeptValues(mine.tensors, other.tensors)
    ours = dict(zip(mine.outputs[call], _cards(panels, mine, call, "a"), strict=False))
    theirs = dict(zip(other.outputs[twin], _cards(panels, other, twin, "b"), strict=False))
    rows = []
    for a, b in kept.pairs(mine.outputs[call], other.outputs[twin]):
        cards = [ours[a], theirs[b]]
        panels.share_scale(cards)
        difference = _difference(panels, mine, call, a, other, b)
        rows.append([*cards, *([] if difference is None else [difference])])
    return rows


def _cards(panels: PanelMaker, log: TraceLog, call: int, side: str) -> list[messages.TensorContent]:
    """Return a card for each tensor that a call returned."""
    axes, outputs = Axes(log, call), log.outputs[call]
    return [
        panels.tensor(log.tensors.record(tensor), title=f"{side}: {name}", axes=axes.of(tensor))
        for tensor, name in zip(outputs, output_names(log, call), strict=True)
    ]


def _difference(
    panels: PanelMaker, mine: TraceLog, call: int, a: int, other: TraceLog, b: int
) -> messages.TensorContent | None:
    """Return the card of a - b; None where no values are kept of the same places."""
    one, two = mine.tensors.record(a), other.tensors.record(b)
    overlap = overlap_of(one.shape, two.shape)
    grids = kept_grid(one), kept_grid(two)
    if overlap is None or grids[0] is None or grids[1] is None:
        return None
    picture = difference_of(grids[0], grids[1])
    if picture is None or not picture.sample.numel:
        return None
    items = "" if overlap.items is None else f"the {overlap.items} items that both have"
    return panels.difference(picture, overlap.shape, axes=Axes(mine, call).of(a), caption=items)


def difference_of(a: Picture, b: Picture) -> Picture | None:
    """Return a - b at the places that two grids have in common; None where their axes differ.

    Values that are equal, NaN in both or the same Inf do not differ.
    """
    if len(a.steps) != len(b.steps):
        return None
    steps = tuple(map(lcm, a.steps, b.steps))
    one, two = (
        values_of(grid.sample)[
            tuple(
                slice(None, None, step // own) for step, own in zip(steps, grid.steps, strict=True)
            )
        ].astype(np.float64)
        for grid in (a, b)
    )
    both = tuple(map(slice, map(min, one.shape, two.shape)))
    one, two = one[both], two[both]
    with np.errstate(invalid="ignore"):
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        apart = np.where(same, 0.0, one - two)
    return Picture(Sample("d", apart.shape, apart.tobytes()), steps)
