"""What a network uses without knowing it: layers and parameters that no optimizer will see."""

import gc
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic.network.layers import named_parameters, own_attributes

MENDS: dict[type, str] = {list: "List", tuple: "List", dict: "Dict"}
"""The class that knows what it holds, by the plain container that does not: `nn.ModuleList`."""

LONGEST_CHAIN = 4
"""Through so many functions a parameter that became a plain tensor is looked for."""


class HeldPlace(NamedTuple):
    """Where in a plain container of a module something is.

    Attributes:
        path: the place, e.g. `"layers.0"`.
        kind: the type of the container.
    """

    path: str
    kind: type

    def text(self, parameters: int, what: str = "Module") -> str:
        """Say that what is there is not registered, and what to type."""
        return (
            f"is not registered (a plain {self.kind.__name__}): no optimizer will see "
            f"{_counted(parameters)}; use nn.{what}{MENDS[self.kind]}"
        )


def _counted(parameters: int) -> str:
    return "its 1 parameter" if parameters == 1 else f"its {parameters:,} parameters"


def made_anew_text(name: str, parameters: int) -> str:
    """Say that a layer is made in the forward, and what to do.

    Args:
        name: its name, e.g. `"block.(Linear)"`.
        parameters: how many it has.
    """
    parent, _, kind = name.rpartition("(")
    of = f" of {parent.rstrip('.')}" if parent else ""
    return (
        f"a {kind.rstrip(')')} is made anew in each forward{of}: no optimizer will see "
        f"{_counted(parameters)}; make it in __init__, as self.NAME = …"
    )


def lost_text(parameters: int) -> str:
    """Say that a parameter has become a plain tensor, and what to type."""
    return (
        f"is a tensor that was made of an nn.Parameter: no optimizer will see "
        f"{_counted(parameters)}; type nn.Parameter(…) around the whole"
    )


def contents(own: Mapping[str, Any]) -> Iterator[tuple[HeldPlace, Any]]:
    """Yield what a module's plain containers hold, also those inside others.

    Args:
        own: the attributes of the module.
    """
    for name, value in own.items():
        if type(value) in MENDS:
            yield from _inside(name, value, 2)


def _inside(path: str, container: Any, levels: int) -> Iterator[tuple[HeldPlace, Any]]:
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in list(items):
        place = f"{path}.{key}"
        yield HeldPlace(place, type(container)), value
        if type(value) in MENDS and levels:
            yield from _inside(place, value, levels - 1)


def place_in(owner: nn.Module, layer: nn.Module) -> HeldPlace | None:
    """Return where in a plain container of a module a layer is."""
    return next((place for place, value in contents(own_attributes(owner)) if value is layer), None)


def trainable(layer: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a layer, and of those inside it, that require a gradient."""
    return [each for each in named_parameters(layer).values() if each.requires_grad]


def is_registered_elsewhere(layer: nn.Module) -> bool:
    """Tell whether any module has a layer as its child."""
    for holder in gc.get_referrers(layer):
        if type(holder) is dict:
            for owner in gc.get_referrers(holder):
                children = owner if isinstance(owner, dict) else getattr(owner, "__dict__", None)
                if isinstance(children, dict) and children.get("_modules") is holder:
                    return True
    return False


def lost_parameters(owner: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Yield the parameters that a module holds as something else: the name, what is wrong, and it.

    Those are in plain containers, or were made plain tensors by `.double()` and the like. Its
    network may still know them.
    """
    own = own_attributes(owner)
    for place, value in contents(own) if own else ():
        if isinstance(value, nn.Parameter) and value.requires_grad:
            yield place.path, place.text(value.numel(), "Parameter"), value
    for name, value in own.items():
        if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
            origin = _origin(value)
            if origin is not None:
                yield name, lost_text(value.numel()), origin


def _origin(tensor: torch.Tensor) -> nn.Parameter | None:
    """Return the parameter that a tensor was made of by functions of it alone."""
    node: Any = tensor.grad_fn
    for _ in range(LONGEST_CHAIN):
        inputs = [each for each, _ in getattr(node, "next_functions", ()) if each is not None]
        if len(inputs) != 1:
            return None
        node = inputs[0]
        variable = getattr(node, "variable", None)
        if variable is not None:
            return variable if isinstance(variable, nn.Parameter) else None
    return None
