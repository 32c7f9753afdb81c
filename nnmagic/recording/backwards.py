"""Seeing the backwards of a run: what `backward()` is called on."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from nnmagic.contexts import block
from nnmagic.network.calls import in_backward
from nnmagic.recording.loss_functions import Watched

_BACKWARD: list[Watched] = []


@block
def backwards(note: Callable[[Any], None]) -> Iterator[None]:
    """See every call of `torch.autograd.backward`, which `tensor.backward()` makes too.

    One that is made inside another, to compute a checkpoint again, is passed over.

    Args:
        note: gets, before each, what it is called on: a tensor, or several.
    """

    def called(name: str, given: Mapping[str, Any]) -> None:
        if not in_backward():
            note(given["tensors"])

    if not _BACKWARD:
        function: Any = torch.autograd.backward
        _BACKWARD.append(Watched(function))
    _BACKWARD[0].add(called)
    try:
        yield
    finally:
        _BACKWARD[0].remove(called)
