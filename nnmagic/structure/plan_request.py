"""What is asked of a plan for many ranks."""

from dataclasses import dataclass

import torch


class PlanError(ValueError):
    """A network cannot be cut over ranks as it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """How a network is to be cut over ranks.

    Attributes:
        fsdp: over how many ranks FSDP2 shards each parameter.
        tp: over how many ranks tensor parallelism cuts layers.
        dtype: what the network is cast to; None leaves it as it is.
    """

    fsdp: int = 1
    tp: int = 1
    dtype: torch.dtype | None = None
