"""Rules of outermost calls: which ignore their input, which parameter made NaN or Inf."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from inspect import signature
from itertools import chain
from typing import Any

import torch
from torch import nn

from nnmagic.network.calls import RunningCall
from nnmagic.network.layers import layer_at, named_buffers, named_parameters
from nnmagic.network.naming import Network
from nnmagic.records.call_log import TraceLog
from nnmagic.records.findings.nonfinite import makes_nonfinite, nonfinite_in
from nnmagic.tensors import devices
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import HiddenFromUserCode, hidden_from_user_code, version_of
from nnmagic.tensors.shards import is_whole
from nnmagic.tensors.values import why_unreadable
from nnmagic.tensors.writer import TensorWriter
from nnmagic.torch_private import buffers_of, parameters_of

MOST_NAMED = 3

FEWEST_ITEMS = {torch.float16: 8, torch.bfloat16: 8}
"""How many items are needed to tell: a few may be equal by rounding."""


def ignores_its_input(
    inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
) -> bool | list[torch.Tensor]:
    """Tell whether an output is the same for all items of a batch, though the inputs differ.

    Args:
        inputs: what the network got; the first one with the output's batch size is its batch.
        outputs: what it returned; the first floating-point one counts.

    Returns:
        Whether it is so. Where the host would have to wait for an accelerator to tell, two flags
        that are there: whether the outputs are alike, and whether the inputs are.
    """
    try:
        output = next((each for each in outputs if each.is_floating_point()), None)
        if output is None or output.dim() < 2:
            return False
        if output.shape[0] < FEWEST_ITEMS.get(output.dtype, 2):
            return False
        outputs_alike = alike(output)
        batch = next((each for each in inputs if each.shape[:1] == output.shape[:1]), None)
        if outputs_alike is False or batch is None:
            return False
        inputs_alike = alike(batch)
        if outputs_alike is True and isinstance(inputs_alike, bool):
            return not inputs_alike
        with HiddenFromUserCode():
            return [torch.as_tensor(each) for each in (outputs_alike, inputs_alike)]
    except Exception:  # noqa: BLE001 - of a tensor that cannot be compared nothing is said
        return False


def alike(tensor: torch.Tensor) -> bool | torch.Tensor:
    """Tell whether a batch of at least two items holds the same values in each.

    Of a tensor on an accelerator it is a flag there.
    """
    is_plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided
    if not is_plain or tensor.is_meta or not tensor.dim() or tensor.shape[0] < 2:
        return False  # a subclass may need its own code to be read
    with hidden_from_user_code(tensor):
        tensor = tensor.detach()
        first = tensor[0]
        if not devices.on_accelerator(tensor):
            return torch.equal(first, tensor[1]) and bool((tensor == first).all())
        if devices.is_capturing(tensor) or why_unreadable(tensor):
            return False
        parts = tensor.split(max(1, devices.PIECE // max(1, first.numel())))
        return torch.stack([(part == first).all() for part in parts]).all()


def without_keys(padding: torch.Tensor | None, mask: torch.Tensor | None) -> str:
    """Say which query of an attention its masks leave no key; empty if each has one.

    Args:
        padding: bool, or float with -Inf, (items, keys) or (keys,): the keys to leave out.
        mask: the same, (queries, keys) or (items * heads, queries, keys).
    """
    items = len(padding) if padding is not None and padding.dim() == 2 else None
    left_out = torch.zeros(1, 1, 1, dtype=torch.bool)
    for each in (padding, mask):
        if each is not None:
            is_out = each if each.dtype is torch.bool else each.isneginf()
            rows = 1 if each.dim() == 2 and each is mask else items or 1
            left_out = left_out | is_out.reshape(rows, -1, each.shape[-1])
    alone = left_out.all(-1)
    if items is not None and alone.all(-1).any():
        names = ", ".join(map(str, alone.all(-1).nonzero().flatten().tolist()[:MOST_NAMED]))
        return f"the mask masks every key of item {names}"
    if not alone.any():
        return ""
    item, query = alone.nonzero().tolist()[0]
    query %= alone.shape[1] if mask is None else mask.shape[-2]
    of_item = "" if items is None else f" of item {item}"
    return f"the mask masks every key of query {query}{of_item}"


class RootCallRules:
    """Judges each outermost call while its tensors are there, or once their numbers are read.

    Which parameter or buffer made an output NaN or Inf can be told only as long as the network
    holds what it held in the call: at once for an output on the host. The numbers of one on an
    accelerator are read at the end of the run; only the calls since the last change of the
    network, by the version counters of its tensors, are judged then.

    Args:
        log: the columns of the run.
        tensors: writes the tensors into it.
    """

    def __init__(self, log: TraceLog, tensors: TensorWriter) -> None:
        self.log = log
        self.tensors = tensors
        self._late: dict[Network, tuple[list[tuple[int, int]], list[range]]] = {}

    def judge(
        self,
        network: Network,
        number: int,
        inputs: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        indices: Sequence[int],
    ) -> None:
        """Judge an outermost call that has just returned.

        Args:
            network: its network.
            number: its number in the log.
            inputs: the tensors that it got.
            outputs: the tensors that it returned.
            indices: their numbers in the log.
        """
        ignores = ignores_its_input(inputs, outputs)
        if isinstance(ignores, list):
            self.tensors.read_later(ignores, partial(_note_constant, self.log, number))
        elif ignores:
            self.log.constant.add(number)
        module = network.module()
        thinned = self.tensors.max_values is not None  # a look at every value would slow it down
        if module is None or thinned:
            return
        finite = {self.log.tensors.is_finite(each) for each in indices}
        calls = range(number, len(self.log))
        if False in finite:
            self._find_nonfinite_state(calls, module)
        elif None in finite:
            versions = _versions(module)
            before, late = self._late.get(network, (versions, []))
            late = late if before == versions else []
            late.append(calls)
            self._late[network] = versions, late

    def judge_attention(self, call: RunningCall[Any], number: int, outputs: Sequence[int]) -> None:
        """Say which keys an attention that gave NaN was left.

        Args:
            call: its call.
            number: the number of that in the log.
            outputs: the numbers of the tensors that it returned.
        """
        if False in map(self.log.tensors.is_finite, outputs):
            with suppress(Exception), HiddenFromUserCode():  # an observer observes
                given = signature(type(call.module).forward).bind(None, *call.args, **call.kwargs)
                masks = [given.arguments.get(name) for name in ("key_padding_mask", "attn_mask")]
                if all(map(is_whole, masks)) and (text := without_keys(*masks)):
                    self.log.masked[number] = text

    def conclude(self) -> None:
        """Judge the calls whose numbers had to be read first."""
        for network, (versions, late) in self._late.items():
            module = network.module()
            if module is None or _versions(module) != versions:
                continue
            for calls in late:
                if any(nonfinite_in(self.log, self.log.outputs[calls.start])):
                    self._find_nonfinite_state(calls, module)
        self._late.clear()

    def _find_nonfinite_state(self, calls: range, network: nn.Module) -> None:
        log = self.log
        for each in calls:
            if log.is_function(each) or not makes_nonfinite(log, each):
                continue
            layer = layer_at(network, log.layer_of(each).name)
            if layer is None:
                continue  # made by the forward
            if names := tuple(_nonfinite_state(layer, below=log.is_leaf(each))):
                log.nonfinite_parameters[each] = names


def _versions(module: nn.Module) -> list[tuple[int, int]]:
    """Return what tells whether the parameters and buffers of a network are as they were."""
    held = named_parameters(module).values(), named_buffers(module).values()
    return [(id(each), version_of(each)) for each in chain(*held)]


def _note_constant(log: TraceLog, call: int, flags: list[torch.Tensor], reason: str) -> None:
    """Note that a call ignored its input, from flags that were read."""
    if not reason and flags[0] and not flags[1]:
        log.constant.add(call)


def _nonfinite_state(module: nn.Module, *, below: bool) -> Iterator[str]:
    """Say which parameters and buffers hold NaN or Inf.

    Args:
        module: the layer.
        below: whether to look at those of the layers inside too, which were not called.
    """
    for kind, named in (
        ("parameter", named_parameters(module) if below else parameters_of(module)),
        ("buffer", named_buffers(module) if below else buffers_of(module)),
    ):
        for name, tensor in named.items():
            if tensor is None:
                continue
            statistics, _, _ = measure(tensor, "none")
            counts = ((statistics.nan, "NaN"), (statistics.inf, "Inf"))
            words = [f"{number:,.0f} {what}" for number, what in counts if number > 0]
            if words:
                yield f"{kind} {name} holds {' and '.join(words)}"
