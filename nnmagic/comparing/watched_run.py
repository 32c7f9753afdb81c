"""A run of a network in which each layer's call passes through our hands, whatever its hooks."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.network.preserve import preserved
from nnmagic.torch_private import call_through


class CallKey(NamedTuple):
    """Which call of a run it is: the layer's dotted name, and which of its calls, from 0."""

    layer: str
    occurrence: int


Began = Callable[[CallKey, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
"""Gets the arguments of a call that begins; returns those that the layer gets."""

Ended = Callable[[CallKey, Any], Any]
"""Gets what a call returned; returns what its caller gets."""


@dataclass(frozen=True, slots=True)
class NetworkCall:
    """A call of a network, or of one of its methods, that can be made again.

    Attributes:
        network: the network, which holds the module that is called.
        layer: the dotted name of that module in it.
        method: the name of the method that is called; empty for the module itself.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """

    network: nn.Module
    layer: str
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> Any:
        """Make the call."""
        called = self.network.get_submodule(self.layer)
        function = getattr(called, self.method) if self.method else called
        return function(*self.args, **self.kwargs)

    def watched(self, began: Began, ended: Ended) -> Any:
        """Make the call, each layer's call through these; the network is put back afterwards."""
        seen, thread = Counter[str](), get_ident()

        def call(module: nn.Module, name: str, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != thread:  # by a copy whose forward is a closure over this network
                return call_through(module, args, kwargs)
            key = CallKey(name, seen[name])
            seen[name] += 1
            args, kwargs = began(key, args, kwargs)
            return ended(key, call_through(module, args, kwargs))

        with preserved(self.network), nothing_saved():
            for name, module in self.network.named_modules():
                module.__dict__["_compiled_call_impl"] = partial(call, module, name)
            return self()


def nothing_saved() -> AbstractContextManager[Any]:
    """Let autograd keep no tensor for a backward: the graph that a run makes is never used.

    The run is not under `no_grad`, in which torch takes other paths than those that were traced.
    """
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda nothing: nothing)
