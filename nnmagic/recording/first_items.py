"""The first item of what layers got that attend: kept of the last iteration, to make maps of."""

from functools import partial
from typing import Any

import torch
from torch import nn

from nnmagic.network.attention import ItemOfCall, batch_of_one, first_item_of_call
from nnmagic.network.calls import RunningCall
from nnmagic.records.attention import FirstItem
from nnmagic.records.call_log import TraceLog
from nnmagic.records.kept_slices import PICTURE_VALUES
from nnmagic.records.tensor import Sample
from nnmagic.records.thinning import Renumbering
from nnmagic.tensors import devices
from nnmagic.tensors.attention import working_out
from nnmagic.tensors.pictures import Borrowed
from nnmagic.tensors.samples import evenly_spaced, sample
from nnmagic.tensors.values import read
from nnmagic.tensors.writer import TensorWriter

ATTENDING = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""The layers of torch's own whose map is worked out from what they got."""

MOST_LOGITS = 1 << 25
"""How many logits it may have: the layer that runs again may hold all of them at once."""

MOST_VALUES = 1 << 20
"""How many values of an item a tensor may have at most."""


class FirstItems:
    """Keeps what a map is worked out from afterwards, where the log keeps only samples of it.

    It takes the room that pictures leave, and gives way to them.

    Args:
        log: gets the items.
        tensors: reads what lies on a device, and has the room.

    Attributes:
        is_wanted: whether any are kept.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter) -> None:
        self.log = log
        self.tensors = tensors
        self.is_wanted = True
        self._last = Borrowed(tensors.pictures.room, tensors.pending, self._let_go)

    def note(self, call: RunningCall[Any], output: Any) -> None:
        """Keep what a layer got, now that it has returned its output."""
        number, writer = call.record.number, self.tensors
        if not self.is_wanted or writer.keep != "sample" or writer.max_values is not None:
            return
        if isinstance(call.module, nn.TransformerEncoderLayer) and number + 1 < len(self.log):
            return  # not on its fused path: the attention inside is a call of its own
        returned = output[0] if isinstance(output, tuple) else output
        try:
            with working_out():
                if not all(map(_is_kept_whole, call.record.tensors)):
                    item = first_item_of_call(call.module, call.args, call.kwargs)
                    if item is not None:
                        self._keep(number, call.iteration.series, item, returned)
        except Exception:  # noqa: BLE001 - an observer observes: it lets no error out
            return

    def _keep(self, call: int, series: int, item: ItemOfCall, returned: torch.Tensor) -> None:
        views = [*{id(each): each for each in item.arguments.values()}.values()]
        if item.logits > MOST_LOGITS or any(each.numel() > MOST_VALUES for each in views):
            return
        if devices.is_capturing(returned):
            return
        kept = [*views, evenly_spaced(batch_of_one(returned, item.axis), PICTURE_VALUES)]
        size_bytes = sum(each.numel() * max(4, each.element_size()) for each in kept)
        if not self._last.fits(size_bytes):
            return
        self._last.note(call, series, size_bytes)
        if any(map(devices.on_accelerator, kept)):
            copies = [each.clone() for each in kept]
            read = partial(self._read, call, item._replace(arguments={}), _places(item, views))
            self._last.waits(call, self.tensors.read_later(copies, read))
        else:
            self._read(call, item, _places(item, views), kept, "")

    def _read(
        self,
        call: int,
        item: ItemOfCall,
        arguments: dict[str, int],
        copies: list[torch.Tensor],
        reason: str,
    ) -> None:
        """Write an item into the log, once the host has its values."""
        if reason:
            return
        *values, output = copies
        self.log.first_items[call] = FirstItem(
            arguments=arguments,
            values=tuple(map(_sample, values)),
            dtypes=tuple(str(each.dtype).removeprefix("torch.") for each in values),
            items=item.items,
            axis=item.axis,
            output=_sample(output),
        )

    def renumber(self, numbers: Renumbering) -> None:
        """Go on with the new numbers of the calls."""
        self._last.renumber(numbers.calls)

    def _let_go(self, call: int) -> None:
        self.log.first_items.pop(call, None)


def _is_kept_whole(tensor: torch.Tensor) -> bool:
    return tensor.numel() <= PICTURE_VALUES and not tensor.is_nested


def _sample(tensor: torch.Tensor) -> Sample:
    values = read(tensor).whole
    assert values is not None
    return sample(values)


def _places(item: ItemOfCall, views: list[torch.Tensor]) -> dict[str, int]:
    """Return which of the views each argument is."""
    places = {id(each): place for place, each in enumerate(views)}
    return {name: places[id(each)] for name, each in item.arguments.items()}
