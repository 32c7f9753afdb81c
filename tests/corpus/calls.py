"""Who calls a network: an expression of several, a thread, a method of its own."""

import threading

import torch
from torch import nn
from torch.nn import functional as F

from corpus.case import UNKNOWN, Net, case, names


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
