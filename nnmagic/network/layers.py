"""The layers of a network, and what they hold that not every module does."""

from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule
from torch.jit import ScriptModule

from nnmagic.torch_private import children_of, has_global_hooks, hooks_of, pre_hooks_of

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
        children = children_of(module)
        if children:
            before = f"{name}." if name else ""
            waiting += [
                (before + key, child)
                for key, child in reversed(children.items())
                if child is not None
            ]
    return found


UNLIFTED = "torch.export._unlift"
"""Where torch has the classes of exported programs, all of them private."""


def opaque_kind(module: nn.Module) -> str:
    """Return `"a ScriptModule"` or `"an exported program"`, `""` for a module whose layers run."""
    if isinstance(module, ScriptModule):
        return "a ScriptModule"
    if isinstance(module, GraphModule) and is_part_of_export(module):
        return "an exported program"
    return ""


def is_part_of_export(module: nn.Module) -> bool:
    """Tell whether a module is an exported program, or what checks its arguments."""
    return any(each.__module__ == UNLIFTED for each in type(module).__mro__)


def opaque_note(kind: str) -> str:
    """Return the note that says why an opaque module is one row."""
    return f"{kind} is one row: what runs inside it cannot be seen"


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer, else the CPU."""
    for tensor in chain(network.parameters(), network.buffers()):
        return tensor.device
    return torch.device("cpu")


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype of a network's first floating-point parameter, else float32."""
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


def has_hooks(layer: nn.Module) -> bool:
    """Tell whether hooks run in the call of a layer: its own, or those of all modules."""
    return bool(hooks_of(layer) or pre_hooks_of(layer) or has_global_hooks())
