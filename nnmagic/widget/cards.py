"""The cards of a panel: a tensor or a parameter as a picture, a histogram and numbers."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from nnmagic.display import messages, units
from nnmagic.records.histograms import binned
from nnmagic.records.params import ParameterRecord
from nnmagic.records.record import leading_rows
from nnmagic.records.tensor import STATISTICS, Picture, Sample, TensorRecord
from nnmagic.widget.loading import MOST_VALUES, NOTHING, Loading, most_loaded
from nnmagic.widget.pictures import (
    PHOTOS,
    WITHOUT_DISTRIBUTION,
    WRITTEN_OUT,
    fitting,
    kind_of,
    limits,
    needs_doubles,
    photo_limits,
    texts_of,
    values_in,
)
from nnmagic.widget.weight_pictures import WeightPicture

BINS = 32

COUNTED = ("channel", "head", "row", "column", "position", "feature", "query", "box", "id")
"""Axes whose name is what they count."""

TOO_LARGE = f"its first item alone has more than the {MOST_VALUES:,} values that are loaded at most"

NESTED = "a nested tensor is no grid of values that could be drawn"

ONE_OF = {"batch": "item"}
"""What one of an axis is called."""


class CardMaker:
    """Packs the cards of tensors, and the arrays that their pictures point to.

    Attributes:
        buffers: those arrays, as bytes.
    """

    def __init__(self) -> None:
        self.buffers: list[bytes] = []

    def tensor(
        self,
        record: TensorRecord,
        *,
        title: str,
        axes: Sequence[str],
        place: int = 0,
        scores: bool = False,
        photo: bool = False,
        classes: Sequence[str] = (),
        loading: Loading = NOTHING,
        with_norm: bool = False,
    ) -> messages.TensorContent:
        """Return a tensor's numbers, its histogram and its picture."""
        kind = kind_of(record, axes, scores=scores, photo=photo)
        if kind in PHOTOS:  # as which it is seen
            axes = (*axes[:-2], "row", "column")
        drawn = self._picture(record, kind, axes, classes, loading)
        source = kept_grid(record, loading)
        shown = 0 if source is None else source.sample.numel
        loadable = 0 if record.is_nested else most_loaded(record.shape)
        reason = loading.reason
        if loading.can_load and not loadable:
            reason = NESTED if record.is_nested else TOO_LARGE
        measured = _measured(record, None if loading.is_new_run else loading.values)
        if kind in WITHOUT_DISTRIBUTION:
            measured["histogram"] = None
        if with_norm:
            measured["stats"]["norm"] = record.norm
        return {
            **measured,
            "title": title,
            "caption": "absolute values" if record.dtype.startswith("complex") else "",
            "place": place,
            "dtype": record.dtype,
            "device": record.device if record.device != "cpu" else "",
            "numel": record.numel,
            "unknown": record.unknown,
            "picture": drawn,
            "loadable": loadable if loading.can_load and shown < loadable else 0,
            "offers_new_run": loading.offers_new_run and shown < record.numel,
            "reason": reason if shown < record.numel else "",
        }

    def parameter(
        self,
        record: ParameterRecord,
        weight: WeightPicture | None = None,
        gradient: TensorRecord | None = None,
    ) -> messages.ParameterContent:
        """Return a parameter's numbers, its histogram, its picture and its gradient's numbers."""
        tensor = record.tensor
        rows = leading_rows(tensor.values, tensor.shape, 1)
        flags = (
            "" if record.trainable else "frozen",
            f"measured on {tensor.measured:,} of its values" if tensor.measured else "",
            f"= {record.tied_to}" if record.tied_to else "",
        )
        return {
            **_measured(tensor),
            "name": record.name,
            "shape": units.shape(record.shape),  # of a lazy one there is none
            "count": record.count,
            "first": rows[0] if rows and weight is None else "",
            "flags": ", ".join(filter(None, flags)),
            "picture": None if weight is None else self._weight(weight, tensor),
            "gradient": None if gradient is None else _measured(gradient),
            "gradient_norm": None if gradient is None else gradient.norm,
        }

    def _weight(self, weight: WeightPicture, record: TensorRecord) -> messages.PictureContent:
        picture = weight.picture
        drawn = self._grid(picture.sample.real_array(), weight.kind, weight.axes)
        drawn["steps"], drawn["full"] = list(picture.steps), list(weight.shape)
        drawn["caption"] = _caption_of(weight.shape, weight.axes, picture)
        drawn["odd"] = _odd_values(record)
        return drawn

    def _picture(
        self,
        record: TensorRecord,
        kind: str,
        axes: Sequence[str],
        classes: Sequence[str],
        loading: Loading,
    ) -> messages.PictureContent | None:
        picture = kept_grid(record, loading)
        if picture is None or not picture.sample.numel:
            return None
        if kind == "matrix":
            picture, axes = _without_pooled(picture, axes, record.shape)
        values = picture.sample.real_array()
        if kind in ("number", "constant"):
            return self._grid(values.reshape(-1)[:1], kind, axes[:1])
        drawn = self._grid(values, fitting(kind, values.shape), axes)
        drawn["steps"], drawn["full"] = list(picture.steps), list(record.shape[: len(axes)])
        caption = _caption_of(record.shape[: len(axes)], axes, picture)
        drawn["caption"] = f"a new run, eval mode: {caption}" if loading.is_new_run else caption
        drawn["odd"] = [] if loading.is_new_run else _odd_values(record)
        if kind not in WRITTEN_OUT and record.shape and len(classes) == record.shape[-1]:
            drawn["names"] = list(classes)
        photo = photo_limits(record.min or 0.0, record.max or 0.0) if kind in PHOTOS else None
        if photo is not None:
            drawn["low"], drawn["high"], drawn["diverging"] = *photo, False
        return drawn

    def share_scale(self, cards: Sequence[messages.TensorContent]) -> None:
        """Give the pictures of several tensors the same colours for the same values."""
        drawn = [card["picture"] for card in cards if card["picture"] is not None]
        drawn = [picture for picture in drawn if picture["kind"] not in WRITTEN_OUT]
        if not drawn:
            return
        values = np.concatenate([values_in(p, self.buffers[p["buffer"]]) for p in drawn])
        low, high, diverging = limits(values[np.isfinite(values)])
        for picture in drawn:
            picture.update({"low": low, "high": high, "diverging": diverging})

    def difference(
        self,
        picture: Picture,
        shape: tuple[int, ...],
        *,
        title: str,
        axes: Sequence[str],
        caption: str,
    ) -> messages.TensorContent:
        """Return a difference of two tensors, to be drawn on a scale that is centred on zero.

        It opens where the difference is largest.

        Args:
            picture: the values that are known of it.
            shape: the shape of the whole of it.
            title: what it is called.
            axes: the names of its axes.
            caption: of what it is, where that is not all.
        """
        record = TensorRecord(shape=shape, dtype="float64", device="", numel=prod(shape))
        kind = kind_of(record, axes)
        if kind == "matrix":
            picture, axes = _without_pooled(picture, axes, shape)
        values = picture.sample.real_array()
        if values.size > 1 and (values == values.flat[0]).all():
            kind = "constant"
        card = self.figure(values, title=title, caption=caption, kind=kind, axes=axes)
        drawn = card["picture"]
        assert drawn is not None
        changed = values[np.isfinite(values) & (values != 0)]
        _, most, _ = limits(np.concatenate([changed, -changed]))
        full = shape[: len(axes)]
        drawn.update({"low": -most, "high": most, "diverging": True})
        drawn["steps"], drawn["full"] = list(picture.steps), list(full)
        drawn["start"] = _largest_in(picture)
        drawn["caption"] = _caption_of(full, axes, picture)
        return {**card, "shape": units.shape(shape)}

    def figure(
        self, values: np.ndarray, *, title: str, caption: str, kind: str, axes: Sequence[str]
    ) -> messages.TensorContent:
        """Return a grid of values worked out from tensors, to be drawn as a tensor is.

        Args:
            values: what to draw, of 1 to 5 axes.
            title: what it is: ``"attention weights"``.
            caption: how it was worked out, in words.
            kind: `"matrix"`, `"heads"`, `"channels"` or `"bars"`.
            axes: the name of each axis: ``("head", "query", "key")``.
        """
        return {
            "shape": units.shape(values.shape),
            "stats": {},
            "histogram": None,
            "title": title,
            "caption": caption,
            "place": 0,
            "dtype": "",
            "device": "",
            "numel": values.size,
            "unknown": "",
            "picture": self._grid(values, kind, axes),
            "loadable": 0,
            "offers_new_run": False,
            "reason": "",
        }

    def _grid(self, values: np.ndarray, kind: str, axes: Sequence[str]) -> messages.PictureContent:
        """Return the picture of all these values."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high, diverging = limits(finite)
        wide = kind in WRITTEN_OUT or needs_doubles(values, high - low)
        self.buffers.append(values.astype("<f8" if wide else "<f4").tobytes())
        return {
            "kind": kind,
            "buffer": len(self.buffers) - 1,
            "shape": list(values.shape),
            "steps": [1] * values.ndim,
            "start": [0] * values.ndim,
            "odd": [],
            "full": list(values.shape),
            "axes": list(axes),
            "caption": "",
            "low": low,
            "high": high,
            "diverging": diverging,
            "wide": wide,
            "names": texts_of(values) if kind in WRITTEN_OUT else [],
        }


def kept_grid(record: TensorRecord, loading: Loading = NOTHING) -> Picture | None:
    """Return the largest grid of values that there is of a tensor."""
    sample = loading.values or record.whole
    picture = loading.picture or record.picture
    if sample is None and picture is not None:
        return picture
    sample = sample or record.leading
    return None if sample is None else Picture(sample, (1,) * len(sample.shape))


def _odd_values(record: TensorRecord) -> list[int]:
    """Return how many values of a tensor are NaN, +Inf and -Inf; nothing where that is unknown."""
    if record.measured is not None or record.nan is None or record.inf is None:
        return []
    negative = record.negative_inf or 0
    return [record.nan, record.inf - negative, negative]


def _largest_in(picture: Picture) -> list[int]:
    """Return where in the tensor a picture's largest absolute value stands, NaN and Inf first."""
    values = np.abs(picture.sample.real_array())
    at = np.unravel_index(np.where(np.isfinite(values), values, np.inf).argmax(), values.shape)
    return [int(place) * step for place, step in zip(at, picture.steps, strict=True)]


