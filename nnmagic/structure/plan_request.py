"""What is asked of a plan for many ranks."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

RANKS = ("fsdp", "tp")
"""The parts of a plan that say over how many ranks."""


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

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> "PlanRequest":
        """Return the plan of these parts.

        Raises:
            ValueError: if there is no such part, or it is no number of ranks or no dtype.
        """
        known = [each.name for each in fields(cls)]
        for name in parts:
            if name not in known:
                raise ValueError(f"a plan has {', '.join(known)}, not {name!r}")
        for name in RANKS:
            count = parts.get(name, 1)
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name} is over how many ranks, 1 or more, not {count!r}")
        dtype = parts.get("dtype")
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise ValueError(f"dtype is a torch.dtype, not {dtype!r}")
        return cls(**parts)
