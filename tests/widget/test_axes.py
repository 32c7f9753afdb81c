import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.axes import Axes
from nnmagic.widget.live_network import details_of
from nnmagic.widget.pictures import kind_of
from nnmagic.widget.tensor_names import input_names


def axes_of(net, *inputs, layer="0", side="outputs", batch_first=None):
    trace = nnmagic.trace(nn.Sequential(net) if layer == "0" else net, *inputs)
    call = trace[layer].call
    axes = Axes(trace.log, call, batch_first)
    return [" ".join(axes.of(tensor)) for tensor in getattr(trace.log, side)[call]]


@pytest.mark.parametrize(
    ("net", "x", "axes"),
    [
        (nn.Conv2d(3, 4, 3), torch.rand(2, 3, 9, 9), "batch channel row column"),
        (nn.Conv2d(3, 4, 3), torch.rand(3, 9, 9), "channel row column"),
        (nn.Conv1d(3, 4, 3), torch.rand(2, 3, 9), "batch channel position"),
        (nn.Conv3d(3, 4, 3), torch.rand(2, 3, 9, 9, 9), "batch channel depth row column"),
        (nn.BatchNorm1d(4), torch.rand(2, 4), "batch channel"),
        (nn.AdaptiveAvgPool2d(1), torch.rand(2, 3, 9, 9), "batch channel row column"),
        (nn.Linear(4, 5), torch.rand(4), "feature"),
        (nn.Linear(4, 5), torch.rand(2, 4), "batch feature"),
        (nn.Linear(4, 5), torch.rand(2, 3, 4), "axis 0 axis 1 feature"),
        (nn.Linear(4, 5), torch.rand(2, 3, 3, 4), "axis 0 axis 1 axis 2 feature"),
        (nn.Embedding(9, 4), torch.tensor([1, 2]), "axis 0 feature"),
        (nn.InstanceNorm1d(4), torch.rand(4, 9), "channel position"),
        (nn.Dropout1d(), torch.rand(4, 9), "axis 0 axis 1"),
        (nn.Flatten(), torch.rand(2, 3, 4), "batch feature"),
        (nn.Flatten(0, 1), torch.rand(2, 3, 4), "axis 0 axis 1"),
        (nn.PixelShuffle(2), torch.rand(2, 4, 9, 9), "batch channel row column"),
        (nn.PixelUnshuffle(2), torch.rand(3, 8, 8), "channel row column"),
        (nn.PixelUnshuffle(2), torch.rand(5, 2, 3, 8, 8), "axis 0 axis 1 axis 2 axis 3 axis 4"),
        (nn.EmbeddingBag(9, 4), torch.randint(9, (2, 7)), "batch feature"),
        (nn.GRUCell(4, 5), torch.rand(3, 4), "batch feature"),
        (nn.RNNCell(4, 5), torch.rand(4), "feature"),
        (nn.Identity(), torch.rand(5, 5), "axis 0 axis 1"),
        (nn.Identity(), torch.rand(1, 32, 32, 3), "axis 0 axis 1 axis 2 axis 3"),
        (nn.Identity(), torch.rand(5), "index"),
        (nn.Identity(), torch.tensor(5.0), ""),
    ],
)
def test_a_layer_names_the_axes_of_what_it_returns(net, x, axes):
    assert axes_of(net, x) == [axes]


@pytest.mark.parametrize(
    ("batch_first", "output"),
    [(True, "batch position feature"), (False, "position batch feature")],
)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_s_states_are_told_from_its_output(kind, batch_first, output):
    net = kind(4, 6, 2, bidirectional=True, batch_first=batch_first)

    axes = axes_of(net, torch.rand(2, 3, 4))

    assert axes == [output, *["layer × direction batch feature"] * (len(axes) - 1)]


def test_a_square_batch_of_sequences_is_told_by_the_layer_alone():
    assert axes_of(nn.GRU(4, 6), torch.rand(3, 3, 4))[0] == "axis 0 axis 1 feature"
    assert axes_of(nn.GRU(4, 6), torch.rand(3, 3, 4), batch_first=False)[0] == (
        "position batch feature"
    )


def test_an_unbatched_sequence_has_no_batch():
    output, states = axes_of(nn.GRU(4, 6), torch.rand(3, 4))

    assert [output, states] == ["position feature", "layer × direction feature"]


def test_an_activation_keeps_the_axes_of_the_layer_before():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    assert axes_of(net, torch.rand(3, 9, 9), layer="1") == ["channel row column"]
    assert axes_of(net, torch.rand(3, 9, 9), layer="", side="inputs") == ["channel row column"]


def test_heads_of_attention_are_told_whether_averaged_or_not():
    class Net(nn.Module):
        def __init__(self, average):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.average = average

        def forward(self, x):
            return self.attention(x, x, x, average_attn_weights=self.average)

    x = torch.rand(1, 5, 8)
    assert axes_of(Net(average=False), x, layer="attention") == [
        "batch position feature",
        "batch head query key",
    ]
    assert axes_of(Net(average=True), x, layer="attention")[1] == "batch query key"
    assert axes_of(Net(average=False), x[0], layer="attention") == [
        "position feature",
        "head query key",
    ]


