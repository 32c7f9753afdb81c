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
from nnmagic.tensors.writer import TensorWriter

ATTENTION_FUNCTION = "F.scaled_dot_product_attention"
"""The type of the rows of that function."""


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
        self._series: dict[int, int] = {}
        self._waiting: dict[int, int] = {}

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
            log.say(f"no attention map of {log.place_of(call)}: {error}")
        except Exception:  # noqa: BLE001 - an observer observes: it lets no error out
            return
        else:
            self._series[call] = series
            if devices.on_accelerator(begun.tensors[0]):
                read = partial(self._read, call, begun)
                self._waiting[call] = self.tensors.read_later(begun.tensors, read)
            else:
                self._keep(call, begun.finish(begun.tensors))

    def _read(self, call: int, begun: BegunMap, copies: list[torch.Tensor], reason: str) -> None:
        if not reason:
            self._keep(call, begun.finish(copies))

    def _keep(self, call: int, attention: AttentionMap) -> None:
        if not self.tensors.pictures.take(_picture_bytes(attention)):
            attention = replace(attention, picture=None)
        self.log.attention[call] = attention

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the calls; none waits to be read."""
        self._waiting.clear()
        calls = numbers.calls
        self._series = {calls[old]: of for old, of in self._series.items() if old in calls}

    def drop(self, series: int) -> None:
        """Forget the maps of the iteration before: only those of the last one are drawn."""
        for call in [call for call, home in self._series.items() if home == series]:
            del self._series[call]
            if call in self._waiting:
                self.tensors.pending.forget(self._waiting.pop(call))
            attention = self.log.attention.pop(call, None)
            if attention is not None:
                self.tensors.pictures.give_back(_picture_bytes(attention))


def _picture_bytes(attention: AttentionMap) -> int:
    """Return how many bytes the picture of a map takes."""
    return 0 if attention.picture is None else len(attention.picture.sample.data)
