"""The recorder that writes the tensor functions between the modules too."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from nnmagic.blocks import block
from nnmagic.calls import RunningCall
from nnmagic.failures import calling_line, place_text
from nnmagic.functions import FunctionMode, called_by_torch
from nnmagic.nesting import tensors_of_call
from nnmagic.recorder import Recorder
from nnmagic.units import Shape

OUTSIDE = "functions"
"""What the functions that run outside every module belong to, as layers to a network."""


class FunctionRecorder(Recorder):
    """Writes a row for every tensor function that a forward, or the expression, calls itself.

    The mode that sees them holds for the thread that enters it. A layer of torch's own that is one
    function is one row.

    Attributes:
        mode: sees the functions while it is active.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mode = FunctionMode(self._inputs, self._function)
        self._aside: RunningCall | None = None

    @block
    def observing(self) -> Iterator[None]:
        """See all calls, and the functions of this thread, for the length of the block."""
        with super().observing(), self.mode:
            try:
                yield
            finally:
                self._come_back(self._aside)

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> RunningCall | None:
        """Note that a call begins; follow no functions where that would change its arithmetic."""
        with self.mode.at_rest():
            call = super().enter(module, args, kwargs)
        follows = call is not None and self._aside is None and call.stack is self.running
        if follows and self.mode.step_aside(module):
            self._aside = call
            note = f"no functions inside {type(module).__name__}: torch may run it as one"
            self.log.say(note)
        return call

    def leave(self, call: RunningCall, output: Any) -> None:
        """Note that a call returned."""
        self._come_back(call)
        with self.mode.at_rest():
            super().leave(call, output)

    def fail(self, call: RunningCall, error: BaseException) -> None:
        """Note that a call is ended by an exception."""
        self._come_back(call)
        with self.mode.at_rest():
            super().fail(call, error)

    def ended(self, call: RunningCall, output: Any) -> None:
        """Write what the call returned, and leave out the function that all of it is."""
        super().ended(call, output)
        index = call.notes[0]
        last = len(self.log) - 1
        only = last == index + 1 and self.log.is_function(last)
        torchs_own = type(call.module).__module__.startswith("torch.nn.")
        if only and torchs_own and self.log.outputs[last] == self.log.outputs[index]:
            self.log.drop_last()

    def _come_back(self, call: RunningCall | None) -> None:
        if call is not None and call is self._aside:
            self._aside = None
            self.mode.come_back()

    def _inputs(self, given: tuple[tuple, dict[str, Any]]) -> tuple[Shape, tuple[int, ...]]:
        shape, tensors = tensors_of_call(*given)
        home = self.running[-1].network if self.running else None
        index = -1 if home is None else home.index
        return shape, tuple(self.tensors.write(tensor, index) for tensor in tensors)

    def _function(
        self, name: str, type_name: str, inputs: tuple[Shape, tuple[int, ...]], output: Any
    ) -> None:
        parent = self.running[-1] if self.running else None
        if parent is not None:
            if parent.network is None:
                return
            network, step, above = parent.network.index, parent.step, parent.notes[0]
            layer = f"{parent.layer}.{name}()" if parent.layer else f"{name}()"
        else:
            if self.naming.only or called_by_torch():
                return
            begun = max((each.steps for each in self.naming.networks), default=0)
            step = max(0, begun - 1)
            if step % self.every:
                return
            network, above, layer = self._outside(), -1, f"{name}()"
        with self._lock:
            index = self.log.add_call(
                self.log.layer_index(network, layer, type_name),
                step,
                len(self.running),
                above,
                self.log.place_index(*calling_line(), place_text),
                *inputs,
            )
            self.log.functions.add(self.log.layer[index])
            if parent is not None and parent.recomputed:
                self.log.recomputed.add(index)
            self.finish(index, network, output)

    def _outside(self) -> int:
        network = self.naming.outside(OUTSIDE)
        if network.index == len(self.log.networks):
            self.log.networks.append(network.label)
        return network.index
