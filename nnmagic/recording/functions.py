"""Seeing the tensor functions that run between the modules."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nnmagic.contexts import block
from nnmagic.display.units import Shape
from nnmagic.network.calls import RunningCall
from nnmagic.network.layers import named_parameters
from nnmagic.network.naming import Naming, Network
from nnmagic.network.nested_values import tensors_in, tensors_of_call
from nnmagic.network.places import TORCH_FOLDER, calling_line
from nnmagic.recording.attention import ATTENTION_FUNCTION, AttentionMaps
from nnmagic.recording.recorder import Recorder, WrittenCall
from nnmagic.recording.run_observer import RunObserver
from nnmagic.tensors.metadata import version_of
from nnmagic.torch_private import enter_mode, function_mode_at, function_modes, leave_mode

FUSING = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)
"""Layers that leave their fused path, and so their arithmetic, where a function mode is active."""

HOMES = {"F": torch.nn.functional, "torch": torch, "Tensor": torch.Tensor}

VIEWS = frozenset({"H", "T", "imag", "mH", "mT", "real"})
"""The attributes of a tensor that are functions of its values."""

PASSED_THROUGH = frozenset(
    {"_contextlib.py", "_device.py", "_tensor.py", "functional.py", "overrides.py"}
)
"""The files of torch through which a function comes that somebody else called."""


class FunctionMode(TorchFunctionMode):
    """Hands every tensor function of the thread that enters it to an observer.

    What a function calls itself is part of it. What does not return tensors, or returns the very
    tensor that it got and left it as it was, is passed over.

    Args:
        inputs: takes note of the tensors among the arguments; returns what `note` gets of them.
        note: takes note of a function: its name, its name with its home, its arguments, what
            `inputs` returned of them, and its output.
    """

    def __init__(
        self, inputs: Callable[[Any], Any], note: Callable[[str, str, Any, Any, Any], None]
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.note = note
        self.resting = False

    @block
    def at_rest(self) -> Iterator[None]:
        """Pass everything over: what an observer calls is nothing that the network does."""
        before, self.resting = self.resting, True
        try:
            yield
        finally:
            self.resting = before

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function, and have note taken of it."""
        __tracebackhide__ = True
        kwargs = kwargs or {}
        name = _name(func)
        if self.resting or not name:
            return func(*args, **kwargs)
        seen = None
        if _may_write(func, name, kwargs):
            with self.at_rest():
                seen = self.inputs((args, kwargs))
        arguments = tensors_in((args, kwargs))[1] if name != "__setitem__" else ()
        versions = [version_of(tensor) for tensor in arguments]
        output = func(*args, **kwargs)
        with self.at_rest():
            result = args[0] if name == "__setitem__" else output
            returned = tensors_in(result)[1]
            same = [
                any(each is tensor and version_of(each) == version >= 0 for each in returned)
                for tensor, version in zip(arguments, versions, strict=True)
            ]
            if returned and not (any(same) and len(returned) == 1):
                seen = self.inputs((args, kwargs)) if seen is None else seen
                shown = name.strip("_") + "_" * (name.endswith("_") and not name.endswith("__"))
                self.note(shown, _with_home(func, shown), (args, kwargs), seen, result)
        return output

    def step_aside(self, layer: nn.Module) -> bool:
        """Leave torch for the length of a call that may take a fused path; tell whether it did."""
        if not isinstance(layer, FUSING) or layer.training:
            return False
        if torch.is_grad_enabled() and any(
            p.requires_grad for p in named_parameters(layer).values()
        ):
            return False
        if function_modes() != 1 or self.resting:
            return False  # with a mode of the user's there is no fused path
        if function_mode_at(0) is not self:
            return False
        leave_mode()
        return True

    def come_back(self) -> None:
        """Go on after `step_aside`."""
        enter_mode(self)


def _name(func: Any) -> str:
    """Return a function's name, `""` for what asks a tensor for something else than values."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = func.__self__.__name__
        return name if name in VIEWS else ""
    return "" if name == "__set__" else name


def _with_home(func: Any, name: str) -> str:
    homes = (home for home, place in HOMES.items() if getattr(place, name, None) is func)
    of_tensors = name in VIEWS or "Tensor" in getattr(func, "__qualname__", "")
    return f"{next(homes, 'Tensor' if of_tensors else 'torch')}.{name}"


def _may_write(func: Any, name: str, kwargs: dict[str, Any]) -> bool:
    """Tell whether a function may write over its arguments."""
    if name.endswith("__"):
        return name == "__setitem__"
    in_place = name.endswith("_") or "out" in kwargs
    return in_place or getattr(func, "__module__", None) == "torch.nn.functional"


def called_by_torch() -> bool:
    """Tell whether torch itself calls the function at hand, as an optimizer does."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(TORCH_FOLDER):
            if Path(path).name not in PASSED_THROUGH:
                return True
        elif path != __file__ and path != sys._getframe(1).f_code.co_filename:
            return False
        frame = frame.f_back
    return False


