"""Networks that are compiled, scripted or exported."""

import torch
from torch import nn

from corpus.case import case, names
from corpus.modes import MLP, mlp

COMPILED = MLP | {
    "layers": (
        "OptimizedModule",
        "  _orig_mod Sequential",
        "    _orig_mod.0 Linear",
        "    _orig_mod.1 ReLU",
        "    _orig_mod.2 Linear",
    ),
    "backward": True,
    "said": ("run eagerly while they are traced",),
}


@case(**COMPILED)
def a_compiled_network():
    found = mlp()
    return found | names(net=torch.compile(found["net"], backend="eager"))


@case(**MLP, backward=True, said=COMPILED["said"])
def a_network_compiled_in_place():
    found = mlp()
    found["net"].compile(backend="eager")
    return found


@case(
    **MLP | {"flops": None},
    expression="function(x)",
    backward=True,
    runs=True,
)
def a_compiled_function():
    found = mlp()
    net = found["net"]
    return found | names(function=torch.compile(lambda x: net(x), backend="eager"))


@case(
    **MLP | {"layers": ("TopLevelTracedModule",)}, backward=True, said=("ScriptModule is one row",)
)
def a_traced_script_module():
    found = mlp()
    return found | names(net=torch.jit.trace(found["net"], found["x"]))


@case(
    **MLP | {"layers": ("RecursiveScriptModule",)}, backward=True, said=("ScriptModule is one row",)
)
def a_script_module():
    found = mlp()
    return found | names(net=torch.jit.script(found["net"]))


@case(
    **MLP | {"layers": ("Sequential", "  0 RecursiveScriptModule", "  1 Identity")}, backward=True
)
def a_script_module_within_a_network():
    found = mlp()
    net = nn.Sequential(torch.jit.script(found["net"]), nn.Identity())
    return found | names(net=net)


@case(**MLP | {"layers": ("Sequential", "  0 Linear", "  1 ReLU", "  2 Linear")}, backward=True)
def a_graph_module():
    found = mlp()
    return found | names(net=torch.fx.symbolic_trace(found["net"]))


@case(**MLP | {"layers": ("GraphModule",)}, backward=True, said=("exported program is one row",))
def an_exported_program():
    found = mlp()
    return found | names(net=torch.export.export(found["net"], (found["x"],)).module())
