"""Modules that are one row, since what runs inside them cannot be seen."""

from torch import nn
from torch.fx import GraphModule
from torch.jit import ScriptModule

UNLIFTED = "torch.export._unlift"
"""Where torch has the classes of exported programs, all of them private."""


def kind_of(module: nn.Module) -> str:
    """Return what a module is that shows nothing of its inside, `""` for any other."""
    if isinstance(module, ScriptModule):
        return "a ScriptModule"
    if isinstance(module, GraphModule) and is_part_of_export(module):
        return "an exported program"
    return ""


def is_part_of_export(module: nn.Module) -> bool:
    """Tell whether a module is an exported program, or what checks its arguments."""
    return any(each.__module__ == UNLIFTED for each in type(module).__mro__)


def remark(kind: str) -> str:
    """Return the line that says why such a module is one row."""
    return f"{kind} is one row: what runs inside it cannot be seen"