def _without_pooled(
    picture: Picture, axes: Sequence[str], shape: Sequence[int]
) -> tuple[Picture, Sequence[str]]:
    """Return a picture and its axes without rows and columns that pooling left one of."""
    if len(axes) < 3 or [*shape[-2:]] != [1, 1]:
        return picture, axes
    flat = replace(picture.sample, shape=picture.sample.shape[:-2])
    return Picture(flat, picture.steps[:-2]), axes[:-2]


def _measured(record: TensorRecord, whole: Sample | None = None) -> messages.MeasuredContent:
    """Return the numbers of a tensor."""
    return {
        "shape": units.shape(record.shape),
        "stats": {name: getattr(record, name) for name in STATISTICS},
        "histogram": histogram(record, whole),
    }


def histogram(
    record: TensorRecord, whole: Sample | None = None
) -> messages.HistogramContent | None:
    """Return how often the values fall into each of 32 bins, and over which that is.

    It is over all values where they are there, else over some that are spread evenly: a picture has
    more, but those of the first items or channels, or of every second column.

    Args:
        record: the tensor.
        whole: its values, where they were loaded; of a very large one those of the first items.
    """
    is_whole = whole is not None and whole.numel == record.numel
    kept = whole if is_whole else record.whole or record.spread
    if kept is None or record.min is None or record.max is None or record.numel < 2:
        return None
    (counts,) = binned(kept.real_array().reshape(1, -1), record.min, record.max, BINS)
    return {
        "counts": counts.tolist(),
        "low": record.min,
        "high": record.max,
        "of": f"all {record.numel:,} values"
        if kept.numel >= record.numel
        else f"{kept.numel:,} of {record.numel:,} values, evenly spaced",
    }


