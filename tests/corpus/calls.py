"""Any call: what goes in and comes out, by whom and in which mode it is made."""

import dataclasses
import threading
import types
from collections import OrderedDict, UserDict, namedtuple
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from corpus.case import UNKNOWN, Net, case, names


@case(
    params=4 * 3 + 3,
    layers=("Net", "  fc Linear"),
    expression="net(x=x, scale=2.0)",
    input=({"x": (2, 4)},),
    output=(2, 3),
    flops=2 * 2 * 4 * 3,
    backward=True,
)
def keyword_only_arguments():
    net = Net(lambda net, *, x, scale: net.fc(x) * scale, fc=nn.Linear(4, 3))
    return names(net=net, x=torch.rand(2, 4))


@case(
    params=4 * 2 + 2,
    layers=("Net", "  fc Linear"),
    expression="net(x, mask=m)",
    input=((2, 4), {"mask": (2, 1)}),
    output=(2, 2),
    flops=2 * 2 * 4 * 2,
)
def a_positional_and_a_keyword_argument():
    net = Net(lambda net, x, mask: net.fc(x) * mask, fc=nn.Linear(4, 2))
    return names(net=net, x=torch.rand(2, 4), m=torch.ones(2, 1))


@case(
    layers=("Net",),
    expression="net((a, b), None, 3)",
    input=(((2,), (3,)),),
    output=((3,), (2,)),
)
def tuples_in_and_out():
    net = Net(lambda net, pair, nothing, number: (pair[1], nothing, pair[0]))
    return names(net=net, a=torch.rand(2), b=torch.rand(3))


@case(layers=("Net",), expression="net([a, [b]])", input=(((2,), ((3,),)),), output=((2,),))
def lists_in_and_out():
    net = Net(lambda net, nested: [nested[0], []])
    return names(net=net, a=torch.rand(2), b=torch.rand(3))


@case(
    layers=("Net",),
    expression="net({'a': a, 'b': {'c': a}})",
    input=({"a": (2,), "b": {"c": (2,)}},),
    output={"out": (2,), 7: ((2,),)},
)
def dicts_in_and_out():
    net = Net(lambda net, d: {"out": d["a"] + 1, "none": None, 7: (d["b"]["c"], "text")})
    return names(net=net, a=torch.rand(2))


@case(
    layers=("Net",),
    expression="net(OrderedDict(a=a))",
    input=({"a": (2,)},),
    output={"a": (2,)},
)
def other_mappings_in_and_out():
    net = Net(lambda net, d: UserDict(a=d["a"] * 2))
    return names(net=net, a=torch.rand(2), OrderedDict=OrderedDict)


Pair = namedtuple("Pair", "left right")


@case(layers=("Net",), expression="net(Pair(a, b))", input=(((2,), (3,)),), output=((3,), (2,)))
def named_tuples_in_and_out():
    net = Net(lambda net, pair: Pair(pair.right, pair.left))
    return names(net=net, a=torch.rand(2), b=torch.rand(3), Pair=Pair)


@dataclasses.dataclass
class Batch:
    """What a data loader of somebody's gives."""

    pictures: torch.Tensor
    labels: torch.Tensor | None = None
    name: str = "batch"


@case(
    params=9,
    layers=("Net", "  fc Linear"),
    expression="net(Batch(x, name='first'))",
    input=({"pictures": (4, 2)},),
    output={"pictures": (4, 3), "labels": (4,)},
    flops=2 * 4 * 2 * 3,
)
def dataclasses_in_and_out():
    net = Net(lambda net, batch: Batch(net.fc(batch.pictures), torch.zeros(4)), fc=nn.Linear(2, 3))
    return names(net=net, x=torch.rand(4, 2), Batch=Batch)


@case(
    params=9,
    layers=("Net", "  fc Linear"),
    input=(4, 2),
    output={"logits": (4, 3), "attentions": ((4, 3),)},
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_model_output():
    from transformers.modeling_outputs import SequenceClassifierOutput

    def run(net, x):
        logits = net.fc(x)
        return SequenceClassifierOutput(logits=logits, attentions=(logits.softmax(-1),))

    return names(net=Net(run, fc=nn.Linear(2, 3)), x=torch.rand(4, 2))


@case(layers=("Net",), expression="net('text', n=3)", input=None, output=None)
def no_tensor_at_all():
    return names(net=Net(lambda net, text, n: text * n))


@case(layers=("Net",), expression="net()", input=None, output=(3,), flops=0)
def no_arguments():
    return names(net=Net(lambda net: torch.arange(3.0)))


@case(layers=("Net",), expression="net(space)", input=None, output=(2,), flops=0)
def an_object_that_hides_its_tensors():
    net = Net(lambda net, space: torch.ones(2) * 2)
    return names(net=net, space=types.SimpleNamespace(x=torch.rand(5)))


@case(
    params=(784 * 20 + 20) + (20 * 10 + 10),
    expression="loss_fn(net(x), y)",
    layers=(
        "Sequential",
        "  0 Flatten",
        "  1 Linear",
        "  2 ReLU",
        "  3 Linear",
        "CrossEntropyLoss",
    ),
    networks=("net", "loss_fn"),
    input=(3, 28, 28),
    output=(3, 10),
    backward=True,
    summary="net(x)",
    summary_layers=("Sequential", "  0 Flatten", "  1 Linear", "  2 ReLU", "  3 Linear"),
    flops=2 * 3 * (784 * 20 + 20 * 10),
)
def a_loss_of_a_network():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))
    x, y = torch.rand(3, 28, 28), torch.tensor([1, 2, 3])
    return names(net=net, loss_fn=nn.CrossEntropyLoss(), x=x, y=y)


