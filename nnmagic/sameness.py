"""Whether a network's output is the same for all items of a batch."""

from collections.abc import Sequence

import torch

from nnmagic import devices
from nnmagic.readings import why_unreadable
from nnmagic.tensors import Unseen, unseen

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
