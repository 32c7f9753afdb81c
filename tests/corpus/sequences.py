"""Recurrent layers, attention and transformers."""

import torch
from torch import nn
from torch.nn.utils import rnn

from corpus.case import case, names


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
    flops=3 * 2 * 2 * (4 * 5) * (3 + 5),
    backward=True,
    runs=True,
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


def attention():
    return names(net=nn.MultiheadAttention(8, 2, batch_first=True), x=torch.rand(2, 5, 8))


@case(**ATTENTION, backward=True)
def attention_in_train_mode():
    return attention()


@case(**ATTENTION)
def attention_in_eval_mode():
    found = attention()
    found["net"].eval()
    return found


@case(**ATTENTION, context=torch.no_grad)
def attention_on_the_fused_path():
    found = attention()
    found["net"].eval()
    return found


@case(
    **ATTENTION | {"expression": "net(x, x, x, need_weights=False)", "output": ((2, 5, 8),)},
    backward=True,
)
def attention_without_weights():
    return attention()


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
