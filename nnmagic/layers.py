"""The layers of a network by name, found in one loop."""

from typing import Any

from torch import nn

NAMED_MODULES = nn.Module.named_modules


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
