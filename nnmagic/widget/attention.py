"""The attention maps in a panel: those of the run, and those that are worked out afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from math import log as natural_log
from typing import Any

import numpy as np
import torch
from torch import nn

from nnmagic.display import messages, units
from nnmagic.display.units import Shape
from nnmagic.network.attention import attended_by_layer, foreign_class_in
from nnmagic.network.autocast import casting_to
from nnmagic.network.failures.mismatch import said_by
from nnmagic.network.layers import has_hooks, layers_of
from nnmagic.recording.run import own_run
from nnmagic.records.attention import AttentionMap, FirstItem
from nnmagic.records.call_log import FINISHED, TraceLog
from nnmagic.records.kept_slices import PICTURE_VALUES
from nnmagic.records.tensor import Metadata, Picture
from nnmagic.tensors.attention import working_out
from nnmagic.tensors.samples import evenly_spaced, restored
from nnmagic.widget.panel import PanelMaker

MOST_MAPS = 4
"""How many calls inside a layer show their maps in its panel."""

HEADS_SAID = 16
"""Of how many heads the numbers are said."""

WITH_OPS = "%nntrace --ops works them out during the run"

FUNCTION = "scaled_dot_product_attention"


class CannotBeWorkedOutError(ValueError):
    """An attention map is not to be had from a record; the text says why."""


def add_attention(
    panel: messages.PanelContent,
    panels: PanelMaker,
    log: TraceLog,
    call: int,
    layer: nn.Module | None,
) -> None:
    """Add the attention maps of a call to its panel, or a line that says how to get them.

    Args:
        panel: the panel.
        panels: packs it.
        log: the columns of the run.
        call: the number of the call.
        layer: the layer as it is now; None where it is gone.
    """
    inside = [each for each in sorted(log.attention) if log.parent[each] == call]
    found = [each for each in (call, *inside[:MOST_MAPS]) if each in log.attention]
    for each in found:
        name = "" if each == call else log.layer_of(each).name.rpartition(".")[2]
        _add(panel, panels, log.attention[each], name)
    if found or log.functions or log.ended[call] != FINISHED:
        return
    if isinstance(layer, nn.MultiheadAttention) or _is_fused(log, call, layer):
        assert layer is not None
        try:
            _add(panel, panels, _worked_out(log, call, layer), "")
        except CannotBeWorkedOutError as error:
            how = f"if it calls {FUNCTION}, {WITH_OPS}" if foreign_class_in(layer) else WITH_OPS
            panel["notes"].append(f"no attention maps: {error}; {how}")
    elif calls_function(layer):
        panel["notes"].append(f"attention maps: {WITH_OPS}")
    elif _may_attend(log, call):
        panel["notes"].append(f"attention maps: if it calls {FUNCTION}, {WITH_OPS}")


def _add(
    panel: messages.PanelContent, panels: PanelMaker, attention: AttentionMap, name: str
) -> None:
    """Add a map to a panel, under the name of the call inside that it is of."""
    if attention.picture is None:
        panel["notes"].append(f"attention: no room to draw more maps; {caption_of(attention)}")
    else:
        panel["figures"] = panel["figures"] or [[]]
        panel["figures"][0].append(_figure(panels, attention, attention.picture, name))


def calls_function(layer: nn.Module | None) -> bool:
    """Tell whether the forward of a layer itself names `scaled_dot_product_attention`."""
    code = getattr(getattr(type(layer), "forward", None), "__code__", None)
    return code is not None and FUNCTION in code.co_names


def _is_fused(log: TraceLog, call: int, layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.TransformerEncoderLayer) and log.is_leaf(call)


def _may_attend(log: TraceLog, call: int) -> bool:
    """Tell whether a layer is called an attention, holds no other, and returned no maps."""
    inside = (each for each in range(call, len(log)) if each == call or log.parent[each] == call)
    attentions = [each for each in inside if "Attention" in log.layer_of(each).type]
    returned = [log.tensors.metadata_of(each).shape for each in log.outputs[call]]
    return attentions == [call] and not any(len(shape) == 4 for shape in returned[1:])


def _worked_out(log: TraceLog, call: int, layer: Any) -> AttentionMap:
    """Return the map of a call of a layer of torch's own, from its kept inputs and its weights.

    It is what the run's was where the layer gives the output that it gave then.

    Raises:
        CannotBeWorkedOutError: if that cannot be had.
    """
    foreign = foreign_class_in(layer)
    if foreign:
        raise CannotBeWorkedOutError(f"{foreign} has a forward of its own, which is not run again")
    try:
        item = log.first_items.get(call)
        if item is None:
            args, kwargs = _arguments(log, call)
            output = _whole(log, log.outputs[call][0])
        else:
            args, kwargs, output = (), *_of_item(item, layer)
        if any(map(has_hooks, layers_of(layer).values())):
            raise CannotBeWorkedOutError("the layer has hooks, which would run")
        how: dict[str, Any] = {}
        if isinstance(layer, nn.MultiheadAttention):  # otherwise it rounds in another way
            how["need_weights"] = len(log.outputs[call]) > 1
        with own_run(layer), casting_to(_casts_of(log, call, layer)):
            again = type(layer).forward(layer, *args, **kwargs, **how)
            again = again[0] if isinstance(again, tuple) else again
            again = again if item is None else evenly_spaced(again, PICTURE_VALUES)
        if again.shape != output.shape or not _is_close(again, output):
            raise CannotBeWorkedOutError(_why_other(log, call, layer))
        with working_out():
            attended = attended_by_layer(layer, args, kwargs)
            if attended is None:
                raise CannotBeWorkedOutError("parts of its tensors are in other processes")
            found = attended.map()
        return found if item is None else replace(found, items=item.items)
    except CannotBeWorkedOutError:
        raise
    except Exception as error:
        raise CannotBeWorkedOutError(f"working them out failed: {said_by(error)}") from error


def _casts_of(log: TraceLog, call: int, layer: Any) -> dict[str, torch.dtype]:
    """Return what autocast cast to, if a layer returned another dtype than its parameters have."""
    returned, weight = log.tensors.metadata_of(log.outputs[call][0]), next(layer.parameters())
    dtype: torch.dtype = getattr(torch, returned.dtype)
    return {} if dtype is weight.dtype else {weight.device.type: dtype}


def _why_other(log: TraceLog, call: int, layer: Any) -> str:
    """Return why a layer gives another output now than in the run."""
    attention = layer.self_attn if isinstance(layer, nn.TransformerEncoderLayer) else layer
    if attention.dropout and log.series[log.series_of(call)].training:
        return (
            f"the run was in train mode, and its dropout of {attention.dropout:g} is another in "
            "each run"
        )
    return "now the layer gives another output than in the run"


def _of_item(item: FirstItem, layer: Any) -> tuple[dict[str, Any], torch.Tensor]:
    """Return the tensors that a call got of its first item, by name, and values of its output."""
    device = str(next(layer.parameters()).device)
    tensors = [
        restored(each, Metadata(each.shape, dtype, device, each.numel))
        for each, dtype in zip(item.values, item.dtypes, strict=True)
    ]
    output = torch.from_numpy(item.output.array().copy()).to(device)
    return {name: tensors[place] for name, place in item.arguments.items()}, output


def _is_close(again: torch.Tensor, output: torch.Tensor) -> bool:
    """Tell whether two outputs differ by rounding alone: a batch of one rounds in another way."""
    again, output, rounding = again.double(), output.double(), torch.finfo(again.dtype).eps
    largest = float(output.nan_to_num(0, 0, 0).abs().amax()) if output.numel() else 0.0
    within = max(1e-5, 4 * rounding * largest)
    return torch.allclose(again, output, rtol=1e-4, atol=within, equal_nan=True)


def _arguments(log: TraceLog, call: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the tensors that a call got, by their places and by their names."""
    shape: Shape = log.shapes[log.input_shape[call]]
    tensors = [_whole(log, each) for each in log.inputs[call]]
    named = list(shape[-1]) if isinstance(shape, tuple) and isinstance(shape[-1], dict) else []
    positional = len(tensors) - len(named)
    return tuple(tensors[:positional]), dict(zip(named, tensors[positional:], strict=True))