class Tokens(nn.Module):
    """Cuts pictures into patches, and works on them in one order of the axes or the other."""

    def __init__(self, batch_first):
        super().__init__()
        self.cut, self.mix, self.batch_first = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5), batch_first

    def forward(self, x):
        patches = self.cut(x).flatten(2)
        return self.mix(patches.permute((0, 2, 1) if self.batch_first else (2, 0, 1)))


@pytest.mark.parametrize(
    ("batch_first", "size", "axes"),
    [
        (True, 16, "batch position feature"),
        (False, 16, "position batch feature"),
        (True, 4, "axis 0 axis 1 feature"),  # one picture of one patch
    ],
)
def test_a_layer_for_the_last_axis_knows_the_batch_by_its_length_alone(batch_first, size, axes):
    x = torch.rand(1 if size == 4 else 2, 3, size, size)

    assert axes_of(Tokens(batch_first), x, layer="mix") == [axes]


def test_rows_that_are_no_batch_are_not_called_so():
    class Regions(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.body(x).flatten(2).mT.reshape(-1, 8))

    assert axes_of(Regions(), torch.rand(2, 3, 4, 4), layer="head") == ["axis 0 feature"]


def test_a_layer_norm_has_the_axes_of_the_attention_beside_it():
    attention = nn.MultiheadAttention(8, 2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.attention, self.cut = nn.LayerNorm(8), attention, nn.Conv1d(8, 8, 1)

        def forward(self, x):
            x = self.norm(x)
            return self.attention(x, x, x)[0], self.cut(x.permute(1, 2, 0))

    assert axes_of(Net(), torch.rand(5, 3, 8), layer="norm") == ["position batch feature"]
    assert axes_of(Net(), torch.rand(3, 3, 8), layer="norm") == ["axis 0 axis 1 feature"]


def test_the_ids_and_the_states_of_a_named_output_are_told_by_its_batch():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.ids, self.mix = nn.Embedding(9, 4), nn.Linear(4, 4)

        def forward(self, ids):
            return {"last_hidden_state": self.mix(self.ids(ids))}

    ids = torch.randint(9, (2, 7))

    assert axes_of(Text(), ids, layer="mix") == ["batch position feature"]
    assert axes_of(Text(), ids, layer="ids", side="inputs") == ["batch position"]
    assert axes_of(nn.Embedding(9, 4), ids, side="inputs") == ["axis 0 axis 1"]
    assert axes_of(nn.Embedding(9, 4), ids[0], side="inputs") == ["index"]


def test_only_what_attends_has_heads():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.softmax, self.dropout = nn.Softmax(-1), nn.Dropout()

        def forward(self, scores):
            return self.dropout(self.softmax(scores))

    maps, heads = torch.rand(4, 3, 16, 16), "batch head query key"

    assert axes_of(nn.Dropout(), maps) == ["axis 0 axis 1 axis 2 axis 3"]
    assert axes_of(nn.Dropout2d(), maps) == ["batch channel row column"]
    assert axes_of(nn.Softmax(1), maps) != [heads]
    assert axes_of(nn.Dropout(), maps) != [heads]
    assert axes_of(Attention(), maps, layer="softmax") == [heads]
    assert axes_of(Attention(), maps, layer="dropout", side="inputs") == [heads]
    assert axes_of(nn.Softmax(-1), torch.rand(4, 3, 16, 20), side="inputs") == [heads]


def test_attention_without_a_layer_knows_its_heads():
    q = torch.rand(2, 4, 12, 8)

    with nnmagic.tracing(ops=True) as trace:
        nn.functional.scaled_dot_product_attention(q, q + 1, q + 2)

    call = trace["scaled_dot_product_attention()"].call
    (index,) = trace.log.outputs[call]
    heads = ("batch", "head", "position", "feature")
    assert [Axes(trace.log, call).of(each) for each in trace.log.inputs[call]] == [heads] * 3
    assert Axes(trace.log, call).of(index) == heads
    assert kind_of(trace.call_at(call).main, heads) == "channels"


TRANSFORMERS = {
    "encoder layer": lambda batch_first: nn.TransformerEncoderLayer(
        8, 2, 16, 0.1, batch_first=batch_first
    ),
    "encoder": lambda batch_first: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first), 1
    ),
    "decoder layer": lambda batch_first: nn.TransformerDecoderLayer(
        8, 2, 16, batch_first=batch_first
    ),
    "transformer": lambda batch_first: nn.Transformer(8, 2, 1, 1, 16, batch_first=batch_first),
}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_transformer_names_what_it_gets_and_returns(kind, is_training, batch_first):
    net = TRANSFORMERS[kind](batch_first).train(is_training)
    inputs = (torch.rand(3, 5, 8),) * (1 if kind.startswith("encoder") else 2)
    with torch.no_grad():
        trace = nnmagic.trace(net, *inputs)

    axes = Axes(trace.log, 0, details_of(net).batch_first)

    expected = ("batch", "position") if batch_first else ("position", "batch")
    for tensor in (*trace.log.inputs[0], *trace.log.outputs[0]):
        assert axes.of(tensor) == (*expected, "feature")


