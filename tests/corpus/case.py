"""A case of the corpus: an expression, the names in it, and what is true of it."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

UNKNOWN = "unknown"
"""A number of FLOPs that cannot be told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One expression, the names in it, and what is true of it.

    A line of `layers` is one call: indented by its depth, the layer's name unless it is the root,
    its type, and `!` if it fails.

    Attributes:
        make: gives the namespace, the same under the same seed.
        expression: what is typed.
        context: the mode in which it is typed.
        params: the distinct parameters of `net`.
        trainable: those of them that require a gradient; None is all.
        layers: the calls in the order in which they begin; None where there are too many.
        calls: how many there are.
        networks: the roots, in the order in which they first run.
        steps: the step of each call; None is 0 for all.
        input: the nested input shape of the first call.
        output: the nested output shape of the first call.
        flops: of the whole call; None where the call is no network's own.
        stats: of a layer's last call.
        error: the type that the expression raises.
        blamed: `"layer (Type)"` in the note of the exception.
        why: what the failed call says of got and expected.
        nonfinite: the layer that made the first NaN or Inf.
        recomputed: the layers that run again in a backward.
        said: what the trace's text holds.
        summary: what `%nnsummary` is asked instead.
        runs: whether `%nnsummary` runs it for real, as it does what is no call of a network.
        summary_params: the parameters as the meta run finds them, where they differ.
        summary_layers: the calls on meta, where they differ.
        summary_error: what the meta run raises, where it differs; False is nothing.
        summary_said: what the summary's text holds.
        never_ran: the layers without a call.
        backward: whether gradients are compared after a backward.
        slow: whether it takes seconds.
    """

    make: Callable[[], dict[str, Any]]
    expression: str = "net(x)"
    context: Callable[[], Any] = contextlib.nullcontext
    params: int = 0
    trainable: int | None = None
    layers: tuple[str, ...] | None = None
    calls: int | None = None
    networks: tuple[str, ...] = ("net",)
    steps: tuple[int, ...] | None = None
    input: Any = "?"
    output: Any = "?"
    flops: int | str | None = 0
    stats: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    error: type[BaseException] | None = None
    blamed: str = ""
    why: str = ""
    nonfinite: str | None = None
    recomputed: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    summary: str | None = None
    runs: bool = False
    summary_params: int | None = None
    summary_layers: tuple[str, ...] | None = None
    summary_error: Any = None
    summary_said: tuple[str, ...] = ()
    never_ran: tuple[str, ...] = ()
    backward: bool = False
    slow: bool = False


CASES: dict[str, Case] = {}


def case(**truth: Any) -> Callable[[Callable[[], dict[str, Any]]], Callable[[], dict[str, Any]]]:
    """Add a function that makes a namespace to the corpus, with the truth about it."""

    def add(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        assert make.__name__ not in CASES, make.__name__
        CASES[make.__name__] = Case(make=make, **truth)
        return make

    return add


class Net(nn.Module):
    """Runs a function of itself and of its arguments as its forward."""

    def __init__(self, run, **children):
        super().__init__()
        self.run = run
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def names(**found: Any) -> dict[str, Any]:
    """Return a namespace."""
    return found
