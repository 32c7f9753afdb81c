"""What of a call must be judged while its tensors are there, or once their numbers are read."""

import weakref
from collections.abc import Sequence

import torch
from torch import nn

from nnmagic.tensors import devices
from nnmagic.tensors.metadata import Unseen, unseen, version_of
from nnmagic.tensors.values import why_unreadable

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
        with Unseen():
            return [torch.as_tensor(each) for each in (outputs_alike, inputs_alike)]
    except Exception:  # noqa: BLE001 - of a tensor that cannot be compared nothing is said
        return False


def alike(tensor: torch.Tensor) -> bool | torch.Tensor:
    """Tell whether a batch of at least two items holds the same values in each.

    Of a tensor on an accelerator it is a flag there.
    """
    if not _is_plain(tensor) or not tensor.dim() or tensor.shape[0] < 2:
        return False
    with unseen(tensor):
        tensor = tensor.detach()
        first = tensor[0]
        if not devices.on_accelerator(tensor):
            return torch.equal(first, tensor[1]) and bool((tensor == first).all())
        if devices.is_capturing(tensor) or why_unreadable(tensor):
            return False
        parts = tensor.split(max(1, devices.PIECE // max(1, first.numel())))
        return torch.stack([(part == first).all() for part in parts]).all()


def _is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether torch's own kernels can read a tensor; a subclass may need its own code."""
    strided = type(tensor) is torch.Tensor and tensor.layout is torch.strided
    return strided and not tensor.is_meta


class Unjudged:
    """The outermost calls of a network since it last changed.

    What spoiled an output is looked for among the parameters and buffers of the network, which is
    right only as long as they hold what they held in the call.

    Args:
        network: the network, which is not kept alive.
    """

    def __init__(self, network: nn.Module) -> None:
        tensors = (*network.parameters(), *network.buffers())
        self._tensors = [weakref.ref(tensor) for tensor in tensors]
        self._versions: list[int] = []
        self._calls: list[range] = []

    def note(self, calls: range) -> None:
        """Note an outermost call that has ended, with those inside."""
        versions = self._now()
        if versions != self._versions:
            self._calls.clear()
            self._versions = versions
        self._calls.append(calls)

    def calls(self) -> list[range]:
        """Return the calls since the last change."""
        return self._calls if self._now() == self._versions else []

    def _now(self) -> list[int]:
        tensors = (reference() for reference in self._tensors)
        return [-1 if tensor is None else version_of(tensor) for tensor in tensors]