OUTSIDE = "functions"
"""What the functions that run outside every module belong to, as layers to a network."""


class FunctionObserver(RunObserver):
    """Has a row written for every tensor function that a forward, or the expression, calls itself.

    The mode that sees them holds for the thread that enters it. A layer of torch's own that is one
    function is one row.

    Attributes:
        mode: sees the functions while it is active.
    """

    def __init__(self, recorder: Recorder, naming: Naming, every: int = 1) -> None:
        super().__init__(recorder, naming, every)
        self.log = recorder.log
        self.mode = FunctionMode(self._inputs, self._function)
        self.attention = AttentionMaps(self.log, recorder.tensors)
        recorder.holders.append(self.attention)
        recorder.first_items.is_wanted = False  # the maps are worked out during the run
        self._aside: RunningCall[WrittenCall] | None = None

    @block
    def observing(self) -> Iterator[None]:
        """See all calls, and the functions of this thread, for the length of the block."""
        with super().observing(), self.mode:
            try:
                yield
            finally:
                self._come_back(self._aside)

    def enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RunningCall[WrittenCall] | None:
        """Note that a call begins; follow no functions where that would change its arithmetic."""
        with self.mode.at_rest():
            call = super().enter(module, args, kwargs)
        follows = call is not None and self._aside is None and call.stack is self.running
        if follows and self.mode.step_aside(module):
            self._aside = call
            name = type(module).__name__
            self.log.say(f"no functions inside {name}: torch may run it as one fused operation")
        return call

    def leave(self, call: RunningCall[WrittenCall], output: Any) -> None:
        """Note that a call returned, and leave out the function that all of it is."""
        self._come_back(call)
        with self.mode.at_rest(), self.lock:
            super().leave(call, output)
            if not call.is_skipped:
                self._leave_out(call)
                self.attention.note_layer(call)

    def fail(self, call: RunningCall[WrittenCall], error: BaseException) -> None:
        """Note that a call is ended by an exception."""
        self._come_back(call)
        with self.mode.at_rest():
            super().fail(call, error)

    def _leave_out(self, call: RunningCall[WrittenCall]) -> None:
        index = call.record.number
        last = len(self.log) - 1
        only = last == index + 1 and self.log.is_function(last)
        torchs_own = type(call.module).__module__.startswith("torch.nn.")
        first_entry = self.log.tensors.first_entry
        if only and torchs_own:
            made, returned = ([*map(first_entry, self.log.outputs[i])] for i in (last, index))
            if made == returned:
                self.log.drop_last()

    def _come_back(self, call: RunningCall[WrittenCall] | None) -> None:
        if call is not None and call is self._aside:
            self._aside = None
            self.mode.come_back()

    def _inputs(
        self, arguments: tuple[tuple[Any, ...], dict[str, Any]]
    ) -> tuple[Shape, tuple[int, ...]]:
        shape, tensors = tensors_of_call(*arguments)
        parent = self.running[-1] if self.running else None
        if parent is not None and parent.is_skipped:
            return shape, ()
        series = None if parent is None else parent.iteration.series
        with self.lock:
            return shape, tuple(self.recorder.tensors.write(tensor, series) for tensor in tensors)

    def _function(
        self,
        name: str,
        type_name: str,
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        inputs: tuple[Shape, tuple[int, ...]],
        output: Any,
    ) -> None:
        parent = self.running[-1] if self.running else None
        if parent is not None:
            if parent.is_skipped:
                return
            network, step, above = parent.network.index, parent.step, parent.record.number
            layer = f"{parent.layer}.{name}()" if parent.layer else f"{name}()"
            iteration = parent.iteration
        else:
            if self.naming.only or called_by_torch():
                return
            begun = max((each.steps for each in self.naming.networks), default=0)
            outside, step, above, layer = self._outside(), max(0, begun - 1), -1, f"{name}()"
            network = outside.index
            with self.lock:
                iteration = self.iterations.of_function(outside, name)
            if iteration.is_skipped:
                return
            if iteration.is_new:
                self.recorder.tensors.pictures.room.drop(iteration.series)
                self.limits.count(iteration.series)
        with self.lock:
            shape, tensors = inputs
            if parent is None:
                self.log.add_root(iteration.series, iteration.number)
            index = self.log.add_call(
                self.log.layer_index(network, layer, type_name),
                step,
                depth=len(self.running),
                parent=above,
                place=self.recorder.places.index(*calling_line()),
                input_shape=self.log.shape_index(shape),
                inputs=tensors,
            )
            self.log.functions.add(self.log.layer[index])
            if parent is not None and parent.recomputed:
                self.log.recomputed.add(index)
            returned, _ = self.recorder.finish(index, iteration.series, output)
            if parent is None:
                self.recorder.tensors.note_returned(returned)
            if type_name == ATTENTION_FUNCTION:
                self.attention.note_function(index, iteration.series, *arguments)

    def _outside(self) -> Network:
        network = self.naming.outside(OUTSIDE)
        if network.index == len(self.recorder.networks):
            self.recorder.meet(network)
        return network
