"""Any module: how layers are registered, shared, nested and run."""

from collections import OrderedDict

import torch
from torch import nn

from corpus.case import Net, case, names


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
    flops=2 * 2 * 2 * 3,
    backward=True,
    runs=True,
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
