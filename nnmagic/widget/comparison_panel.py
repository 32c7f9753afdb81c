"""The panel of two runs side by side: a call's values here, there, and how they differ."""

from collections.abc import Sequence
from math import lcm
from typing import NamedTuple

import numpy as np

from nnmagic.display import messages, units
from nnmagic.records.call_log import TraceLog
from nnmagic.records.comparison.comparison import Comparison
from nnmagic.records.comparison.differences import KeptValues, overlap_of
from nnmagic.records.comparison.rows import ComparedCall, verdict_of
from nnmagic.records.comparison.table import ComparedRow
from nnmagic.records.kept_slices import with_nonfinite
from nnmagic.records.tensor import Picture, Sample, TensorRecord
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
        "output gradient error": row.gradient_error,
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


class _Shown(NamedTuple):
    """A tensor of one of the two runs, to be shown.

    Attributes:
        log: the columns of the run.
        tensor: its number.
        title: what it is called.
        axes: the names of its axes.
    """

    log: TraceLog
    tensor: int
    title: str
    axes: Sequence[str]

    @property
    def record(self) -> TensorRecord:
        """What was recorded of it."""
        return self.log.tensors.record(self.tensor)

    @property
    def gradient(self) -> "_Shown | None":
        """Its gradient, if that was recorded."""
        gradient, (letter, name) = self.log.gradients.get(self.tensor), self.title.split(": ", 1)
        if gradient is None:
            return None
        return self._replace(tensor=gradient, title=f"{letter}: gradient of {name}")

    def card(self, panels: PanelMaker) -> messages.TensorContent:
        """Return its card."""
        return panels.tensor(self.record, title=self.title, axes=self.axes)


class _Side:
    """A call of one of the two runs.

    Args:
        letter: what the run is called: "a" or "b".
        log: the columns of the run.
        call: the call.
    """

    def __init__(self, letter: str, log: TraceLog, call: int) -> None:
        self.letter, self.log, self.axes = letter, log, Axes(log, call)
        self.outputs = _named(log.outputs[call], output_names(log, call))
        self.inputs = _named(log.inputs[call], input_names(log, call))

    def shown(self, tensor: int, name: str) -> _Shown:
        """Return one of the tensors of the call, to be shown."""
        return _Shown(self.log, tensor, f"{self.letter}: {name}", self.axes.of(tensor))

    def cards(self, panels: PanelMaker) -> list[list[messages.TensorContent]]:
        """Return the cards of what the call returned, one a row."""
        return [[self.shown(*each).card(panels)] for each in self.outputs.items()]


def _named(tensors: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    """Return what each tensor is called; one that is there several times has all its names."""
    named = dict[int, str]()
    for tensor, name in zip(tensors, names, strict=True):
        named[tensor] = f"{named[tensor]}, {name}" if tensor in named else name
    return named


def _pairs(panels: PanelMaker, mine: _Side, other: _Side) -> list[list[messages.TensorContent]]:
    """Return for each tensor that both sides have its values here, there, and the difference.

    Those that the call returned come first, each with its gradient; of those that it got the ones
    that differ.
    """
    kept = KeptValues(mine.log.tensors, other.log.tensors)
    found = []
    for a, b in kept.pairs([*mine.outputs], [*other.outputs]):
        pair = mine.shown(a, mine.outputs[a]), other.shown(b, other.outputs[b])
        found += [pair, (pair[0].gradient, pair[1].gradient)]
    for a, b in kept.pairs([*mine.inputs], [*other.inputs]):
        apart = kept.difference(a, b)
        if apart is None or apart.error:
            found.append((mine.shown(a, mine.inputs[a]), other.shown(b, other.inputs[b])))
    return [_compared(panels, a, b) for a, b in found if a is not None and b is not None]


def _compared(panels: PanelMaker, a: _Shown, b: _Shown) -> list[messages.TensorContent]:
    """Return the cards of two tensors on one scale, and of their difference if it is known."""
    cards = [a.card(panels), b.card(panels)]
    panels.share_scale(cards)
    difference = _difference(panels, a, b)
    if difference is None:
        return cards
    for card in cards:  # all open at the same place
        if card["picture"] is not None and difference["picture"] is not None:
            card["picture"]["start"] = difference["picture"]["start"]
    return [*cards, difference]


def _difference(panels: PanelMaker, a: _Shown, b: _Shown) -> messages.TensorContent | None:
    """Return the card of a - b; None where no values are kept of the same places."""
    one, two = a.record, b.record
    overlap = overlap_of(one.shape, two.shape)
    grids = kept_grid(one), kept_grid(two)
    if overlap is None or grids[0] is None or grids[1] is None:
        return None
    picture = subtracted(grids[0], grids[1])
    if picture is None or not picture.sample.numel:
        return None
    is_complex = any(each.dtype.startswith("complex") for each in (one, two))
    return panels.difference(
        picture,
        overlap.shape,
        title="|a - b|" if is_complex else "a - b",
        axes=a.axes,
        caption="" if overlap.items is None else f"the {overlap.items} items that both have",
    )


def _coarser(picture: Picture, steps: Sequence[int]) -> np.ndarray:
    """Return the values of a picture at these steps, which are multiples of its own."""
    times = [step // own for step, own in zip(steps, picture.steps, strict=True)]
    values = picture.sample.array()
    cut = values[tuple(slice(None, None, each) for each in times)]
    if np.isfinite(values).all():
        return cut
    return with_nonfinite(cut, picture.sample.real_array(), times)


def subtracted(a: Picture, b: Picture) -> Picture | None:
    """Return a - b at the places that two grids have in common; None where their axes differ.

    Values that are equal, NaN in both or the same Inf do not differ. Of complex numbers it is the
    absolute value of the difference.
    """
    if len(a.steps) != len(b.steps):
        return None
    steps = tuple(map(lcm, a.steps, b.steps))
    one, two = (_coarser(each, steps) for each in (a, b))
    both = tuple(map(slice, map(min, one.shape, two.shape)))
    one, two = (each[both].astype(np.result_type(each, np.float64)) for each in (one, two))
    with np.errstate(invalid="ignore"):
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        apart = np.where(same, 0.0, one - two)
    if np.iscomplexobj(apart):
        apart = np.abs(apart)
    return Picture(Sample("d", apart.shape, apart.tobytes()), steps)
