"""The modes and transforms under which a call is made, and what a checkpoint calls again."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from corpus.case import Net, case, names

MLP = {
    "params": (4 * 3 + 3) + (3 * 2 + 2),
    "layers": ("Sequential", "  0 Linear", "  1 ReLU", "  2 Linear"),
    "input": (5, 4),
    "output": (5, 2),
    "flops": 2 * 5 * (4 * 3 + 3 * 2),
}


def mlp() -> dict[str, Any]:
    """Return a small network and an input for it."""
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    return names(net=net, x=torch.rand(5, 4))


@case(**MLP, backward=True)
def in_train_mode():
    return mlp()


@case(**MLP, context=torch.no_grad)
def under_no_grad():
    return mlp()


@case(**MLP, context=torch.inference_mode)
def under_inference_mode():
    return mlp()


@case(
    **MLP,
    context=lambda: torch.autocast("cpu", torch.bfloat16),
    said=("bfloat16",),
    backward=True,
)
def under_autocast():
    return mlp()


@case(**MLP, context=lambda: torch.device("cpu"))
def under_a_device_as_a_mode():
    return mlp()


@case(
    **MLP | {"flops": None},
    expression="functional_call(net, {'0.bias': b}, (x,))",
    runs=True,
)
def under_functional_call():
    return mlp() | names(functional_call=torch.func.functional_call, b=torch.ones(3))


@case(
    **MLP | {"flops": None, "input": (4,), "output": (2,)},
    expression="vmap(net)(x)",
    stats={"0": {"mean": None, "nan": None}},
    said=("inside a torch.func transform",),
    runs=True,
)
def under_vmap():
    return mlp() | names(vmap=torch.vmap)


@case(
    **MLP | {"flops": None},
    expression="grad(lambda x: net(x).sum())(x)",
    stats={"0": {"mean": None, "nan": None}},
    said=("inside a torch.func transform",),
    runs=True,
)
def under_grad():
    return mlp() | names(grad=torch.func.grad)


@case(
    **MLP | {"flops": None},
    expression="jvp(net, (x,), (x,))",
    stats={"0": {"mean": None, "nan": None}},
    said=("inside a torch.func transform",),
    runs=True,
)
def under_jvp():
    return mlp() | names(jvp=torch.func.jvp)


CHECKPOINTED = {
    "params": (2 * 3 + 3) + (3 * 3 + 3),
    "expression": "net(x).sum().backward()",
    "layers": (
        "Net",
        "  block Sequential",
        "    block.0 Linear",
        "    block.1 Dropout",
        "  head Linear",
        "block Sequential",
        "  block.0 Linear",
        "  block.1 Dropout",
    ),
    "input": (4, 2),
    "output": (4, 3),
    "runs": True,
    "flops": None,
    "summary_layers": (
        "Net",
        "  block Sequential",
        "    block.0 Linear",
        "    block.1 Dropout",
        "  head Linear",
    ),
}


def _checkpointed(reentrant):
    def run(net, x):
        return net.head(checkpoint(net.block, x, use_reentrant=reentrant))

    block = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    net = Net(run, block=block, head=nn.Linear(3, 3))
    return names(net=net, x=torch.rand(4, 2).requires_grad_())


@case(**CHECKPOINTED, recomputed=("block", "block.0", "block.1"))
def a_checkpoint_of_the_reentrant_kind():
    return _checkpointed(True)


@case(
    **CHECKPOINTED | {"layers": (*CHECKPOINTED["layers"][:-1], "  block.1 Dropout")},
    recomputed=("block", "block.0", "block.1"),
)
def a_checkpoint_of_the_other_kind():
    return _checkpointed(False)
