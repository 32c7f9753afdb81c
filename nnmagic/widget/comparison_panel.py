"""The panel of two runs side by side: a call's values here, there, and how they differ."""

from math import lcm

import numpy as np

from nnmagic.display import messages, units
from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.differences import KeptValues, overlap_of
from nnmagic.records.comparison.rows import ComparedCall, verdict_of
from nnmagic.records.comparison.table import ComparedRow
from nnmagic.records.histograms import exact_values_of
from nnmagic.records.tensor import Picture, Sample
from nnmagic.widget.axes import Axes
from nnmagic.widget.cards import kept_grid
from nnmagic.widget.panel import LayerDetails, PanelMaker
from nnmagic.widget.tensor_names import input_names, output_names

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
        figures = _pairs(panels, _Side("a", mine, call), _Side("b", other, twin))
    elif call is not None:
        figures = _Side("a", mine, call).cards(panels)
    else:
        assert twin is not None
        figures = _Side("b", other, twin).cards(panels)
    name = compared.layer or compared.other_layer or compared.network
    panel = panels.layer_content(name, compared.type, LayerDetails())
    shapes = dict.fromkeys(map(units.shape, (compared.output_shape, compared.other_shape)))
    return {
        **panel,
        "shapes": " against ".join(filter(None, shapes)),
        "wrong": [said] if row.parts else [],
        "notes": [] if row.parts else [said],
        "figures": figures,
        "facts": [*_facts(comparison, compared), *zip("ab", comparison.titles, strict=True)],
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


class _Side:
    """A call of one of the two runs.

    Args:
        letter: what the run is called: "a" or "b".
        log: the columns of the run.
        call: the call.
    """

    def __init__(self, letter: str, log: TraceLog, call: int) -> None:
        self.letter, self.log, self.axes = letter, log, Axes(log, call)
        self.tensors = {"output": log.outputs[call], "input": log.inputs[call]}
        self.names = {"output": output_names(log, call), "input": input_names(log, call)}

    def card(self, panels: PanelMaker, side: str, tensor: int) -> messages.TensorContent:
        """Return the card of a tensor that the call returned ("output") or got ("input")."""
        name = self.names[side][self.tensors[side].index(tensor)]
        record, axes = self.log.tensors.record(tensor), self.axes.of(tensor)
        return panels.tensor(record, title=f"{self.letter}: {name}", axes=axes)

    def cards(self, panels: PanelMaker) -> list[list[messages.TensorContent]]:
        """Return the cards of what the call returned, one a row."""
        return [[self.card(panels, "output", each)] for each in self.tensors["output"]]


def _pairs(panels: PanelMaker, mine: _Side, other: _Side) -> list[list[messages.TensorContent]]:
    """Return for each tensor that both sides have its values here, there, and the difference.

    Those that the call returned come first; of those that it got the ones that differ.
    """
    kept, rows = KeptValues(mine.log.tensors, other.log.tensors), []
    for side in ("output", "input"):
        for a, b in dict.fromkeys(kept.pairs(mine.tensors[side], other.tensors[side])):
            apart = kept.difference(a, b) if side == "input" else None
            if apart is not None and apart.error == 0:
                continue
            cards = [mine.card(panels, side, a), other.card(panels, side, b)]
            panels.share_scale(cards)
            difference = _difference(panels, mine, a, other, b)
            if difference is not None:
                _open_alike(cards, difference)
                cards.append(difference)
            rows.append(cards)
    return rows


def _open_alike(cards: list[messages.TensorContent], difference: messages.TensorContent) -> None:
    """Let the pictures of both sides open where that of their difference does."""
    for card in cards:
        if card["picture"] is not None and difference["picture"] is not None:
            card["picture"]["start"] = difference["picture"]["start"]


def _difference(
    panels: PanelMaker, mine: _Side, a: int, other: _Side, b: int
) -> messages.TensorContent | None:
    """Return the card of a - b; None where no values are kept of the same places."""
    one, two = mine.log.tensors.record(a), other.log.tensors.record(b)
    overlap = overlap_of(one.shape, two.shape)
    grids = kept_grid(one), kept_grid(two)
    if overlap is None or grids[0] is None or grids[1] is None:
        return None
    picture = difference_of(grids[0], grids[1])
    if picture is None or not picture.sample.numel:
        return None
    is_complex = any(each.dtype.startswith("complex") for each in (one, two))
    return panels.difference(
        picture,
        overlap.shape,
        title="|a - b|" if is_complex else "a - b",
        axes=mine.axes.of(a),
        caption="" if overlap.items is None else f"the {overlap.items} items that both have",
    )


def difference_of(a: Picture, b: Picture) -> Picture | None:
    """Return a - b at the places that two grids have in common; None where their axes differ.

    Values that are equal, NaN in both or the same Inf do not differ. Of complex numbers it is the
    absolute value of the difference.
    """
    if len(a.steps) != len(b.steps):
        return None
    steps = tuple(map(lcm, a.steps, b.steps))
    one, two = (
        exact_values_of(grid.sample)[
            tuple(
                slice(None, None, step // own) for step, own in zip(steps, grid.steps, strict=True)
            )
        ]
        for grid in (a, b)
    )
    both = tuple(map(slice, map(min, one.shape, two.shape)))
    one, two = one[both], two[both]
    with np.errstate(invalid="ignore"):
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        apart = np.where(same, 0.0, one - two)
    if np.iscomplexobj(apart):
        apart = np.abs(apart)
    return Picture(Sample("d", apart.shape, apart.tobytes()), steps)