@case(
    params=2 * 2 + 2,
    expression="other(net(x)) + other(net(x * 2))",
    layers=("Linear", "Linear", "Linear", "Linear"),
    networks=("net", "other"),
    steps=(0, 0, 1, 1),
    input=(4, 2),
    output=(4, 2),
    flops=2 * (2 * 4) * (2 * 2 + 2 * 3),
    backward=True,
    runs=True,
    summary_params=(2 * 2 + 2) + (2 * 3 + 3),
)
def several_networks_in_one_expression():
    return names(net=nn.Linear(2, 2), other=nn.Linear(2, 3), x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    expression="[net(x * i) for i in range(3)]",
    layers=("Linear",) * 3,
    steps=(0, 1, 2),
    input=(4, 2),
    output=(4, 2),
    flops=3 * 2 * 4 * 2 * 2,
    stats={"": {"zeros": 0.0, "nan": 0}},
    backward=True,
    runs=True,
)
def a_network_called_many_times():
    return names(net=nn.Linear(2, 2), x=torch.rand(4, 2))


def _countdown(net, x, n):
    return net.fc(x) if n == 0 else net(x + 1, n - 1)


@case(
    params=2 * 3 + 3,
    expression="net(x, 2)",
    layers=("Net", "  Net", "    Net", "      fc Linear"),
    input=((4, 2),),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_network_that_calls_itself():
    return names(net=Net(_countdown, fc=nn.Linear(2, 3)), x=torch.rand(4, 2))


def in_a_thread(function, *args):
    """Call a function in a thread of its own and return what it gave."""
    given = []
    thread = threading.Thread(target=lambda: given.append(function(*args)))
    thread.start()
    thread.join()
    return given[0]


@case(
    params=2 * 3 + 3,
    expression="in_a_thread(net, x)",
    layers=("Sequential", "  0 Linear", "  1 Tanh"),
    input=(4, 2),
    output=(4, 3),
    flops=UNKNOWN,
    backward=True,
    runs=True,
)
def a_call_in_a_thread():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    return names(net=net, x=torch.rand(4, 2), in_a_thread=in_a_thread)


@case(
    params=2 * 3 + 3,
    layers=("Net", "fc Linear"),
    input=(4, 2),
    output=(4, 3),
    backward=True,
    flops=UNKNOWN,
    summary_said=("Linear in a thread × 1",),
)
def a_forward_that_calls_its_layer_in_a_thread():
    net = Net(lambda net, x: in_a_thread(net.fc, x), fc=nn.Linear(2, 3))
    return names(net=net, x=torch.rand(4, 2))


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


@case(
    params=2 * 3 + 3,
    layers=("DataParallel", "  module Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def data_parallel_on_the_cpu():
    return names(net=nn.DataParallel(nn.Linear(2, 3)), x=torch.rand(4, 2))


class Decoder(nn.Module):
    """Generates, as language models do."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10)

    def forward(self, ids):
        return self.head(self.emb(ids))

    def generate(self, ids, steps):
        for _ in range(steps):
            ids = torch.cat((ids, self(ids)[:, -1:].argmax(-1)), 1)
        return ids

    def encode(self, ids):
        return self.emb(ids)


@case(
    params=10 * 4 + (4 * 10 + 10),
    expression="net.generate(ids, 3)",
    layers=("Decoder", "  emb Embedding", "  head Linear") * 3,
    steps=(0, 0, 0, 1, 1, 1, 2, 2, 2),
    input=(1, 2),
    output=(1, 2, 10),
    flops=2 * (2 + 3 + 4) * 4 * 10,
)
def a_method_that_calls_the_network_step_by_step():
    return names(net=Decoder(), ids=torch.tensor([[1, 2]]))


@case(
    params=10 * 4 + (4 * 10 + 10),
    expression="net.encode(ids)",
    layers=("emb Embedding",),
    input=(1, 2),
    output=(1, 2, 4),
    never_ran=("head",),
)
def a_method_that_calls_one_layer():
    return names(net=Decoder(), ids=torch.tensor([[1, 2]]))


@case(
    params=10 * 4 + (4 * 10 + 10),
    expression="net.forward(ids)",
    layers=("emb Embedding", "head Linear"),
    summary_layers=("Decoder", "  emb Embedding", "  head Linear"),
    steps=(0, 1),
    input=(1, 2),
    flops=2 * 2 * 4 * 10,
)
def forward_called_directly():
    return names(net=Decoder(), ids=torch.tensor([[1, 2]]))


@case(
    params=2 * 3 + 3,
    expression="F.relu(nn.Softmax(-1)(net(x))).sum()",
    layers=("Linear", "Softmax"),
    networks=("net", "Softmax"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    stats={"Softmax:": {"mean": 1 / 3}},
    runs=True,
)
def loose_layers_and_functions():
    return names(net=nn.Linear(2, 3), F=F, x=torch.rand(4, 2))


@case(
    params=2 * 3 + 3,
    expression="net.fc(x)",
    layers=("fc Linear",),
    input=(4, 2),
    output=(4, 3),
    summary="net(x)",
    summary_layers=("Net", "  fc Linear"),
    flops=2 * 4 * 2 * 3,
)
def a_layer_of_a_network_called_alone():
    net = Net(lambda net, x: net.fc(x), fc=nn.Linear(2, 3))
    return names(net=net, x=torch.rand(4, 2))
