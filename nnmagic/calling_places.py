"""The places in the code from which the layers of a run are called."""

import sys
from types import FrameType
from typing import Any

from nnmagic.calls import OBSERVERS
from nnmagic.failures import TORCH_FOLDER, calling_line, is_no_place, place_text
from nnmagic.trace_log import TraceLog

TORCHS_LAYERS = TORCH_FOLDER + "nn/modules"


class CallingPlaces:
    """Finds the line that called the layer at hand, each line of code once.

    Args:
        log: the columns that hold the places.
    """

    def __init__(self, log: TraceLog) -> None:
        self.log = log
        self._known: dict[tuple[int, int], tuple[Any, int | None]] = {}

    def __call__(self, parents: int | None) -> int:
        """Return the number of the place that calls the layer at hand.

        Args:
            parents: the place of the call around it; that is the place too where a layer of torch's
                own, such as a Sequential, makes the call.
        """
        frame: Any = sys._getframe(3)  # at most: the recorder, the observer, the layer's call
        while frame.f_code is not OBSERVERS.code:
            frame = frame.f_back
        frame = frame.f_back
        code = frame.f_code
        key = id(code), frame.f_lasti
        known = self._known.get(key)
        if known is None:
            inside_torch = code.co_filename.startswith(TORCHS_LAYERS)
            if not inside_torch and is_no_place(code.co_filename):
                return self._found(frame)  # such code is called from many places
            known = self._known[key] = code, None if inside_torch else self._found(frame)
        place = known[1]
        if place is None:
            place = self._found(frame) if parents is None else parents
        return place

    def _found(self, frame: FrameType) -> int:
        return self.log.place_index(*calling_line(frame), place_text)
