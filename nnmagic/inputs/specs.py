"""The forms of the arguments that a network may take, and the noise that fills them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The form of one tensor that a network may take.

    Attributes:
        shape: its shape, the batch first.
        below: for integers, what they are less than; None for floating-point noise.
        fill: a whole number that stands at every place, such as a length; None for noise.
        dtype: its dtype; None is the network's own, or int64 for integers.
        listed: how many of it the network takes in a list; 0 where it takes it alone.
        reason: why a network may take it.
    """

    shape: tuple[int, ...]
    below: int | None = None
    fill: int | None = None
    dtype: torch.dtype | None = None
    listed: int = 0
    reason: str = field(default="", compare=False)

    def on(self, device: torch.device, usual: torch.dtype) -> Any:
        """Return noise of this form, drawn from a generator of its own; empty on meta."""
        tensor = self._tensor(device, self._dtype(usual))
        return [tensor] * self.listed if self.listed else tensor

    def text(self, usual: torch.dtype) -> str:
        """Return the call of torch that gives such an argument."""
        text = self._call(self._dtype(usual))
        return f"[{', '.join([text] * self.listed)}]" if self.listed else text

    def _dtype(self, usual: torch.dtype) -> torch.dtype:
        whole = self.below is not None or self.fill is not None
        return self.dtype or (torch.int64 if whole else usual)

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
        size = ", ".join(map(str, self.shape))
        return (
            f"torch.rand({size})"
            if dtype is torch.float32
            else f"torch.rand({size}, dtype={dtype})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """An argument that is no tensor: a flag or a number."""

    value: Any
    reason: str = field(default="", compare=False)

    def on(self, device: torch.device, usual: torch.dtype) -> Any:
        """Return the value."""
        return self.value

    def text(self, usual: torch.dtype) -> str:
        """Return how it is written."""
        return repr(self.value)


Form = Size | Constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The arguments of a call that nnmagic makes itself.

    Attributes:
        args: the positional arguments.
        kwargs: the keyword arguments.
        text: how a person would write them.
        reason: why these.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    text: str
    reason: str

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

    def on(self, device: torch.device, usual: torch.dtype) -> "Input":
        """Return the same input on a device; on meta without values."""
        args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), self.call)
        return Input(args=args, kwargs=kwargs, text=self.text, reason=self.reason)

    def for_shapes(self, usual: torch.dtype) -> "Input":
        """Return the same input for a run for shapes: floating-point tensors on meta."""

        def without_values(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to("meta") if tensor.is_floating_point() else tensor

        args, kwargs = tree_map_only(torch.Tensor, without_values, self.call)
        return Input(args=args, kwargs=kwargs, text=self.text, reason=self.reason)

    @property
    def hangs_on_values(self) -> bool:
        """Whether the values decide if the network takes it, as those of ids do."""
        return any(
            isinstance(leaf, torch.Tensor) and not leaf.is_floating_point()
            for leaf in tree_leaves(self.call)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The forms of the arguments of a call that may go through.

    Attributes:
        args: the forms of the positional arguments.
        kwargs: those of the keyword arguments.
        reason: why a network may take them.
    """

    args: tuple[Form, ...] = ()
    kwargs: Mapping[str, Form] = field(default_factory=dict)
    reason: str

    def on(self, device: torch.device, usual: torch.dtype) -> Input:
        """Return the input itself.

        Args:
            device: where its tensors are.
            usual: their dtype where the form names none.
        """
        return self._input(usual, lambda form: form.on(device, usual))

    def for_shapes(self, usual: torch.dtype) -> Input:
        """Return the input for a run for shapes: floating-point tensors on meta, ids not."""

        def value_of(form: Form) -> Any:
            noise = isinstance(form, Size) and form.below is None and form.fill is None
            return form.on(torch.device("meta" if noise else "cpu"), usual)

        return self._input(usual, value_of)

    def _input(self, usual: torch.dtype, value_of: Callable[[Form], Any]) -> Input:
        texts = [form.text(usual) for form in self.args]
        texts += [f"{name}={form.text(usual)}" for name, form in self.kwargs.items()]
        return Input(
            args=tuple(map(value_of, self.args)),
            kwargs={name: value_of(form) for name, form in self.kwargs.items()},
            text=", ".join(texts),
            reason=self.reason,
        )

    @property
    def hangs_on_values(self) -> bool:
        """Whether the values decide if the network takes it, as those of ids do."""
        forms = (*self.args, *self.kwargs.values())
        return any(isinstance(form, Size) and form.below is not None for form in forms)

    @property
    def shapes(self) -> list[tuple[int, ...]] | None:
        """The shapes, if one `--input-size` each can give them; None if not."""
        forms = [*self.args]
        if self.kwargs or not forms:
            return None
        shapes = [f.shape for f in forms if isinstance(f, Size) and not f.listed]
        return shapes if len(shapes) == len(forms) else None
