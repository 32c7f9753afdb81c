"""Attention maps of a run: worked out at each call that attends, and kept of the last iteration."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from nnmagic.network.attention import attended_by_function, attended_by_layer
from nnmagic.network.calls import RunningCall
from nnmagic.recording.recorder import WrittenCall
from nnmagic.records.attention import AttentionMap
from nnmagic.records.call_log import TraceLog
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors import devices
from nnmagic.tensors.attention import Attended, BegunMap, TooLargeError, working_out
from nnmagic.tensors.pictures import BUDGET, LastIteration
from nnmagic.tensors.writer import TensorWriter

ATTENTION_FUNCTION = "F.scaled_dot_product_attention"
"""The type of the rows of that function."""

LEFT_TO_TENSORS = BUDGET // 4
"""So much of the room for all that is drawn is left to tensors."""


class AttentionMaps:
    """Works out the attention map of each call, and writes it into the log.

    Nothing of the run is changed or kept alive, and no random numbers are drawn.

    Args:
        log: gets the maps.
        tensors: reads those that are worked out on a device, together with all else there, and
            has the room for all that is drawn.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter) -> None:
        self.log = log
        self.tensors = tensors
        self._last = LastIteration(tensors.pictures.room, tensors.pending, self._let_go)

    def note_function(
        self, call: int, series: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Write the map of a call of `scaled_dot_product_attention`."""
        self._note(call, series, lambda: attended_by_function(*args, **kwargs))

    def note_layer(self, call: RunningCall[WrittenCall]) -> None:
        """Write the map of a call of a layer of torch's own that attends itself."""
        number, series = call.record.number, call.iteration.series
        layer, args, kwargs = call.module, call.args, call.kwargs
        is_fused = isinstance(layer, nn.TransformerEncoderLayer) and number + 1 == len(self.log)
        if is_fused or isinstance(layer, nn.MultiheadAttention):
            self._note(number, series, lambda: attended_by_layer(layer, args, kwargs))

    def _note(self, call: int, series: int, attended: Callable[[], Attended | None]) -> None:
        log = self.log
        try:
            with working_out():
                found = attended()
                if found is None or devices.is_capturing(found.query):
                    return
                begun = found.begin()
        except TooLargeError as error:
            log.say(f"no attention map of {log.name_of(call)}: {error}")
        except Exception:  # noqa: BLE001 - an observer observes: it lets no error out
            return
        else:
            if devices.on_accelerator(begun.tensors[0]):
                self._last.note(call, series, 0)
                read = partial(self._read, call, series, begun)
                self._last.waits(call, self.tensors.read_later(begun.tensors, read))
            else:
                self._keep(call, series, begun.finish(begun.tensors))

    def _read(
        self, call: int, series: int, begun: BegunMap, copies: list[torch.Tensor], reason: str
    ) -> None:
        if not reason:
            self._keep(call, series, begun.finish(copies))

    def _keep(self, call: int, series: int, attention: AttentionMap) -> None:
        size_bytes = 0 if attention.picture is None else len(attention.picture.sample.data)
        if size_bytes > self._last.room.left - LEFT_TO_TENSORS:
            attention, size_bytes = replace(attention, picture=None), 0
        self._last.note(call, series, size_bytes)
        self.log.attention[call] = attention

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the calls."""
        self._last.renumber(numbers.calls)

    def _let_go(self, call: int) -> None:
        self.log.attention.pop(call, None)