def _whole(log: TraceLog, tensor: int) -> torch.Tensor:
    metadata, kept = log.tensors.metadata_of(tensor), log.tensors.record(tensor).whole
    if kept is None:
        shape = units.shape(metadata.shape)
        if log.tensors.record(tensor).is_nested:
            raise CannotBeWorkedOutError(f"of {shape}, a nested tensor, no item was kept")
        raise CannotBeWorkedOutError(f"of {shape} only a sample was kept")
    return restored(kept, metadata)


def _figure(
    panels: PanelMaker, attention: AttentionMap, picture: Picture, name: str
) -> messages.TensorContent:
    """Return the tiles of the heads, on one scale from 0 to the largest share."""
    values = picture.sample.real_array()
    figure = panels.figure(
        values,
        title=f"attention of {name}" if name else "attention",
        caption=caption_of(attention),
        kind="heads",
        axes=("head", "query", "key"),
    )
    shape = attention.heads, attention.queries, attention.keys
    figure["shape"], drawn = units.shape(shape), figure["picture"]
    if drawn is not None:
        drawn["steps"], drawn["full"] = list(picture.steps), list(shape)
        largest = float(np.nanmax(values, initial=0.0))
        drawn["low"], drawn["high"], drawn["diverging"] = 0.0, largest or 1.0, False
    return figure


def caption_of(attention: AttentionMap) -> str:
    """Return what a map is worked out from, what is drawn of it, and its numbers by head."""
    parts = [f"worked out from {attention.source}"]
    if attention.dropout:
        parts.append(f"before dropout of {attention.dropout:g}")
    if attention.items > 1:
        parts.append(f"item 1 of {attention.items:,}")
    drawn = attention.picture
    if drawn is not None and drawn.sample.shape[0] < attention.heads:
        parts.append(f"{drawn.sample.shape[0]} of {attention.heads} heads")
    if drawn is not None and drawn.steps[-1] > 1:
        queries, keys = drawn.sample.shape[1:]
        size = f"{attention.queries:,} x {attention.keys:,}"
        parts.append(f"drawn at {queries} x {keys} evenly spaced of {size}")
    even = units.numbers(natural_log(attention.keys))[0]
    return "; ".join(
        (
            ", ".join(parts),
            f"mean entropy of all queries by head: {_by_head(attention.entropy)} "
            f"(even shares: {even})",
            f"largest logit by head: {_by_head(attention.largest_logit)}",
        )
    )


def _by_head(values: Sequence[float | None]) -> str:
    texts = units.numbers(*values[:HEADS_SAID])
    more = ", …" if len(values) > HEADS_SAID else ""
    return ", ".join(text.strip() or "unknown" for text in texts) + more
