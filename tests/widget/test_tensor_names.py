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

    assert [input_names(log, call) for call in range(3)] == [["input", "mask"], ["input"], ["x"]]


def test_the_names_are_noted_once_a_layer_and_structure():
    net = Returns(lambda x: Pair(x, x + 1))
    with nnmagic.tracing(net) as trace:
        for size in (2, 2, 2, 3):
            net(torch.rand(size))

    assert len(trace.log.output_names) == 2
