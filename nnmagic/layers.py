"""The layers of a network, and what they hold that not every module does."""

from types import MappingProxyType
from typing import Any

from torch import nn

NAMED_MODULES = nn.Module.named_modules

ATOMS = frozenset({type(None), bool, int, float, str})
"""The types of the values that hold nothing."""

EVERY_MODULES = MappingProxyType(nn.Module().__dict__)
"""The attributes that every module has."""

FIRST = tuple(EVERY_MODULES)
"""Their names; the attributes of nearly every module begin with them."""


class Layers:
    """The modules of a network, looked through once for all that a run for shapes asks of them.

    Attributes:
        network: the network.
        by_name: its modules by their names, each once.
        modules: the same.
        own: the attributes of each that only some modules have, and that may hold something.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.by_name = layers_of(network)
        self.modules = list(self.by_name.values())
        self.own = [own_attributes(module) for module in self.modules]


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that only some have, and that may hold something."""
    attributes = module.__dict__
    names = tuple(attributes)
    items: Any = attributes.items()
    if names[: len(FIRST)] == FIRST:
        values = tuple(attributes.values())[len(FIRST) :]
        if ATOMS.issuperset(map(type, values)):  # as those of most layers
            return {}
        items = zip(names[len(FIRST) :], values, strict=True)
    return {
        name: value
        for name, value in items
        if (kind := type(value)) not in ATOMS
        and name not in EVERY_MODULES
        and not (kind is tuple and ATOMS.issuperset(map(type, value)))
    }


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """Return `dict(network.named_modules())`, without a generator for each level of nesting.

    Where a module has a `named_modules` of its own, that is asked.
    """
    found: dict[str, nn.Module] = {}
    seen: set[nn.Module] = set()
    waiting: list[tuple[str, Any]] = [("", network)]
    while waiting:
        name, module = waiting.pop()
        if module in seen:
            continue
        kind: Any = type(module)
        if kind.named_modules is not NAMED_MODULES or "named_modules" in module.__dict__:
            return dict(network.named_modules())
        seen.add(module)
        found[name] = module
        children = module._modules
        if children:
            before = f"{name}." if name else ""
            waiting += [
                (before + key, child)
                for key, child in reversed(children.items())
                if child is not None
            ]
    return found
