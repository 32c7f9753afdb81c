"""Packing what a widget shows into one text: JSON, and bytes that it points into, compressed."""

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from math import isfinite, prod
from typing import Any

import numpy as np

from nnmagic.records.kept_slices import with_nonfinite
from nnmagic.widget.pictures import COLOURED

LEAST_TILES = 3
"""Of how many channels or heads a picture is kept before it gets coarser."""

EXACT, IDS = 2048, 1 << 24
"""Whole numbers up to the first are exact in 16 bits, up to the second in 32."""


class Packing:
    """Bytes that a JSON text points into; equal ones are kept once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._places: dict[bytes, tuple[int, int]] = {}
        self._end = 0

    def placed(self, content: Any) -> Any:
        """Return nested content for JSON: each `bytes` as its place, NaN and Inf as None."""
        if isinstance(content, bytes):
            return {"$bytes": self._place(content)}
        if isinstance(content, dict):
            return {key: self.placed(each) for key, each in content.items()}
        if isinstance(content, list | tuple):
            return [self.placed(each) for each in content]
        return None if isinstance(content, float) and not isfinite(content) else content

    def floats(self, values: np.ndarray) -> dict[str, Any]:
        """Return the place of float32 values, in 16 bits to three digits unless they are ids."""
        finite = values[np.isfinite(values)]
        largest = float(np.abs(finite).max(initial=0.0))
        if EXACT < largest < IDS and (finite == np.round(finite)).all():
            return {"$bytes": self._place(values.astype("<f4").tobytes())}
        scale = largest or 1.0
        halves = (values.astype(np.float64) / scale).astype("<f2")
        return {"$halves": self._place(halves.tobytes()), "scale": scale}

    def _place(self, data: bytes) -> tuple[int, int]:
        place = self._places.setdefault(data, (self._end, len(data)))
        if place[0] == self._end and data:
            self._parts.append(data)
            self._end += len(data)
        return place

    def packed(self, content: Any) -> str:
        """Return content that was placed, and all the bytes, compressed, in base64."""
        text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
        whole = struct.pack("<I", len(text)) + text + b"".join(self._parts)
        return base64.b64encode(zlib.compress(whole, 9)).decode()


def pictures_in(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the pictures anywhere in a panel."""
    if isinstance(content, dict):
        if "buffer" in content:
            yield content
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from pictures_in(each)


def thinned(picture: dict[str, Any], values: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many values of a picture, which says so then.

    It loses items, then channels or heads, then rows and columns between; NaN and Inf among these
    are seen in the cell that stands for them.

    Args:
        picture: is changed to what is left.
        values: those of the whole picture, in its shape.
        most: how many values are left at most.
    """
    sizes, steps = list(values.shape), [1] * values.ndim
    tiles = values.ndim - (4 if picture["kind"] == "kernels" else 3)
    planes = values.ndim - 3 if picture["kind"] in COLOURED else None
    for axis in range(values.ndim - 2):
        if axis != planes and prod(sizes) > most:
            fitting = most * sizes[axis] // prod(sizes)
            sizes[axis] = min(sizes[axis], max(LEAST_TILES, fitting) if axis == tiles else 1)
    while prod(sizes) > most:
        for axis in range(max(0, values.ndim - 2), values.ndim):
            steps[axis] += 1
            sizes[axis] = -(-values.shape[axis] // steps[axis])
    cut = values[tuple(slice(0, n * step, step) for n, step in zip(sizes, steps, strict=True))]
    if not np.isfinite(values).all():
        cut = with_nonfinite(cut, values, steps)
    if cut.size < values.size:
        picture["shape"] = list(cut.shape)
        picture["steps"] = [a * b for a, b in zip(picture["steps"], steps, strict=True)]
        said = f"{cut.size:,} of them in this page"
        picture["caption"] = ", ".join(filter(None, (picture["caption"], said)))
        if len(picture["names"]) != cut.shape[-1]:
            picture["names"] = []
    return cut
