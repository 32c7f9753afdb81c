"""The layers of a network, and what they hold.

A module is never asked by its own methods, `net.modules()` or `net.eval()`: a user may have taken
such a name for an attribute, as in `self.modules = [...]`, or given it code with effects.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule
from torch.jit import ScriptModule

from nnmagic.torch_private import (
    FORWARD_HOOKS,
    buffers_of,
    children_of,
    has_global_hooks,
    hooks_of,
    parameters_of,
    pre_hooks_of,
)

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
    """Return the modules of a network by name, each once, in the order of `named_modules()`.

    One whose `__init__` did not run `nn.Module`'s holds nothing, and is left out.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    waiting = [("", network)]
    while waiting:
        name, module = waiting.pop()
        if id(module) not in seen and is_initialised(module):
            seen.add(id(module))
            found[name] = module
            waiting += _children(name, module)
    return found


def layers_by_every_name(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a network by name, those that are held twice by both names."""
    found: dict[str, nn.Module] = {}
    waiting: list[tuple[str, nn.Module, tuple[int, ...]]] = [("", network, ())]
    while waiting:
        name, module, above = waiting.pop()
        if id(module) not in above and is_initialised(module):
            found[name] = module
            above = (*above, id(module))
            waiting += [(key, child, above) for key, child in _children(name, module)]
    return found


def _children(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the children of a module by their names in the network, the last one first."""
    children = children_of(module)
    if not children:
        return []
    before = f"{name}." if name else ""
    return [(before + key, each) for key, each in reversed(children.items()) if each is not None]


def is_initialised(module: nn.Module) -> bool:
    """Tell whether the `__init__` of a module ran `nn.Module`'s, without which it holds nothing."""
    return FORWARD_HOOKS in module.__dict__  # a ScriptModule keeps its layers elsewhere


def modules_of(network: nn.Module) -> list[nn.Module]:
    """Return the modules of a network, each once, itself first."""
    return list(layers_of(network).values())


def layer_at(network: nn.Module, name: str) -> nn.Module | None:
    """Return the layer of this dotted name, None if there is none."""
    layer: nn.Module | None = network
    for key in name.split(".") if name else ():
        layer = None if layer is None else children_of(layer).get(key)
    return layer


def named_parameters(network: nn.Module, *, once: bool = True) -> dict[str, nn.Parameter]:
    """Return the parameters of a network by name; a shared one under its first name if `once`."""
    return dict(_held(network, parameters_of, once=once))


def named_buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers of a network by name, each once."""
    return dict(_held(network, buffers_of, once=True))


def _held(
    network: nn.Module, held_by: Callable[[nn.Module], dict[str, Any]], *, once: bool
) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    layers = layers_of(network) if once else layers_by_every_name(network)
    for layer, module in layers.items():
        for key, tensor in held_by(module).items():
            if tensor is None or (once and id(tensor) in seen):
                continue
            seen.add(id(tensor))
            yield (f"{layer}.{key}" if layer else key), tensor


def set_training(network: nn.Module, *, training: bool) -> None:
    """Put a network in train or eval mode, without the code of its own that `train` may have."""
    for module in modules_of(network):
        module.training = training


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
    modules = modules_of(network)
    for held_by in (parameters_of, buffers_of):
        for tensor in chain.from_iterable(held_by(module).values() for module in modules):
            if tensor is not None:
                return tensor.device
    return torch.device("cpu")


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype of a network's first floating-point parameter, else float32."""
    floating = (p.dtype for p in named_parameters(network).values() if p.is_floating_point())
    return next(floating, torch.float32)


def has_hooks(layer: nn.Module) -> bool:
    """Tell whether hooks run in the call of a layer: its own, or those of all modules."""
    return bool(hooks_of(layer) or pre_hooks_of(layer) or has_global_hooks())