def _caption_of(full: Sequence[int], axes: Sequence[str], picture: Picture) -> str:
    """Return of what the picture is a sample: ``16 of 64 channels, 4,096 of 802,816 values``."""
    shown, numel = picture.sample.shape, prod(full)
    if picture.sample.numel == numel:
        return f"all {numel:,} values" if numel > 1 else ""
    parts = []
    for axis, (name, part, size) in enumerate(zip(axes, shown, full, strict=True)):
        if part < size and picture.steps[axis] == 1:
            parts.append(
                f"{ONE_OF.get(name, name)} 1 of {size}" if part == 1 else _first(part, size, name)
            )
    sparse = {name: step for name, step in zip(axes, picture.steps, strict=True) if step > 1}
    if sparse:
        along = " × ".join(map(_ordinal, sparse.values()))
        name = next(iter(sparse)) if len(sparse) == 1 else ""
        value = name if name in COUNTED else f"value along {name}" if name else "value"
        parts.append(f"every {along} {value}")
    parts.append(f"{picture.sample.numel:,} of {numel:,} values")
    return ", ".join(parts)


def _first(part: int, size: int, axis: str) -> str:
    """Return how much is shown of an axis: ``16 of 64 channels``, ``2 of 64 along out``."""
    if axis == "batch":
        return f"items 1 to {part} of {size}"
    return f"{part} of {size} {axis}s" if axis in COUNTED else f"{part} of {size} along {axis}"


def _ordinal(step: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(step, f"{step}th")
