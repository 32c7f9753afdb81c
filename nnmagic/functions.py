"""Seeing the tensor functions that run between the modules."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from nnmagic.blocks import block
from nnmagic.failures import TORCH_FOLDER
from nnmagic.nesting import tensors_in
from nnmagic.tensors import version_of

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
        note: takes note of a function: its name, its name with its home, inputs and output.
    """

    def __init__(
        self, inputs: Callable[[Any], Any], note: Callable[[str, str, Any, Any], None]
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
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
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
        given = tensors_in((args, kwargs))[1] if name != "__setitem__" else ()
        versions = [version_of(tensor) for tensor in given]
        output = func(*args, **kwargs)
        with self.at_rest():
            result = args[0] if name == "__setitem__" else output
            returned = tensors_in(result)[1]
            same = [
                any(each is tensor and version_of(each) == version >= 0 for each in returned)
                for tensor, version in zip(given, versions, strict=True)
            ]
            if returned and not (any(same) and len(returned) == 1):
                seen = self.inputs((args, kwargs)) if seen is None else seen
                shown = name.strip("_") + "_" * (name.endswith("_") and not name.endswith("__"))
                self.note(shown, _with_home(func, shown), seen, result)
        return output

    def step_aside(self, layer: nn.Module) -> bool:
        """Leave torch for the length of a call that may take a fused path; tell whether it did."""
        if not isinstance(layer, FUSING) or layer.training:
            return False
        if torch.is_grad_enabled() and any(p.requires_grad for p in layer.parameters()):
            return False
        if torch._C._len_torch_function_stack() != 1 or self.resting:
            return False  # with a mode of the user's there is no fused path
        if torch._C._get_function_stack_at(0) is not self:
            return False
        _pop_mode()
        return True

    def come_back(self) -> None:
        """Go on after `step_aside`."""
        _push_mode(self)


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
