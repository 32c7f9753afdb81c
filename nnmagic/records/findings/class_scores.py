"""The outputs of a run, read as class scores where that is likely."""

from collections.abc import Sequence
from math import exp, isclose, isfinite
from typing import NamedTuple

from nnmagic.records.call_log import FINISHED, TraceLog
from nnmagic.records.record import View
from nnmagic.records.tensor import Sample

BEST_CLASSES = 5
ITEMS_SHOWN = 3
LEAST_CHANCE = 0.0005

FLOATS = ("float", "bfloat")
LINEAR = {"Linear", "LazyLinear"}
SCORE_LAYERS = {*LINEAR, "Softmax", "LogSoftmax"}

OTHER_LOSSES = {
    *("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss"),
    *("CosineEmbeddingLoss", "TripletMarginLoss", "MultiLabelSoftMarginLoss", "GaussianNLLLoss"),
}
"""Losses of what no softmax makes probabilities of."""

FEW_CLASSES = 10
"""So many may be told apart by fewer numbers than there are classes."""


class ItemScores(NamedTuple):
    """One item of an output that is read as class scores.

    Attributes:
        root: the root call whose output it is in.
        item: its index in the batch, from 0; what a user reads counts from 1.
        items: how many there are.
        classes: how many classes there are.
        how: how the scores became probabilities.
        best: the likeliest classes, each with its probability.
    """

    root: int
    item: int
    items: int
    classes: int
    how: str
    best: tuple[tuple[str, float], ...]


class ScoreReader:
    """Reads the outputs of one iteration of a run.

    Args:
        log: the columns of the run.
        view: the display options, which may name the classes.
        is_scores: whether the output is one of class scores, whatever layer returned it.
    """

    def __init__(self, log: TraceLog, view: View, *, is_scores: bool) -> None:
        self.log = log
        self.view = view
        self.is_scores = is_scores

    def read(self, ends: dict[int, int]) -> list[ItemScores]:
        """Return what the output of the last root call says that has class scores.

        Args:
            ends: for each root call the last call inside it that calls no other.
        """
        log, taken = self.log, self._taken(ends)
        for root, last in sorted(ends.items(), reverse=True):
            tensor = log.main_output(root)
            if root in log.recomputed or tensor is None or log.ended[root] != FINISHED:
                continue
            metadata = log.tensors.metadata_of(tensor)
            leading = log.tensors.samples_of(tensor).leading
            # only the very tensor that the last layer returned has that layer's meaning
            last_type = log.layer_of(last).type if log.main_output(last) == tensor else ""
            is_real = metadata.dtype.startswith(FLOATS)
            match metadata.shape:
                case int(items), int(classes) if items > 0 and classes > 1 and is_real:
                    is_told = self.is_scores or bool(self.view.classes)
                    is_likely = root != last and self._is_likely(root, tensor, last_type, taken)
                    if leading is None or leading.shape[1:] != (classes,):
                        continue
                    if is_told or is_likely:
                        return self._read_items(root, leading, items, classes, last_type)
        return []

    def _taken(self, ends: dict[int, int]) -> set[int]:
        """Return what networks got, and losses that are not of classes."""
        log = self.log
        takers = (
            root
            for root, last in ends.items()
            if root != last or log.layer_of(root).type in OTHER_LOSSES
        )
        return {log.tensors.first_entry(each) for root in takers for each in log.inputs[root]}

    def _is_likely(self, root: int, tensor: int, last_type: str, taken: set[int]) -> bool:
        """Tell whether the output of a root call is one of class scores, by what is around it.

        What a Linear returned is none where another network or loss goes on with it, and where
        there are as many numbers as the network got, or more, as a generator, a decoder and an
        autoencoder give.
        """
        if last_type not in LINEAR:
            return last_type in SCORE_LAYERS
        metadata_of = self.log.tensors.metadata_of
        got = [metadata_of(each) for each in self.log.inputs[root]]
        floats = [each for each in got if each.shape and each.dtype.startswith(FLOATS)]
        features = sum(each.numel // (each.shape[0] or 1) for each in floats)
        classes = metadata_of(tensor).shape[-1] or 0
        is_taken = self.log.tensors.first_entry(tensor) in taken
        return not is_taken and not (classes > FEW_CLASSES and 0 < features <= classes)

    def notes(self, scores: Sequence[ItemScores], of: str = "") -> list[str]:
        """Return the lines that say what an output is, read as class scores.

        Args:
            scores: its items.
            of: what the root call is called, where there are several.
        """
        notes = []
        of = f"{of}: " if of else ""
        for item in scores:
            (best, chance), *others = item.best
            which = of if item.items == 1 else f"{of}item {item.item + 1} "
            likely = [(name, p) for name, p in others if p >= LEAST_CHANCE]
            then = ", ".join(f"{name} {100 * p:.1f} %" for name, p in likely)
            then = f", then {then}" if then else ""
            said = f"{best} is the largest of {item.classes}"
            if isclose(chance * item.classes, 1, rel_tol=1e-9):
                said, then = f"all {item.classes} are equal", ""
            notes.append(
                f"{which}read as class scores: {said} ({100 * chance:.1f} % {item.how}){then}"
            )
        if scores and scores[0].items > len(scores):
            notes.append(f"the first {len(scores)} of {scores[0].items} items are read")
        named = len(self.view.classes)
        notes += [
            f"{named} class names for {count} scores"
            for count in dict.fromkeys(item.classes for item in scores)
            if named not in (0, count)
        ]
        return notes

    def _read_items(
        self, root: int, leading: Sample, items: int, classes: int, last_type: str
    ) -> list[ItemScores]:
        how = {"Softmax": "as it is", "LogSoftmax": "after exp"}.get(last_type, "after softmax")
        found = []
        for item, row in enumerate(leading.tolist()[:ITEMS_SHOWN]):
            if not all(map(isfinite, row)):
                continue
            chances = _probabilities(row, last_type)
            best = sorted(range(classes), key=lambda i: -chances[i])[:BEST_CLASSES]
            names = tuple((self._class_name(i), chances[i]) for i in best)
            found.append(ItemScores(root, item, items, classes, how, names))
        return found

    def _class_name(self, index: int) -> str:
        names = self.view.classes
        return names[index] if index < len(names) else str(index)


def _probabilities(row: Sequence[float], last_type: str) -> list[float]:
    if last_type == "Softmax":
        return list(row)
    top = 0.0 if last_type == "LogSoftmax" else max(row)
    weights = [exp(score - top) for score in row]
    total = 1.0 if last_type == "LogSoftmax" else sum(weights)
    return [weight / total for weight in weights]
