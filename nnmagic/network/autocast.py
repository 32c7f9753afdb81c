"""What autocast casts to in a thread, and the same again in another run."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import torch

from nnmagic.contexts import block

KINDS = ("cpu", "cuda", "mps", "xpu")


def casts_here() -> dict[str, torch.dtype]:
    """Return the dtype that autocast casts to in this thread, for each type of device."""
    return {
        kind: torch.get_autocast_dtype(kind) for kind in KINDS if torch.is_autocast_enabled(kind)
    }


@block
def casting_to(casts: Mapping[str, torch.dtype]) -> Iterator[None]:
    """Let autocast cast to these dtypes in the block, and on devices of other types not at all."""
    with ExitStack() as stack:
        for kind in {**casts_here(), **casts}:
            cast = torch.autocast(kind, dtype=casts.get(kind), enabled=kind in casts)
            stack.enter_context(cast)
        yield
