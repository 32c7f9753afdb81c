"""Blocks that repeat in a network: two of a kind tell what all of them save."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nnmagic.contexts import block
from nnmagic.network.layers import ATOMS, EVERY_MODULES, modules_of
from nnmagic.structure.training_memory import SavedTensors
from nnmagic.torch_private import (
    buffers_of,
    hooks_of,
    parameters_of,
    pre_hooks_of,
    storage_id,
    tree_flatten,
    tree_unflatten,
)

RUN_AT_LEAST = 2
"""How many blocks of a kind run: what the first one gets may be of another make."""

PLACE_IN_LIST = re.compile(r"idx|index|layer")
"""In the names of numbers by which blocks know their place, and differ in nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """A part of what a block returned.

    Attributes:
        argument: the number of the argument that it is, -1 for a tensor that the block made.
        tensor: that tensor.
        requires_grad: whether it does.
        is_saved: whether the block saved it.
    """

    argument: int = -1
    tensor: torch.Tensor | None = None
    requires_grad: bool = False
    is_saved: bool = False

    def another(self, given: list[Any], saved: SavedTensors) -> Any:
        """Return what another block returns in its place, of arguments of its own."""
        if self.tensor is None:
            return given[self.argument]
        made = torch.empty_like(self.tensor)
        if self.requires_grad:  # a clone is no leaf of the graph, so that it may be written to
            made = made.requires_grad_().clone()
        if self.is_saved:  # counted with the block
            saved.leave_out(made)
        return made


@dataclass(slots=True)
class _Kind:
    """What is known of blocks that are made alike and got alike arguments.

    Attributes:
        runs: how many ran.
        saved_bytes: what the last one added to what is saved.
        leaves: what it returned; None where that of another block cannot be made of it.
        structure: how those are nested.
    """

    runs: int = 0
    saved_bytes: int = 0
    leaves: list[_Leaf] | None = None
    structure: Any = None


class RepeatedBlocks:
    """Lets the third and every later block of a kind return at once, and counts what it would save.

    Args:
        blocks: the blocks, on tensors without values.
        saved: takes note of what its forward saves.

    Attributes:
        skipped: how many blocks did not run.
        skipped_bytes: what they would have saved.
    """

    def __init__(self, blocks: Iterable[nn.Module], saved: SavedTensors) -> None:
        self._saved = saved
        self._kinds: dict[Any, _Kind] = {}
        self._blocks = list(blocks)
        self.skipped = self.skipped_bytes = 0

    @block
    def in_forward(self) -> Iterator[None]:
        """Stand in for the forwards of the blocks."""
        with ExitStack() as stack:
            for each in self._blocks:
                attributes = vars(each)
                if "forward" in attributes:
                    continue
                attributes["forward"] = self._stand_in(each.forward, _made_as(each))
                stack.callback(attributes.pop, "forward", None)
            yield

    def _stand_in(self, forward: Callable[..., Any], made_as: Any) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            leaves, structure = tree_flatten((args, kwargs))
            key = made_as, structure, tuple(map(self._form, leaves))
            kind = self._kinds.setdefault(key, _Kind())
            if kind.runs < RUN_AT_LEAST or kind.leaves is None:
                before = self._saved.bytes
                output = forward(*args, **kwargs)
                kind.runs += 1
                kind.saved_bytes = self._saved.bytes - before
                kind.leaves, kind.structure = _leaves(output, leaves, self._saved)
                return output
            self.skipped += 1
            self.skipped_bytes += kind.saved_bytes
            made = [each.another(leaves, self._saved) for each in kind.leaves]
            return tree_unflatten(made, kind.structure)

        return stand_in

    def _form(self, leaf: Any) -> Any:
        """Return what two arguments have in common by which a block does the same."""
        if isinstance(leaf, torch.Tensor):
            known = self._saved.has(leaf)
            return leaf.shape, leaf.stride(), leaf.dtype, leaf.requires_grad, known
        return leaf if type(leaf) in ATOMS else id(leaf)


def _made_as(layer: nn.Module) -> Any:
    """Return what is equal for layers that differ in the values of their tensors alone."""
    return tuple(
        (
            type(module),
            module.training,
            tuple((n, _tensor(t)) for n, t in parameters_of(module).items()),
            tuple((n, _tensor(t)) for n, t in buffers_of(module).items()),
            tuple(map(id, (*hooks_of(module).values(), *pre_hooks_of(module).values()))),
            tuple(
                (name, _attribute(value))
                for name, value in vars(module).items()
                if name not in EVERY_MODULES
                and not (type(value) is int and PLACE_IN_LIST.search(name))
            ),
        )
        for module in modules_of(layer)
    )


def _tensor(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.requires_grad)


def _attribute(value: Any) -> Any:
    if type(value) in ATOMS:
        return value
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if type(value) in (list, tuple) and ATOMS.issuperset(map(type, value)):
        return tuple(value)
    return id(value)


def _leaves(output: Any, given: list[Any], saved: SavedTensors) -> tuple[list[_Leaf] | None, Any]:
    """Return what the output of another block can be made of, None where it cannot be.

    Args:
        output: what a block returned.
        given: the leaves of its arguments.
        saved: what is saved so far.
    """
    leaves, structure = tree_flatten(output)
    arguments = {id(leaf): i for i, leaf in enumerate(given)}
    storages = {storage_id(leaf) for leaf in given if isinstance(leaf, torch.Tensor)}
    found = list[_Leaf]()
    for leaf in leaves:
        if id(leaf) in arguments:
            found.append(_Leaf(argument=arguments[id(leaf)]))
            continue
        is_new = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        if not is_new or storage_id(leaf) in storages:
            return None, None
        storages.add(storage_id(leaf))
        of_it = {"requires_grad": leaf.requires_grad, "is_saved": saved.has(leaf)}
        found.append(_Leaf(tensor=leaf.detach(), **of_it))
    return found, structure
