"""The calls of a run whose output is judged at the end, when its numbers have been read."""

import weakref

from torch import nn

from nnmagic.tensors import version_of


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