@pytest.mark.parametrize(("leading", "axes"), [((3,), "batch feature"), ((), "feature")])
def test_a_cell_names_what_it_gets_and_its_states(leading, axes):
    cell, states = nn.LSTMCell(4, 5), [torch.rand(*leading, 5) for _ in range(2)]
    trace = nnmagic.trace(cell, torch.rand(*leading, 4), tuple(states))

    named = Axes(trace.log, 0)

    tensors = (*trace.log.inputs[0], *trace.log.outputs[0])
    assert [" ".join(named.of(each)) for each in tensors] == [axes] * 5


def test_the_two_inputs_of_a_bilinear_layer_and_the_ids_of_bags_are_named():
    bilinear = nnmagic.trace(nn.Bilinear(4, 5, 6), torch.rand(7, 4), torch.rand(7, 5))
    bags = nnmagic.trace(nn.EmbeddingBag(9, 4), torch.randint(9, (2, 7)))

    tensors = (*bilinear.log.inputs[0], *bilinear.log.outputs[0])
    assert {Axes(bilinear.log, 0).of(each) for each in tensors} == {("batch", "feature")}
    assert Axes(bags.log, 0).of(bags.log.inputs[0][0]) == ("batch", "position")


QUERY_KEY, BATCH_KEY = ("query", "key"), ("batch", "key")


def axes_by_name(trace, layer=""):
    """The axes of what a layer got, by the name that the panel gives each tensor."""
    call = trace[layer].call
    tensors, axes = trace.log.inputs[call], Axes(trace.log, call)
    names = input_names(trace.log, call)
    return {name: axes.of(each) for name, each in zip(names, tensors, strict=True)}


def test_the_masks_of_an_attention_are_of_queries_and_keys():
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.rand(3, 5, 8)
    keys, padding = torch.rand(3, 7, 8), torch.zeros(3, 7)

    plain = nnmagic.trace(
        layer, x, keys, keys, key_padding_mask=padding, attn_mask=torch.zeros(5, 7)
    )
    by_head = nnmagic.trace(layer, x, keys, keys, attn_mask=torch.zeros(6, 5, 7))
    unbatched = nnmagic.trace(layer, x[0], keys[0], keys[0], key_padding_mask=padding[0])

    assert axes_by_name(plain)["attn_mask"] == QUERY_KEY
    assert axes_by_name(plain)["key_padding_mask"] == BATCH_KEY
    assert axes_by_name(by_head)["attn_mask"] == ("batch × head", *QUERY_KEY)
    assert axes_by_name(unbatched)["key_padding_mask"] == ("key",)


def test_the_masks_of_a_transformer_and_of_all_layers_inside_are_named():
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    masks = {
        "src_mask": torch.zeros(7, 7),
        "tgt_mask": torch.ones(5, 5).triu(1) * -1e9,
        "memory_mask": torch.zeros(5, 7),
    }
    paddings = {f"{name}_key_padding_mask": torch.zeros(3, 7) for name in ("src", "memory")}
    paddings["tgt_key_padding_mask"] = torch.zeros(3, 5)

    trace = nnmagic.trace(net, torch.rand(3, 7, 8), torch.rand(3, 5, 8), **masks, **paddings)

    expected = {**dict.fromkeys(masks, QUERY_KEY), **dict.fromkeys(paddings, BATCH_KEY)}
    sides = [f"{side}{below}" for side in ("encoder", "decoder") for below in ("", ".layers.0")]
    attentions = ["encoder.layers.0.self_attn", "decoder.layers.0.self_attn"]
    layers = ["", *sides, *attentions, "decoder.layers.0.multihead_attn"]
    seen = [
        (name, axes)
        for layer in layers
        for name, axes in axes_by_name(trace, layer).items()
        if name.endswith("mask")
    ]
    assert seen[:6] == [(name, expected[name]) for name, _ in seen[:6]]
    assert {axes for name, axes in seen if "padding" in name} == {BATCH_KEY}
    assert {axes for name, axes in seen if "padding" not in name} == {QUERY_KEY}
    assert len(seen) == 6 + 2 * (2 + 4) + 3 * 2


@pytest.mark.parametrize("rank", [2, 4])
def test_the_mask_of_the_function_is_of_queries_and_keys(rank):
    q, mask = torch.rand(2, 4, 12, 8), torch.zeros((2, 4, 12, 12)[-rank:])

    with nnmagic.tracing(ops=True) as trace:
        nn.functional.scaled_dot_product_attention(q, q, q, mask)

    found = axes_by_name(trace, "scaled_dot_product_attention()")
    assert found["attn_mask"] == ("batch", "head", *QUERY_KEY)[-rank:]
