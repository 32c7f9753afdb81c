"""Small networks and calls, each with the truth about it worked out by hand."""

import contextlib
import dataclasses
import threading
import types
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from math import inf, nan, sqrt
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune, rnn
from torch.utils.checkpoint import checkpoint

UNKNOWN = "unknown"
"""A number of FLOPs that cannot be told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One expression, the names in it, and what is true of it.

    A line of `layers` is one call: indented by its depth, the layer's name unless it is the root,
    its type, and `!` if it fails.

    Attributes:
        make: gives the namespace, the same under the same seed.
        expression: what is typed.
        context: the mode in which it is typed.
        params: the distinct parameters of `net`.
        trainable: those of them that require a gradient; None is all.
        layers: the calls in the order in which they begin; None where there are too many.
        calls: how many there are.
        networks: the roots, in the order in which they first run.
        steps: the step of each call; None is 0 for all.
        input: the nested input shape of the first call.
        output: the nested output shape of the first call.
        flops: of the whole call; None where the call is no network's own.
        stats: of a layer's last call.
        error: the type that the expression raises.
        blamed: `"layer (Type)"` in the note of the exception.
        why: what the failed call says of got and expected.
        nonfinite: the layer that made the first NaN or Inf.
        recomputed: the layers that run again in a backward.
        said: what the trace's text holds.
        summary: what `%nnsummary` is asked instead.
        refused: what `%nnsummary` says where it cannot follow.
        summary_params: the parameters as the meta run finds them, where they differ.
        summary_layers: the calls on meta, where they differ.
        summary_error: what the meta run raises, where it differs; False is nothing.
        summary_said: what the summary's text holds.
        never_ran: the layers without a call.
        backward: whether gradients are compared after a backward.
        slow: whether it takes seconds.
    """

    make: Callable[[], dict[str, Any]]
    expression: str = "net(x)"
    context: Callable[[], Any] = contextlib.nullcontext
    params: int = 0
    trainable: int | None = None
    layers: tuple[str, ...] | None = None
    calls: int | None = None
    networks: tuple[str, ...] = ("net",)
    steps: tuple[int, ...] | None = None
    input: Any = "?"
    output: Any = "?"
    flops: int | str | None = 0
    stats: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    error: type[BaseException] | None = None
    blamed: str = ""
    why: str = ""
    nonfinite: str | None = None
    recomputed: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    summary: str | None = None
    refused: str = ""
    summary_params: int | None = None
    summary_layers: tuple[str, ...] | None = None
    summary_error: Any = None
    summary_said: tuple[str, ...] = ()
    never_ran: tuple[str, ...] = ()
    backward: bool = False
    slow: bool = False


CASES: dict[str, Case] = {}

METHOD = {"refused": r"--real"}
"""What `%nnsummary` says to an expression that is no call of a network."""


def case(**truth: Any) -> Callable[[Callable[[], dict[str, Any]]], Callable[[], dict[str, Any]]]:
    """Add a function that makes a namespace to the corpus, with the truth about it."""

    def add(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        assert make.__name__ not in CASES, make.__name__
        CASES[make.__name__] = Case(make=make, **truth)
        return make

    return add


class Net(nn.Module):
    """Runs a function of itself and of its arguments as its forward."""

    def __init__(self, run, **children):
        super().__init__()
        self.run = run
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def names(**found: Any) -> dict[str, Any]:
    """Return a namespace."""
    return found


# Any call.


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
    backward=True,
    **METHOD,
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
    stats={"": {"zeros": 0.0, "nan": 0}},
    backward=True,
    **METHOD,
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
    backward=True,
    **METHOD,
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
    **METHOD,
)
def under_functional_call():
    return mlp() | names(functional_call=torch.func.functional_call, b=torch.ones(3))


@case(
    **MLP | {"flops": None, "input": (4,), "output": (2,)},
    expression="vmap(net)(x)",
    stats={"0": {"mean": None, "nan": None}},
    said=("inside torch.func",),
    **METHOD,
)
def under_vmap():
    return mlp() | names(vmap=torch.vmap)


@case(
    **MLP | {"flops": None},
    expression="grad(lambda x: net(x).sum())(x)",
    stats={"0": {"mean": None, "nan": None}},
    said=("inside torch.func",),
    **METHOD,
)
def under_grad():
    return mlp() | names(grad=torch.func.grad)


