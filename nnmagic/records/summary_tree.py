"""The rows of a summary as a tree: its calls, folded where there are many, and what did not run."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nnmagic.display import units
from nnmagic.display.table import parents_of
from nnmagic.records.folding import FOLDED_FROM, Line, folded
from nnmagic.records.summary_rows import LayerShape


class LayerRow(NamedTuple):
    """A layer's call as the subject of a row, or the parameters that a container holds itself.

    Attributes:
        layer: the call; of several calls in one row the last, with what all count together.
        label: what the tree calls it.
        is_own: whether it is about those parameters.
        folds: whether the rows below it are folded.
        head: of the row above all layers that were not called, how many they are.
    """

    layer: LayerShape
    label: str
    is_own: bool = False
    folds: bool = False
    head: str = ""

    @property
    def type(self) -> str:
        """The class of the layer."""
        if self.is_own or self.head:
            return "Parameter" if self.is_own else ""
        return "" if self.layer.type == self.label else self.layer.type

    @property
    def key(self) -> str:
        """What the row is selected by."""
        if self.head:
            return self.label
        return f"{self.layer.layer} own" if self.is_own else self.layer.layer

    def details(self) -> list[str]:
        """Return lines with the shapes, and the sizes of the output and the parameters."""
        row = self.layer
        if self.is_own or self.head or row.failed:
            return []
        got, gave = units.shape(row.input_shape), units.shape(row.output_shape)
        trainable = f"{row.trainable_params:,} trainable, {units.size(row.param_bytes)}"
        lines = (
            f"{got or 'no tensor'} → {gave or 'no tensor'}" if row.call is not None else "",
            f"output {units.size(row.output_bytes)}" if row.output_bytes else "",
            f"parameters {row.params:,}: {trainable}" if row.params else "",
        )
        return [line for line in lines if line]


Call = tuple[int | None, str, str]
"""What the calls of one layer in one call have in common: that call, the network and the layer."""


def tree(rows: Sequence[LayerShape], *, folds: bool) -> Iterator[tuple[int, LayerRow]]:
    """Yield the level of each row, and what it is about.

    A container's own parameters are a row below it.

    Args:
        rows: the calls in the order in which they began, then the layers that never ran.
        folds: whether many calls of a layer, and what was not called, are folded.
    """
    calls = [row for row in rows if row.call is not None]
    depths = [row.depth for row in calls]
    parents = parents_of(depths)
    keys = {i: (parents[i], row.network, row.layer) for i, row in enumerate(calls)}
    same: dict[Call, list[LayerShape]] = {}
    for i, key in keys.items():
        same.setdefault(key, []).append(calls[i])
    unfolded = [Line(i, depth) for i, depth in enumerate(depths)]
    for line in folded(range(len(calls)), parents, keys, depths) if folds else unfolded:
        row, parent = calls[line.call], parents[line.call]
        label = _label(row, "" if parent is None else calls[parent].layer)
        if line.times:
            row, label = _together(same[keys[line.call]]), f"{label} × {line.times}"
        yield line.level, LayerRow(row, label, folds=line.times > 0)
        if row.children and row.own_params and not line.times:
            yield line.level + 1, LayerRow(row, f"own: {', '.join(row.names)}", is_own=True)
    not_called = [row for row in rows if row.call is None]
    if not_called:
        of_one = len({row.network for row in rows}) < 2
        yield from _not_called(not_called, of_one=of_one, folds=folds)


def _label(row: LayerShape, above: str) -> str:
    label = row.layer or row.network
    return label.removeprefix(f"{above}.") if above else label


def _together(calls: Sequence[LayerShape]) -> LayerShape:
    """Return the last of several calls, with what they count together."""
    flops = [row.flops for row in calls if row.flops is not None]
    return calls[-1]._replace(
        flops=sum(flops) if len(flops) == len(calls) else None,
        output_bytes=sum(row.output_bytes or 0 for row in calls),
    )


def _not_called(
    rows: Sequence[LayerShape], *, of_one: bool, folds: bool
) -> Iterator[tuple[int, LayerRow]]:
    """Yield the head of the layers that were not called, and below it each, nested by its name."""
    found: list[tuple[int, LayerShape, str]] = []
    path: list[LayerShape] = []
    for row in rows:
        while path and not _is_below(row, path[-1]):
            path.pop()
        label = _label(row, path[-1].layer if path else "")
        if not of_one and not path and row.layer:
            label = f"{row.network}:{label}"
        found.append((1 + len(path), row, label))
        path.append(row)
    count = units.plural(len(rows), "layer")
    own = units.plural(sum(row.own_params for row in rows), "parameter")
    many = sum(level == 1 for level, _, _ in found) >= FOLDED_FROM
    yield 0, LayerRow(rows[0], "not called", folds=folds and many, head=f"{count}, {own}")
    following = [level for level, _, _ in found[1:]] + [0]
    for (level, row, label), after in zip(found, following, strict=True):
        yield level, LayerRow(row, label, folds=folds and after > level)


def _is_below(row: LayerShape, above: LayerShape) -> bool:
    inside = not above.layer or row.layer.startswith(f"{above.layer}.")
    return row.network == above.network and inside
