"""Specs of the arguments that a network may take, and the inputs that are made of them."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import torch

from nnmagic.torch_private import tree_leaves, tree_map_only

SEED = 0


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The shape, dtype and values of one tensor that a network may take.

    Attributes:
        shape: its shape, the batch first.
        below: an upper bound, exclusive, for random integers; None for floating-point noise.
        fill: an integer that fills the tensor, such as a length; None for noise.
        dtype: its dtype; None is the network's own, or int64 for integers.
        listed: the length of the list of such tensors that the network takes; 0 for one tensor.
        reason: why a network may take it.
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    below: int | None = None
    fill: int | None = None
    dtype: torch.dtype | None = None
    listed: int = 0
    reason: str = field(default="", compare=False)

    def on(self, device: torch.device | None, default_dtype: torch.dtype) -> Any:
        """Return a random tensor of this spec, or a list of them; without values on meta.

        The session's random state is not used.

        Args:
            device: the tensor's device; None is for a run for shapes: meta for noise, where there
                are no values, and the CPU for integers.
            default_dtype: its dtype where the spec names none, e.g. the network's.
        """
        if device is None:
            device = torch.device("cpu" if self._is_whole else "meta")
        tensor = self._tensor(device, self._dtype(default_dtype))
        return [tensor] * self.listed if self.listed else tensor

    def text(self, default_dtype: torch.dtype) -> str:
        """Return the call of torch that makes it, e.g. `"torch.rand(1, 28, 28)"`."""
        text = self._call(self._dtype(default_dtype))
        return f"[{', '.join([text] * self.listed)}]" if self.listed else text

    @property
    def _is_whole(self) -> bool:
        return self.below is not None or self.fill is not None

    def _dtype(self, default_dtype: torch.dtype) -> torch.dtype:
        return self.dtype or (torch.int64 if self._is_whole else default_dtype)

    def _tensor(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        if device.type == "meta":
            return torch.empty(self.shape, dtype=dtype, device=device)
        if self.fill is not None:
            return torch.full(self.shape, self.fill, dtype=dtype, device=device)
        generator = torch.Generator("cpu").manual_seed(SEED)
        if self.below is None:
            noise = torch.rand(self.shape, generator=generator, dtype=torch.float32, device="cpu")
        else:
            noise = torch.randint(0, self.below, self.shape, generator=generator, device="cpu")
        return noise.to(device, dtype)

    def _call(self, dtype: torch.dtype) -> str:
        if self.fill is not None:
            return f"torch.full({self.shape}, {self.fill})"
        if self.below is not None:
            return f"torch.randint(0, {self.below}, {self.shape})"
        options = [] if dtype is torch.float32 else [f"dtype={dtype}"]
        return f"torch.rand({', '.join([*map(str, self.shape), *options])})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantSpec:
    """An argument that is not a tensor: a flag or a number."""

    value: Any
    reason: str = field(default="", compare=False)

    def on(self, device: torch.device | None, default_dtype: torch.dtype) -> Any:
        """Return the value."""
        return self.value

    def text(self, default_dtype: torch.dtype) -> str:
        """Return it as Python, e.g. `"False"`."""
        return repr(self.value)


Spec = TensorSpec | ConstantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The arguments of a call.

    Attributes:
        args: the positional arguments.
        kwargs: the keyword arguments.
        text: the arguments as Python, e.g. `"torch.rand(1, 28, 28)"`; empty for the user's own.
        reason: why the network may take them, e.g. `"fc (Linear) takes 784 features"`.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    reason: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """A line that says what the input is and why; none where there is no reason to give."""
        return (f"input: {self.text}, since {self.reason}",) if self.reason else ()

    def title(self, name: str) -> str:
        """Return a title for a run of a network on this input, e.g. `"net on torch.rand(1, 3)"`."""
        return f"{name} on {self.text}" if self.text else name

    @property
    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments."""
        return self.args, dict(self.kwargs)

    def on(self, device: torch.device | None, default_dtype: torch.dtype) -> "Input":
        """Return the same input on a device; None puts floating-point tensors alone on meta."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            if device is None:
                return tensor.to("meta") if tensor.is_floating_point() else tensor
            return tensor.to(device)

        args, kwargs = tree_map_only(torch.Tensor, moved, self.call)
        return replace(self, args=args, kwargs=kwargs)

    @property
    def is_value_dependent(self) -> bool:
        """Whether the network may refuse it for its values, as an embedding refuses large ids."""
        return any(
            isinstance(leaf, torch.Tensor) and not leaf.is_floating_point()
            for leaf in tree_leaves(self.call)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An input that is still to be made and tried.

    Attributes:
        args: the specs of the positional arguments.
        kwargs: the specs of the keyword arguments.
        reason: why the network may take them.
    """

    args: tuple[Spec, ...] = ()
    kwargs: Mapping[str, Spec] = field(default_factory=dict)
    reason: str

    def on(self, device: torch.device | None, default_dtype: torch.dtype) -> Input:
        """Return the input itself.

        Args:
            device: where its tensors are; None is for a run for shapes: ids have values, and
                floating-point tensors are on meta.
            default_dtype: their dtype where the spec names none.
        """
        texts = [spec.text(default_dtype) for spec in self.args]
        texts += [f"{name}={spec.text(default_dtype)}" for name, spec in self.kwargs.items()]
        return Input(
            args=tuple(spec.on(device, default_dtype) for spec in self.args),
            kwargs={name: spec.on(device, default_dtype) for name, spec in self.kwargs.items()},
            text=", ".join(texts),
            reason=self.reason,
        )

    @property
    def is_value_dependent(self) -> bool:
        """Whether the network may refuse it because of its values, as an embedding refuses ids."""
        specs = (*self.args, *self.kwargs.values())
        return any(isinstance(spec, TensorSpec) and spec.below is not None for spec in specs)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes, if one `--input-size` each can give them; empty if not."""
        tensors = [spec for spec in self.args if isinstance(spec, TensorSpec) and not spec.listed]
        is_given_so = not self.kwargs and len(tensors) == len(self.args)
        return [spec.shape for spec in tensors] if is_given_so else []
