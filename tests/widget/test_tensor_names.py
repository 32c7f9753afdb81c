from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.tensor_names import input_names, output_names

Pair = namedtuple("Pair", "mean spread")


@dataclass
class Answer:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class Returns(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x, **more):
        return self.made(x)


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda x: x, ["output"]),
        (lambda x: (x,), ["output"]),
        (lambda x: (x, x + 1), ["output 0", "output 1"]),
        (lambda x: (x, None, [x + 1, x + 2]), ["output 0", "output 2.0", "output 2.1"]),
        (lambda x: Pair(x, x + 1), ["mean", "spread"]),
        (lambda x: Answer(x, x.sum()), ["logits", "loss"]),
        (lambda x: Answer(x), ["logits"]),
        (lambda x: [{"boxes": x, "scores": x + 1}], ["boxes", "scores"]),
        (lambda x: [{"boxes": x}, {"boxes": x + 1}], ["output 0.boxes", "output 1.boxes"]),
        (lambda x: torch.max(x, 0), ["values", "indices"]),
    ],
)
def test_outputs_are_called_as_the_network_calls_them(made, names):
    log = nnmagic.trace(Returns(made), torch.rand(3)).log

    assert output_names(log, 0) == names


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (nn.LSTM(3, 4), ["output", "h_n", "c_n"]),
        (nn.GRU(3, 4), ["output", "h_n"]),
        (nn.Linear(3, 4), ["output"]),
    ],
)
def test_known_tuples_have_the_names_of_torch_s_documentation(net, names):
    log = nnmagic.trace(net, torch.rand(2, 3)).log

    assert output_names(log, 0) == names


def test_packed_sequences_keep_the_names_of_their_parts():
    packed = nn.utils.rnn.pack_sequence([torch.rand(3, 4), torch.rand(2, 4)])

    log = nnmagic.trace(nn.LSTM(4, 5), packed).log

    assert output_names(log, 0) == ["output.data", "output.batch_sizes", "h_n", "c_n"]


def test_inputs_are_called_by_their_argument_where_that_was_typed():
    net, x = Returns(lambda x: x), torch.rand(3)
    with nnmagic.tracing(net) as trace:
        net(x, mask=x > 0.5)
        net(x)
        net(x=x)
    log = trace.log

    assert [input_names(log, call) for call in range(3)] == [["x", "mask"], ["input"], ["x"]]


class Attending(nn.Module):
    def forward(self, query, mask=None, memory=None, *others, scale=1.0):
        return query


class Numbered(nn.Module):
    def forward(*everything, **more):
        return everything[1]


class Unsigned(nn.Module):
    def forward(self, x, y):
        return x

    forward.__signature__ = "none that inspect could read"


X = torch.rand(2, 3, 8)


@pytest.mark.parametrize(
    ("net", "args", "kwargs", "names"),
    [
        (Attending(), (X, X + 1), {}, ["query", "mask"]),
        (Attending(), (X, None, X + 1), {}, ["query", "memory"]),
        (Attending(), (X, None, [X + 1, X + 2]), {}, ["query", "memory.0", "memory.1"]),
        (Attending(), (X,), {"memory": X + 1, "scale": 2.0}, ["query", "memory"]),
        (Attending(), (X, X, X, X), {}, ["query", "mask", "memory", "input"]),
        (Attending(), (X, X, X, X, X), {}, ["query", "mask", "memory", "input 3", "input 4"]),
        (Attending(), (X, 3), {}, ["input"]),
        (Numbered(), (X, X + 1), {}, ["input 0", "input 1"]),
        (
            Numbered(),
            (X, None, [X + 1, X + 2]),
            {"mask": X + 3},
            ["input 0", "input 2.0", "input 2.1", "mask"],
        ),
        (Unsigned(), (X, X + 1), {}, ["input 0", "input 1"]),
        (nn.MultiheadAttention(8, 2), (X, X, X), {}, ["query", "key", "value"]),
        (nn.MSELoss(), (X, X + 1), {}, ["input", "target"]),
        (nn.Bilinear(8, 8, 2), (X, X), {}, ["input1", "input2"]),
        (nn.LSTM(8, 8), (X, (X[:1], X[:1])), {}, ["input", "h_0", "c_0"]),
        (nn.GRU(8, 8), (X, X[:1]), {}, ["input", "h_0"]),
        (nn.LSTMCell(8, 8), (X[0], (X[0], X[1])), {}, ["input", "hidden", "cell"]),
    ],
)
def test_inputs_are_called_as_the_forward_calls_them(net, args, kwargs, names, tmp_path):
    trace = nnmagic.trace(net, *args, **kwargs)
    trace.save(tmp_path / "trace.safetensors")

    assert input_names(trace.log, 0) == names
    assert input_names(nnmagic.load(tmp_path / "trace.safetensors").log, 0) == names


def test_the_names_are_noted_once_a_layer_and_structure():
    net = Returns(lambda x: Pair(x, x + 1))
    with nnmagic.tracing(net) as trace:
        for size in (2, 2, 2, 3):
            net(torch.rand(size))

    assert len(trace.log.output_names) == 2