@case(
    **MLP | {"flops": None},
    expression="jvp(net, (x,), (x,))",
    stats={"0": {"mean": None, "nan": None}},
    said=("inside torch.func",),
    **METHOD,
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
    "refused": "--real",
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
    stats={"Softmax:": {"mean": 1 / 3}},
    **METHOD,
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


# Any module.


@case(
    params=2 * 2 + 2,
    layers=("Net", "  fc Linear", "  fc Linear", "  act ReLU"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * (2 * 4 * 2 * 2),
    backward=True,
)
def a_layer_used_twice():
    net = Net(
        lambda net, x: net.act(net.fc(net.fc(x))), fc=nn.Linear(2, 2), act=nn.ReLU(inplace=True)
    )
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    layers=("Net", "  a Linear", "  a Linear"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * (2 * 4 * 2 * 2),
    backward=True,
)
def a_layer_registered_under_two_names():
    layer = nn.Linear(2, 2)
    return names(net=Net(lambda net, x: net.b(net.a(x)), a=layer, b=layer), x=torch.rand(4, 2))


@case(
    params=10 * 4,
    layers=("Net", "  emb Embedding", "  head Linear"),
    expression="net(ids)",
    input=(1, 3),
    output=(1, 3, 10),
    flops=2 * 3 * 4 * 10,
    backward=True,
)
def tied_weights():
    emb, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    head.weight = emb.weight
    net = Net(lambda net, ids: net.head(net.emb(ids)), emb=emb, head=head)
    return names(net=net, ids=torch.tensor([[1, 2, 3]]))


@case(
    params=3 + 5 + 2 * 3 + 3,
    layers=("Net", "  block Net", "    block.fc Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def parameters_on_every_level():
    block = Net(lambda block, x: block.fc(x) + block.shift.sum(), fc=nn.Linear(2, 3))
    block.shift = nn.Parameter(torch.rand(5))
    net = Net(lambda net, x: net.block(x) * net.scale, block=block)
    net.scale = nn.Parameter(torch.rand(3))
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 3 + 3 + 7,
    trainable=7,
    layers=("Net", "  fc Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def frozen_layers():
    net = Net(lambda net, x: net.fc(x) * net.scale.sum(), fc=nn.Linear(2, 3))
    net.scale = nn.Parameter(torch.rand(7))
    net.fc.requires_grad_(False)
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 3 + 3 * 4 + 5,
    layers=("Net",),
    input=(6, 2),
    output=(6, 4),
    flops=2 * 6 * (2 * 3 + 3 * 4),
    backward=True,
    never_ran=("weights", "shifts"),
)
def a_list_and_a_dict_of_parameters():
    net = Net(lambda net, x: x @ net.weights[0] @ net.weights[1] + net.shifts["a"].sum())
    net.weights = nn.ParameterList([torch.rand(2, 3), torch.rand(3, 4)])
    net.shifts = nn.ParameterDict({"a": torch.rand(5)})
    return names(net=net, x=torch.rand(6, 2))


@case(layers=("Net",), input=(2,), output=(2,), stats={"": {"mean": 3.0}})
def buffers():
    net = Net(lambda net, x: x * 0 + net.shift + net.hidden.sum())
    net.register_buffer("shift", torch.ones(2))
    net.register_buffer("hidden", torch.ones(2), persistent=False)
    net.register_buffer("nothing", None)
    return names(net=net, x=torch.rand(2))


@case(
    params=2 * 3 + 3,
    layers=("ModuleDictNet", "  parts.a Linear", "  rest.0 ReLU", "  rest.1 Tanh"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def lists_and_dicts_of_layers():
    class ModuleDictNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleDict({"a": nn.Linear(2, 3)})
            self.rest = nn.ModuleList([nn.ReLU(), nn.Tanh()])

        def forward(self, x):
            x = self.parts["a"](x)
            for layer in self.rest:
                x = layer(x)
            return x

    return names(net=ModuleDictNet(), x=torch.rand(4, 2))


@case(
    params=0,
    layers=("Sequential", "  0 LazyLinear", "  1 ReLU", "  2 LazyBatchNorm1d"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    summary_params=(2 * 3 + 3) + (3 + 3),
    backward=True,
)
def lazy_layers():
    net = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyBatchNorm1d())
    return names(net=net, x=torch.rand(4, 2))


def _rnn_flops(gates, steps, inputs, hidden):
    return sum(2 * steps * gates * hidden * (size + hidden) for size in inputs)


@case(
    params=2 * (4 * 5) * (3 + 5 + 2) - (4 * 5) * (3 + 5 + 2) + (4 * 5) * (5 + 5 + 2),
    layers=("LSTM",),
    input=(7, 2, 3),
    output=((7, 2, 5), ((2, 2, 5), (2, 2, 5))),
    flops=_rnn_flops(4, 7 * 2, (3, 5), 5),
    backward=True,
)
def a_recurrent_network_of_two_layers():
    return names(net=nn.LSTM(3, 5, num_layers=2), x=torch.rand(7, 2, 3))


@case(
    params=2 * (3 * 5) * (3 + 5 + 2),
    layers=("GRU",),
    input=(2, 7, 3),
    output=((2, 7, 10), (2, 2, 5)),
    flops=2 * _rnn_flops(3, 7 * 2, (3,), 5),
    backward=True,
)
def a_recurrent_network_of_two_directions():
    net = nn.GRU(3, 5, bidirectional=True, batch_first=True)
    return names(net=net, x=torch.rand(2, 7, 3))


@case(
    params=5 * (3 + 5 + 2),
    layers=("RNN",),
    input=(7, 2, 3),
    output=((7, 2, 5), (1, 2, 5)),
    flops=_rnn_flops(1, 7 * 2, (3,), 5),
)
def a_plain_recurrent_network():
    return names(net=nn.RNN(3, 5), x=torch.rand(7, 2, 3))


@case(
    params=(4 * 5) * (3 + 5 + 2),
    layers=("LSTMCell",) * 3,
    expression="unroll(net, x)",
    steps=(0, 1, 2),
    input=(2, 3),
    output=((2, 5), (2, 5)),
    backward=True,
    **METHOD,
)
def a_recurrent_cell_in_a_loop():
    def unroll(net, x):
        state = net(x[0])
        for each in x[1:]:
            state = net(each, state)
        return state

    return names(net=nn.LSTMCell(3, 5), x=torch.rand(3, 2, 3), unroll=unroll)


LENGTHS = (7, 4, 2)


def _packed(net):
    x = rnn.pack_padded_sequence(torch.rand(7, 3, 3), torch.tensor(LENGTHS))
    return names(net=net, x=x)


@case(
    params=(4 * 5) * (3 + 5 + 2),
    layers=("LSTM",),
    input=(((sum(LENGTHS), 3), (7,)),),
    output=(((sum(LENGTHS), 5), (7,)), ((1, 3, 5), (1, 3, 5))),
    flops=_rnn_flops(4, sum(LENGTHS), (3,), 5),
    backward=True,
)
def a_packed_lstm():
    return _packed(nn.LSTM(3, 5))


@case(
    params=(3 * 5) * (3 + 5 + 2),
    layers=("GRU",),
    input=(((sum(LENGTHS), 3), (7,)),),
    output=(((sum(LENGTHS), 5), (7,)), (1, 3, 5)),
    flops=_rnn_flops(3, sum(LENGTHS), (3,), 5),
    backward=True,
)
def a_packed_gru():
    return _packed(nn.GRU(3, 5))


def _attention_flops(batch, queries, keys, size):
    projections = 2 * batch * (2 * queries + 2 * keys) * size * size
    return projections + 2 * (2 * batch * queries * keys * size)


ATTENTION = {
    "params": 4 * (8 * 8 + 8),
    "input": ((2, 5, 8), (2, 5, 8), (2, 5, 8)),
    "expression": "net(x, x, x)",
    "output": ((2, 5, 8), (2, 5, 5)),
    "layers": ("MultiheadAttention",),
    "never_ran": ("out_proj",),
    "flops": _attention_flops(2, 5, 5, 8),
}


def _attention():
    return names(net=nn.MultiheadAttention(8, 2, batch_first=True), x=torch.rand(2, 5, 8))


@case(**ATTENTION, backward=True)
def attention_in_train_mode():
    return _attention()


@case(**ATTENTION)
def attention_in_eval_mode():
    found = _attention()
    found["net"].eval()
    return found


@case(**ATTENTION, context=torch.no_grad)
def attention_on_the_fused_path():
    found = _attention()
    found["net"].eval()
    return found


@case(
    **ATTENTION | {"expression": "net(x, x, x, need_weights=False)", "output": ((2, 5, 8),)},
    backward=True,
)
def attention_without_weights():
    return _attention()


def _encoder_flops(batch, steps, size, inner):
    return _attention_flops(batch, steps, steps, size) + 2 * (2 * batch * steps * size * inner)


ENCODER = {
    "params": 2 * (4 * (8 * 8 + 8) + (8 * 16 + 16) + (16 * 8 + 8) + 2 * (8 + 8)),
    "input": (2, 5, 8),
    "output": (2, 5, 8),
    "never_ran": ("layers.0.self_attn.out_proj", "layers.1.self_attn.out_proj"),
    "flops": 2 * _encoder_flops(2, 5, 8, 16),
}
INNER = (
    "self_attn MultiheadAttention",
    "dropout1 Dropout",
    "norm1 LayerNorm",
    "linear1 Linear",
    "dropout Dropout",
    "linear2 Linear",
    "dropout2 Dropout",
    "norm2 LayerNorm",
)
ENCODER_LAYERS = (
    "TransformerEncoder",
    "  layers.0 TransformerEncoderLayer",
    *(f"    layers.0.{inner}" for inner in INNER),
    "  layers.1 TransformerEncoderLayer",
    *(f"    layers.1.{inner}" for inner in INNER),
)
FUSED_LAYERS = (
    "TransformerEncoder",
    "  layers.0 TransformerEncoderLayer",
    "  layers.1 TransformerEncoderLayer",
)


def _encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return names(
        net=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), x=torch.rand(2, 5, 8)
    )


@case(**ENCODER, layers=ENCODER_LAYERS, backward=True)
def an_encoder_in_train_mode():
    return _encoder()


@case(**ENCODER, layers=FUSED_LAYERS, summary_layers=ENCODER_LAYERS, context=torch.no_grad)
def an_encoder_on_the_fused_path():
    found = _encoder()
    found["net"].eval()
    return found


@case(
    params=(4 * (8 * 8 + 8)) * 3 + 2 * ((8 * 16 + 16) + (16 * 8 + 8)) + (8 + 8) * (2 + 3 + 2),
    expression="net(x, y)",
    input=((2, 5, 8), (2, 3, 8)),
    output=(2, 3, 8),
    calls=1 + (1 + 1 + 8 + 1) + (1 + 1 + 11 + 1),
    never_ran=(
        "encoder.layers.0.self_attn.out_proj",
        "decoder.layers.0.self_attn.out_proj",
        "decoder.layers.0.multihead_attn.out_proj",
    ),
    flops=_encoder_flops(2, 5, 8, 16) + _encoder_flops(2, 3, 8, 16) + _attention_flops(2, 3, 5, 8),
    backward=True,
)
def a_whole_transformer():
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    return names(net=net, x=torch.rand(2, 5, 8), y=torch.rand(2, 3, 8))


@case(
    params=4 * 2 * 9 + 4 + 4 + 4,
    layers=("Sequential", "  0 Conv2d", "  1 BatchNorm2d", "  2 ReLU", "  3 MaxPool2d"),
    input=(2, 4, 8, 8),
    output=(2, 4, 4, 4),
    flops=2 * 2 * (8 * 8) * 4 * 2 * 9,
    backward=True,
    said=("3 batch-norm statistics",),
)
def a_grouped_convolution_with_batch_norm():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
    return names(net=net, x=torch.rand(2, 4, 8, 8))


@case(
    params=4 * 2 * 9 + 4 + 4 + 4,
    layers=("Sequential", "  0 Conv2d", "  1 BatchNorm2d"),
    input=(2, 4, 8, 8),
    output=(2, 4, 6, 6),
    flops=2 * 2 * (6 * 6) * 4 * 2 * 9,
    said=("network unchanged",),
    backward=True,
)
def a_frozen_batch_norm_in_a_network_that_trains():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4))
    net[1].eval()
    return names(net=net, x=torch.rand(2, 4, 8, 8))


@case(
    params=3 * 4 * 2 * 2 + 4,
    layers=("ConvTranspose2d",),
    input=(1, 3, 5, 5),
    output=(1, 4, 10, 10),
    flops=2 * (5 * 5) * 3 * 4 * (2 * 2),
    backward=True,
)
def a_transposed_convolution():
    return names(net=nn.ConvTranspose2d(3, 4, 2, stride=2), x=torch.rand(1, 3, 5, 5))


@case(
    params=6 * 3,
    layers=("EmbeddingBag",),
    expression="net(ids, offsets)",
    input=((4,), (2,)),
    output=(2, 3),
    backward=True,
)
def a_bag_of_embeddings():
    return names(
        net=nn.EmbeddingBag(6, 3), ids=torch.tensor([1, 2, 4, 5]), offsets=torch.tensor([0, 2])
    )


@case(
    params=4 * 2 * 3 + 4,
    layers=("Bilinear",),
    expression="net(x, y)",
    input=((5, 2), (5, 3)),
    output=(5, 4),
    flops=None,
    backward=True,
)
def a_bilinear_layer():
    return names(net=nn.Bilinear(2, 3, 4), x=torch.rand(5, 2), y=torch.rand(5, 3))


@case(
    params=3 * 3 + 3,
    layers=("Net", "  fc Linear"),
    input=(3, 3),
    output=(3, 3),
    flops=UNKNOWN,
    summary_said=("FLOPs unknown of: ", "linalg_inv"),
    backward=True,
)
def an_operation_without_a_formula():
    net = Net(lambda net, x: torch.linalg.inv(net.fc(x)), fc=nn.Linear(3, 3))
    return names(net=net, x=torch.rand(3, 3))


@case(
    params=3 + 3 * 2 + 3,
    layers=(
        "ParametrizedLinear",
        "  parametrizations.weight ParametrizationList",
        "    parametrizations.weight.0 _WeightNorm",
    ),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_parametrized_weight():
    return names(net=parametrizations.weight_norm(nn.Linear(2, 3)), x=torch.rand(4, 2))


class Symmetric(nn.Module):
    """Makes a matrix symmetric."""

    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


@case(
    params=3 * 3 + 3,
    layers=(
        "ParametrizedLinear",
        "  parametrizations.weight ParametrizationList",
        "    parametrizations.weight.0 Symmetric",
    ),
    input=(4, 3),
    output=(4, 3),
    flops=2 * 4 * 3 * 3,
    backward=True,
)
def a_parametrization_of_the_users():
    net = nn.Linear(3, 3)
    parametrize.register_parametrization(net, "weight", Symmetric())
    return names(net=net, x=torch.rand(4, 3))


@case(
    params=4 * 3 + 3,
    layers=("Linear",),
    input=(5, 4),
    output=(5, 3),
    flops=2 * 5 * 4 * 3,
    backward=True,
)
def a_pruned_weight():
    net = nn.Linear(4, 3)
    prune.l1_unstructured(net, "weight", amount=0.5)
    return names(net=net, x=torch.rand(5, 4))


@case(
    params=4 * 3 + 3 + 3,
    layers=("Linear",),
    input=(5, 4),
    output=(5, 3),
    flops=2 * 5 * 4 * 3,
    backward=True,
)
def an_old_weight_norm():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.utils.weight_norm(nn.Linear(4, 3))
    return names(net=net, x=torch.rand(5, 4))


@case(
    params=0,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(5, 4),
    output=(5, 3),
    flops=2 * 5 * 4 * 3,
    never_ran=("0._packed_params",),
    context=torch.no_grad,
)
def dynamically_quantized_weights():
    import warnings

    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    return names(net=net, x=torch.rand(5, 4))


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
    **METHOD,
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


@case(
    params=2 * 2 + 2,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * 2 * 2,
    stats={"0": {"min": 5.0, "max": 5.0, "std": 0.0}, "": {"mean": 5.0}},
    backward=True,
)
def a_hook_that_replaces_the_output():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net[0].register_forward_hook(lambda module, args, out: out * 0 + 5)
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(4, 2),
    output=(1, 2),
    flops=2 * 1 * 2 * 2,
    backward=True,
)
def a_hook_that_replaces_the_input():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net[0].register_forward_pre_hook(lambda module, args: (args[0][:1] * 2,))
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    layers=("Net", "  fc Linear"),
    expression="net(x, scale=2)",
    input=((4, 2),),
    output=(4, 2),
    stats={"": {"max": 0.0}},
    flops=2 * 4 * 2 * 2,
)
def a_hook_that_replaces_keyword_arguments():
    net = Net(lambda net, x, scale: net.fc(x) * scale, fc=nn.Linear(2, 2))
    net.register_forward_pre_hook(
        lambda module, args, kwargs: (args, kwargs | {"scale": 0}), with_kwargs=True
    )
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 2 + 2,
    layers=("Sequential", "  0 Linear", "  1 Sigmoid"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * 2 * 2,
    backward=True,
)
def a_full_backward_hook():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())
    net[0].register_full_backward_hook(lambda module, into, out: (into[0] * 2,))
    net[1].register_full_backward_pre_hook(lambda module, out: (out[0] * 3,))
    return names(net=net, x=torch.rand(4, 2).requires_grad_())


class Guarded(nn.Module):
    """A wrapper whose `__getattr__` knows nothing and says so in its own way."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        raise RuntimeError(f"no {name} here")

    def forward(self, x):
        return self.inner(x)


@case(
    params=2 * 3 + 3,
    layers=("Guarded", "  inner Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_hostile_getattr():
    return names(net=Guarded(nn.Linear(2, 3)), x=torch.rand(4, 2))


class Unprintable(nn.Linear):
    """Cannot be printed."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def extra_repr(self):
        raise RuntimeError("no extra repr")


@case(
    params=2 * 3 + 3,
    layers=("Sequential", "  0 Unprintable"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_repr_that_raises():
    return names(net=nn.Sequential(Unprintable(2, 3)), x=torch.rand(4, 2))


class Announced(nn.Linear):
    """Has a `__call__` of its own that goes on to torch's."""

    def __call__(self, x):
        return super().__call__(x) + 1


class Direct(nn.Linear):
    """Has a `__call__` of its own that never calls torch's."""

    def __call__(self, x):
        return self.forward(x)


@case(
    params=(2 * 3 + 3) + (3 * 2 + 2),
    layers=("Sequential", "  0 Announced", "  1 Linear"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * (2 * 3 + 3 * 2),
    backward=True,
)
def a_call_that_goes_on_to_torchs():
    return names(net=nn.Sequential(Announced(2, 3), nn.Linear(3, 2)), x=torch.rand(4, 2))


@case(
    params=(2 * 3 + 3) + (3 * 2 + 2),
    layers=("Sequential", "  1 Linear"),
    input=(4, 2),
    output=(4, 2),
    flops=2 * 4 * (2 * 3 + 3 * 2),
    never_ran=("0",),
    backward=True,
)
def a_call_that_never_calls_torchs():
    return names(net=nn.Sequential(Direct(2, 3), nn.Linear(3, 2)), x=torch.rand(4, 2))


def nested(levels):
    """Return a layer within containers, as many levels in all."""
    net = nn.Linear(2, 2)
    for _ in range(levels - 1):
        net = nn.Sequential(net)
    return net


@case(
    params=2 * 2 + 2,
    calls=200,
    input=(1, 2),
    output=(1, 2),
    flops=2 * 2 * 2,
)
def nesting_of_200_levels():
    return names(net=nested(200), x=torch.rand(1, 2))


@case(calls=20_001, input=(1,), output=(1,), stats={"": {"min": 1.0, "max": 1.0}}, slow=True)
def twenty_thousand_calls():
    def run(net, x):
        for _ in range(20_000):
            x = net.act(x)
        return x

    return names(net=Net(run, act=nn.Identity()), x=torch.ones(1))


@case(
    params=2 * 3 + 3,
    layers=("Net", "  fc Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def a_forward_that_stores_on_itself():
    def run(net, x):
        net.last = net.fc(x)
        net.count += 1
        net.seen.append(tuple(x.shape))
        return net.last

    net = Net(run, fc=nn.Linear(2, 3))
    net.count, net.seen = 0, []
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 3 + 3,
    layers=("Net", "  fc Linear", "  (Softmax) Softmax"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    stats={"": {"mean": 1 / 3}},
    backward=True,
)
def a_forward_that_makes_a_layer():
    net = Net(lambda net, x: nn.Softmax(-1)(net.fc(x)), fc=nn.Linear(2, 3))
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=0,
    layers=("Net", "  late Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    summary_error=False,
)
def a_forward_that_registers_a_layer():
    def run(net, x):
        if not hasattr(net, "late"):
            net.late = nn.Linear(2, 3)
        return net.late(x)

    return names(net=Net(run), x=torch.rand(4, 2))


class Streaming(nn.Module):
    """Its forward is a generator."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def forward(self, x):
        for each in x:
            yield self.fc(each)


@case(
    params=2 * 3 + 3,
    expression="list(net(x))",
    layers=("Streaming",) + ("fc Linear",) * 2,
    steps=(0, 1, 2),
    input=(2, 2),
    output=None,
    backward=True,
    **METHOD,
)
def a_forward_that_is_a_generator():
    return names(net=Streaming(), x=torch.rand(2, 2))


@case(
    params=0,
    layers=("Sequential", "  0 Dropout", "  1 RReLU"),
    input=(4, 50),
    output=(4, 50),
)
def layers_that_draw_random_numbers():
    return names(net=nn.Sequential(nn.Dropout(0.5), nn.RReLU()), x=torch.rand(4, 50))


@case(
    params=(2 * 3 + 3) + (5 * 5 + 5),
    layers=("Net", "  fc Linear"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    never_ran=("spare",),
    backward=True,
)
def a_layer_that_never_runs():
    net = Net(lambda net, x: net.fc(x), fc=nn.Linear(2, 3), spare=nn.Linear(5, 5))
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 3 + 3,
    layers=(
        "<script>alert(1)</script>",
        "  <img src=x onerror=alert(2)> Linear",
        "  größe_→_" + "很" * 40 + " Tanh",
        "  " + "x" * 3000 + " ReLU",
    ),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    backward=True,
)
def hostile_names():
    kind = type("<script>alert(1)</script>", (nn.Sequential,), {})
    net = kind(
        OrderedDict(
            [
                ("<img src=x onerror=alert(2)>", nn.Linear(2, 3)),
                ("größe_→_" + "很" * 40, nn.Tanh()),
                ("x" * 3000, nn.ReLU()),
            ]
        )
    )
    return names(net=net, x=torch.rand(4, 2))


# Any failure.


@case(
    params=(784 * 20 + 20) + (20 * 10 + 10),
    layers=("Sequential!", "  0 Flatten", "  1 Linear!"),
    input=(1, 20),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="1 (Linear)",
    why="weight is (20, 784): the last axis must be 784, it is 20",
    never_ran=("2",),
)
def a_linear_layer_of_another_width():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.Linear(20, 10))
    return names(net=net, x=torch.rand(1, 20))


@case(
    params=8 * 3 * 9 + 8,
    layers=("Sequential!", "  0 Conv2d!"),
    input=(1, 1, 8, 8),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="0 (Conv2d)",
    why="the channel axis must be 3, it is 1",
)
def a_convolution_of_other_channels():
    return names(net=nn.Sequential(nn.Conv2d(3, 8, 3)), x=torch.rand(1, 1, 8, 8))


@case(
    params=8 * 3 * 9 + 8,
    layers=("Sequential!", "  0 Conv2d!"),
    input=(1, 8, 8, 3),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="0 (Conv2d)",
    why=".movedim(-1, 1)",
)
def pictures_with_the_channels_last():
    return names(net=nn.Sequential(nn.Conv2d(3, 8, 3)), x=torch.rand(1, 8, 8, 3))


@case(
    params=10 * 4,
    layers=("Sequential!", "  0 Embedding!"),
    input=(1, 2),
    output=None,
    error=IndexError,
    blamed="0 (Embedding)",
    why="got ids 1 … 10, it has rows 0 … 9",
    summary_error=False,
)
def an_id_out_of_range():
    return names(net=nn.Sequential(nn.Embedding(10, 4)), x=torch.tensor([[1, 10]]))


@case(
    params=2 * 3 + 3,
    layers=("Sequential!", "  0 Linear!"),
    input=(4, 2),
    output=None,
    flops=2 * 4 * 2 * 3,
    error=RuntimeError,
    blamed="0 (Linear)",
    why="got float64, its parameters are float32",
    summary_error=False,
)
def an_input_of_another_dtype():
    return names(net=nn.Sequential(nn.Linear(2, 3)), x=torch.rand(4, 2).double())


@case(
    params=8 * 3 * 9 + 8,
    layers=("Sequential!", "  0 Conv2d!"),
    input=(1, 3, 8, 8),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="0 (Conv2d)",
    why="got uint8, its parameters are float32",
)
def pictures_of_bytes():
    x = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    return names(net=nn.Sequential(nn.Conv2d(3, 8, 3)), x=x)


@case(
    params=3 + 3,
    layers=("Sequential!", "  0 BatchNorm1d!"),
    input=(1, 3),
    output=None,
    flops=None,
    error=ValueError,
    blamed="0 (BatchNorm1d)",
    why="in train mode it needs more than one value a channel",
)
def a_batch_norm_with_one_value():
    return names(net=nn.Sequential(nn.BatchNorm1d(3)), x=torch.rand(1, 3))


@case(
    params=4 * (8 * 8 + 8),
    expression="net(x, x, x, attn_mask=mask)",
    layers=("MultiheadAttention!",),
    never_ran=("out_proj",),
    input=((2, 5, 8), (2, 5, 8), (2, 5, 8), {"attn_mask": (4, 5)}),
    output=None,
    flops=None,
    error=RuntimeError,
    blamed="MultiheadAttention",
)
def an_attention_mask_of_another_shape():
    return _attention() | names(mask=torch.zeros(4, 5))


@case(
    params=2 * 3 + 3,
    layers=("Sequential!", "  0 Linear!"),
    expression="net([x, y])",
    input=(((4, 2), (4,)),),
    output=None,
    flops=None,
    error=TypeError,
    blamed="0 (Linear)",
)
def a_list_where_a_tensor_belongs():
    return names(net=nn.Sequential(nn.Linear(2, 3)), x=torch.rand(4, 2), y=torch.zeros(4))


class PickyError(Exception):
    """Wants two arguments."""

    def __init__(self, code, place):
        super().__init__(f"{code} at {place}")
        self.code = code


class SlottedError(Exception):
    """Has slots."""

    __slots__ = ("code",)


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Takes no attributes."""

    code: int


class OwnInterrupt(BaseException):
    """Is no Exception."""


ERRORS = {
    "picky": lambda: PickyError(3, "home"),
    "slotted": lambda: SlottedError("slots"),
    "of_a_key": lambda: KeyError("key"),
    "of_unicode": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    "frozen": lambda: FrozenError(3),
    "group": lambda: ExceptionGroup("many", [ValueError("a"), KeyError("b")]),
    "keyboard_interrupt": KeyboardInterrupt,
    "stop_iteration": lambda: StopIteration(3),
    "generator_exit": GeneratorExit,
    "base_exception": lambda: OwnInterrupt("stop"),
    "recursion": lambda: RecursionError("too deep"),
    "memory": lambda: MemoryError("no memory"),
    "assertion": AssertionError,
    "empty": lambda: Exception(),
}


def _raising(name, error):
    def make():
        def fail(net, x):
            raise ERRORS[name]()

        net = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), fail=Net(fail), rest=nn.ReLU()))
        return names(net=net, x=torch.rand(4, 2))

    make.__name__ = f"an_error_{name}"
    return case(
        params=2 * 3 + 3,
        layers=("Sequential!", "  fc Linear", "  fail Net!"),
        input=(4, 2),
        output=None,
        flops=None,
        error=error,
        blamed="fail (Net)",
        never_ran=("rest",),
    )(make)


for _name, _error in ERRORS.items():
    _raising(_name, type(_error()))


@case(
    params=(2 * 3 + 3) + (5 * 3 + 3),
    layers=("Net", "  first Linear!", "  second Linear"),
    input=(4, 5),
    output=(4, 3),
    flops=2 * 4 * 5 * 3,
    said=("FAILED, caught",),
    backward=True,
)
def an_error_that_the_forward_catches():
    def run(net, x):
        try:
            return net.first(x)
        except RuntimeError:
            return net.second(x)

    return names(net=Net(run, first=nn.Linear(2, 3), second=nn.Linear(5, 3)), x=torch.rand(4, 5))


@case(
    params=2 * 3 + 3,
    layers=("Net!", "  fc Linear!"),
    input=(4, 5),
    output=None,
    flops=None,
    error=LookupError,
    blamed="Net",
)
def an_error_that_the_forward_replaces():
    def run(net, x):
        try:
            return net.fc(x)
        except RuntimeError as error:
            raise LookupError("of my own") from error

    return names(net=Net(run, fc=nn.Linear(2, 3)), x=torch.rand(4, 5))


@case(
    params=2 * 3 + 3,
    layers=("Sequential!", "  0 Linear!"),
    input=(4, 2),
    output=None,
    error=ZeroDivisionError,
    blamed="0 (Linear)",
    summary_error=False,
    summary_said=("fails on meta tensors",),
    flops=2 * 4 * 2 * 3,
)
def an_error_in_a_hook():
    net = nn.Sequential(nn.Linear(2, 3))
    net[0].register_forward_hook(lambda module, args, out: 1 / 0)
    return names(net=net, x=torch.rand(4, 2))


@case(
    params=2 * 3 + 3,
    layers=("Linear",),
    expression="net(x).no_such_method()",
    input=(4, 2),
    output=(4, 3),
    error=AttributeError,
    summary="net(x)",
    summary_error=False,
    flops=2 * 4 * 2 * 3,
)
def an_error_after_the_network():
    return names(net=nn.Linear(2, 3), x=torch.rand(4, 2))


# Any tensor.


VALUES = (1.0, 2.0, 3.0, 6.0)
SPREAD = {"min": 1.0, "max": 6.0, "mean": 3.0, "std": sqrt((4 + 1 + 0 + 9) / 3), "zeros": 0.0}
FULL = SPREAD | {"nan": 0, "inf": 0}
BLANK = dict.fromkeys(("min", "max", "mean", "std", "zeros", "nan", "inf"))


def _tensor(name, make_tensor, shape, stats, **truth):
    def make():
        return names(net=nn.Identity(), x=make_tensor())

    make.__name__ = name
    case(layers=("Identity",), input=shape, output=shape, stats={"": stats}, **truth)(make)


for _dtype in (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.complex64,
    torch.complex128,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
):
    _text = str(_dtype).removeprefix("torch.")
    _tensor(
        f"a_tensor_of_{_text}",
        lambda dtype=_dtype: torch.tensor(VALUES).to(dtype),
        (4,),
        FULL | {"dtype": _text, "device": "cpu"},
    )

_tensor(
    "a_tensor_of_bool",
    lambda: torch.tensor([True, False, False, False]),
    (4,),
    {"min": 0.0, "max": 1.0, "mean": 0.25, "std": 0.5, "zeros": 0.75, "dtype": "bool"},
)
_tensor(
    "a_complex_tensor_by_absolute_value",
    lambda: torch.tensor([3 + 4j, -5j]),
    (2,),
    {"min": 5.0, "max": 5.0, "mean": 5.0, "std": 0.0, "zeros": 0.0},
)
_tensor(
    "a_quantized_tensor",
    lambda: torch.quantize_per_tensor(torch.tensor(VALUES), 0.5, 0, torch.qint8),
    (4,),
    FULL | {"dtype": "qint8"},
    summary="net(x.int_repr())",
)
_tensor(
    "a_sparse_tensor",
    lambda: torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse(),
    (2, 2),
    {"min": 0.0, "max": 2.0, "mean": 0.5, "std": 1.0, "zeros": 0.75, "nan": 0},
)
_tensor(
    "a_compressed_sparse_tensor",
    lambda: torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse_csr(),
    (2, 2),
    {"min": 0.0, "max": 2.0, "mean": 0.5, "std": 1.0, "zeros": 0.75, "nan": 0},
)
_tensor("a_meta_tensor", lambda: torch.empty(3, 2, device="meta"), (3, 2), BLANK)
_tensor(
    "a_tensor_without_elements",
    lambda: torch.empty(0, 3),
    (0, 3),
    {"min": None, "max": None, "mean": None, "std": None, "zeros": None, "nan": 0, "inf": 0},
)
_tensor(
    "a_tensor_of_no_dimension",
    lambda: torch.tensor(2.5),
    (),
    {"min": 2.5, "max": 2.5, "mean": 2.5, "std": None, "zeros": 0.0},
)
_tensor(
    "an_expanded_tensor",
    lambda: torch.tensor([[0.0], [2.0]]).expand(2, 1000),
    (2, 1000),
    {"mean": 1.0, "std": sqrt(2000 / 1999), "zeros": 0.5},
)
_tensor(
    "a_tensor_that_is_not_contiguous",
    lambda: torch.tensor([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [6.0, 9.0]])[:, 0],
    (4,),
    FULL,
)
_tensor(
    "a_tensor_with_nan_and_inf",
    lambda: torch.tensor([*VALUES, nan, inf, -inf, nan]),
    (8,),
    SPREAD | {"nan": 2, "inf": 2},
)
_tensor(
    "a_tensor_far_from_zero",
    lambda: torch.tensor([10_000.0, 10_001.0, 9_999.0]),
    (3,),
    {"mean": 10_000.0, "std": 1.0},
)
_tensor(
    "a_tensor_at_the_limit_of_its_dtype",
    lambda: torch.tensor([3e38, -3e38]),
    (2,),
    {"mean": 0.0, "std": sqrt(2) * float(torch.tensor(3e38)), "inf": 0},
)
_tensor(
    "a_tensor_of_denormals",
    lambda: torch.tensor([0.0, 2.0**-149, 2.0**-148, 2.0**-149]),
    (4,),
    {"min": 0.0, "max": 2.0**-148, "mean": 2.0**-149, "zeros": 0.25},
)


class Tagged(torch.Tensor):
    """A subclass that stays one through every function."""


_tensor(
    "a_tensor_of_a_subclass",
    lambda: torch.tensor(VALUES).as_subclass(Tagged),
    (4,),
    FULL,
)


@case(
    layers=("Net",),
    input=({"a": (3,)},),
    expression="net({'a': x})",
    output={"ids": (3,), "scores": (2,)},
    stats={"": {"dtype": "float32", "mean": 0.5}},
)
def statistics_are_of_the_first_floating_tensor():
    net = Net(lambda net, d: {"ids": d["a"].argsort(), "scores": torch.full((2,), 0.5)})
    return names(net=net, x=torch.rand(3))


@case(
    layers=("Identity",),
    input=(2, None),
    output=(2, None),
    refused="no nested tensor can be on the device meta); type %nntrace",
    stats={"": {"mean": 3.0, "std": sqrt((4 + 1 + 0 + 1 + 4) / 4), "nan": 0}},
)
def a_nested_tensor():
    x = torch.nested.nested_tensor([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0])])
    return names(net=nn.Identity(), x=x)


# What makes NaN and Inf.


def _producer(name, function, x, **stats):
    def make():
        act = Net(lambda net, x: function(x))
        return names(net=nn.Sequential(nn.Identity(), act, nn.Identity()), x=torch.tensor(x))

    make.__name__ = name
    case(
        layers=("Sequential", "  0 Identity", "  1 Net", "  2 Identity"),
        input=(len(x),),
        output=(len(x),),
        nonfinite="1",
        said=("made here", "inherited"),
        stats={"1": stats, "2": stats},
    )(make)


_producer("a_log_of_negative_values", torch.log, [-2.0, 1.0], nan=1, inf=0, mean=0.0)
_producer("a_root_of_negative_values", torch.sqrt, [-2.0, 4.0], nan=1, inf=0, mean=2.0)
_producer("a_division_by_zero", lambda x: 1 / x, [0.0, 4.0], nan=0, inf=1, mean=0.25)
_producer("zero_by_zero", lambda x: x / 0, [0.0, 4.0], nan=1, inf=1, mean=None)
_producer("an_overflow_of_exp", torch.exp, [100.0, 0.0], nan=0, inf=1, mean=1.0)
_producer(
    "an_overflow_of_half_precision", lambda x: x.half(), [1e6, 1.0], nan=0, inf=1, dtype="float16"
)


@case(
    layers=("Sequential", "  0 Net", "  1 Softmax"),
    input=(2, 2),
    output=(2, 2),
    nonfinite="0",
    stats={"0": {"inf": 2, "nan": 0}, "1": {"nan": 2}},
)
def a_softmax_of_a_row_that_a_layer_masks():
    def mask(net, x):
        return x.masked_fill(torch.tensor([[True, True], [False, False]]), -inf)

    return names(net=nn.Sequential(Net(mask), nn.Softmax(-1)), x=torch.rand(2, 2))


@case(
    layers=("Softmax",),
    input=(2, 2),
    output=(2, 2),
    nonfinite="",
    stats={"": {"nan": 2, "mean": 0.5}},
)
def a_softmax_of_a_masked_row():
    return names(net=nn.Softmax(-1), x=torch.tensor([[-inf, -inf], [1.0, 1.0]]))


@case(
    params=2 * 3 + 3,
    layers=("Linear",),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    nonfinite=None,
    stats={"": {"nan": 4 * 3}},
)
def an_input_that_was_nan_before():
    return names(net=nn.Linear(2, 3), x=torch.full((4, 2), nan))


@case(
    params=2 * 3 + 3,
    layers=("Sequential", "  0 Linear", "  1 ReLU"),
    input=(4, 2),
    output=(4, 3),
    flops=2 * 4 * 2 * 3,
    nonfinite="0",
    stats={"0": {"nan": 4}},
)
def a_parameter_that_was_nan_before():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight[1, 0] = nan
    return names(net=net, x=torch.rand(4, 2))
