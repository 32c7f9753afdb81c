"""Maps of usual sizes, which are worked out from the first item of the batch alone."""

import numpy as np
import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.widget import NetworkWidget


class Inside(nn.Module):
    """Hands a layer tensors of its own, which are drawn no larger than any other."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *args, **kwargs):
        own = {
            id(each): each.clone() for each in (*args, *kwargs.values()) if torch.is_tensor(each)
        }
        args = [own.get(id(each), each) for each in args]
        return self.layer(*args, **{name: own.get(id(each), each) for name, each in kwargs.items()})


@pytest.fixture
def trace_of():
    """Traces a layer inside a network, which stays alive."""
    networks = []

    def trace_of(layer, *args, **kwargs):
        networks.append(Inside(layer))
        return nnmagic.trace(networks[-1], *args, **kwargs)

    return trace_of


@pytest.fixture
def panel_of(page):
    def panel_of(trace, key="layer"):
        page.set(page.show(NetworkWidget(trace)), selected=key)
        message, buffers = page.told("panel")[-1]
        return message["panel"], buffers

    return panel_of


def assert_drawn(panel, buffers, weights, within=1e-5):
    """See to it that a panel draws these weights, those of each second query and key."""
    ((figure,),) = panel["figures"]
    picture = figure["picture"]
    drawn = np.frombuffer(buffers[picture["buffer"]], "<f4").reshape(picture["shape"])
    heads, step, _ = picture["steps"]
    assert heads == 1
    np.testing.assert_allclose(drawn, weights.detach()[:, ::step, ::step].numpy(), atol=within)
    return figure["caption"]


X = torch.randn(3, 197, 128, generator=torch.manual_seed(0))
KEYS = torch.randn(3, 150, 128)
CAUSAL = torch.ones(197, 197).triu(1).bool()
OF_EACH_HEAD = torch.randn(3 * 4, 197, 197)
PADDING = torch.zeros(3, 197).bool()
PADDING[0, 150:] = PADDING[1, 20:] = True

CALLS = {
    "one picture": (X[:1], X[:1], {}, 1),
    "a batch": (X, X, {}, 3),
    "no batch": (X[0], X[0], {}, 1),
    "keys of another": (X, KEYS, {}, 3),
    "a mask": (X, X, {"attn_mask": CAUSAL, "is_causal": True}, 3),
    "a mask for each head": (X, X, {"attn_mask": OF_EACH_HEAD}, 3),
    "padding": (X, X, {"key_padding_mask": PADDING}, 3),
    "both": (X, X, {"attn_mask": CAUSAL, "key_padding_mask": PADDING}, 3),
}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_the_map_is_the_weights_that_the_layer_gives(panel_of, trace_of, name, batch_first):
    query, key, options, items = CALLS[name]
    if not batch_first and query.ndim == 3:
        query, key = (each.transpose(0, 1).contiguous() for each in (query, key))
        key = query if name != "keys of another" else key
    elif key is not KEYS:
        key = query
    layer = nn.MultiheadAttention(128, 4, batch_first=batch_first).eval()
    layer.in_proj_weight.data *= 4  # far from even shares

    with torch.no_grad():
        trace = trace_of(layer, query, key, key, need_weights=False, **options)

    weights = layer(query, key, key, average_attn_weights=False, **options)[1]
    caption = assert_drawn(*panel_of(trace), weights if query.ndim == 2 else weights[0])
    assert ("item 1 of 3" in caption) == (items == 3)


def test_the_map_of_a_layer_as_large_as_a_vits_is_the_weights_that_it_gives(panel_of, trace_of):
    layer, x = nn.MultiheadAttention(768, 12, batch_first=True).eval(), torch.randn(2, 197, 768)

    trace = trace_of(layer, x, x, x, None, False, CAUSAL)

    weights = layer(x, x, x, attn_mask=CAUSAL, average_attn_weights=False)[1]
    assert_drawn(*panel_of(trace), weights[0])


OF_ATTENTION = {"src_mask": "attn_mask", "src_key_padding_mask": "key_padding_mask"}


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"src_mask": CAUSAL}, {"src_key_padding_mask": PADDING}])
def test_the_map_of_a_fused_layer_is_the_weights_inside(
    panel_of, trace_of, norm_first, batch_first, options
):
    layer = nn.TransformerEncoderLayer(128, 4, 64, norm_first=norm_first, batch_first=batch_first)
    x = X if batch_first else X.transpose(0, 1).contiguous()

    with torch.no_grad():
        trace = trace_of(layer.eval(), x, **options)

    source = layer.norm1(x) if norm_first else x
    masks = {OF_ATTENTION[name]: mask for name, mask in options.items()}
    weights = layer.self_attn(source, source, source, average_attn_weights=False, **masks)[1]
    key = "layer" if batch_first else "layer.self_attn"  # which is not fused otherwise
    assert_drawn(*panel_of(trace, key), weights[0])


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-5), (torch.bfloat16, 1e-3)])
def test_a_layer_of_any_precision_has_its_map(panel_of, trace_of, dtype, within):
    layer, x = nn.MultiheadAttention(128, 4, batch_first=True).to(dtype), X.to(dtype)

    trace = trace_of(layer, x, x, x)

    weights = layer.double()(*[x.double()] * 3, average_attn_weights=False)[1]
    layer.to(dtype)
    assert_drawn(*panel_of(trace), weights[0].float(), within)


class Casting(nn.Module):
    """Hands a layer what autocast has cast."""

    def __init__(self):
        super().__init__()
        self.before, self.layer = nn.Linear(128, 128), nn.MultiheadAttention(128, 4)

    def forward(self, x):
        x = self.before(x)
        return self.layer(x, x, x, average_attn_weights=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("positions", [5, 197])
def test_a_layer_under_autocast_has_its_map(panel_of, dtype, positions):
    net, x = Casting().eval(), X[:, :positions].transpose(0, 1).contiguous()

    with torch.autocast("cpu", dtype), torch.no_grad():
        trace = nnmagic.trace(net, x)
        with nnmagic.tracing(ops=True) as with_ops:
            _, weights = net(x)

    for each in (trace, with_ops):
        assert_drawn(*panel_of(each), weights[0].float(), within=1e-2)


def test_what_rounds_in_another_way_is_no_other_output(panel_of, trace_of):
    layer = nn.MultiheadAttention(128, 4, batch_first=True).bfloat16()
    x, options = X.bfloat16(), {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}

    with torch.no_grad():
        trace = trace_of(layer, x, x, x, **options)

    again = layer(x[:1], x[:1], x[:1], attn_mask=CAUSAL)[0]
    assert not torch.allclose(again, layer(x, x, x, **options)[0][:1], rtol=1e-4, atol=1e-5)
    assert panel_of(trace)[0]["figures"]


def test_a_layer_runs_again_with_or_without_weights_as_it_ran(panel_of, trace_of):
    layer = nn.MultiheadAttention(128, 4).bfloat16()
    x = (
        X[:1].transpose(0, 1).bfloat16() * 100
    )  # so sharp that another rounding gives another output

    with torch.no_grad():
        traces = [trace_of(layer.eval(), x, x, x, need_weights=need) for need in (True, False)]

    assert [len(panel_of(trace)[0]["figures"]) for trace in traces] == [1, 1]


def test_an_item_of_padding_alone_has_an_empty_map(panel_of, trace_of):
    layer, padding = nn.MultiheadAttention(128, 4, batch_first=True), PADDING.clone()
    padding[0] = True

    trace = trace_of(layer, X, X, X, key_padding_mask=padding)

    assert torch.isnan(layer(X, X, X, key_padding_mask=padding)[0][0]).all()
    assert_drawn(*panel_of(trace), torch.zeros(4, 197, 197))


def test_a_layer_that_gives_another_output_now_has_no_map(panel_of, trace_of):
    layer = nn.MultiheadAttention(128, 4, batch_first=True)
    trace = trace_of(layer, X, X, X)

    layer.in_proj_weight.data[5] += 1
    refused = panel_of(trace)[0]["notes"][-1]

    assert "now the layer gives another output than in the run" in refused
    layer.in_proj_weight.data[5] -= 1
    assert panel_of(trace)[0]["figures"]


def test_a_layer_in_training_has_a_map_without_dropout_alone(panel_of, trace_of):
    plain, dropping = nn.MultiheadAttention(128, 4), nn.MultiheadAttention(128, 4, dropout=0.5)
    traces = [trace_of(layer, X, X, X) for layer in (plain, dropping)]

    has_map, has_none = (panel_of(trace)[0] for trace in traces)

    assert has_map["figures"]
    assert has_none["notes"][-1].startswith(
        "no attention maps: the run was in train mode, and its dropout of 0.5 is another in each"
    )


@pytest.mark.parametrize("lengths", [[150, 150, 150], [150, 20, 197], [7, 3, 5]])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_that_nests_what_is_padded_has_the_maps_of_its_layers(
    panel_of, trace_of, lengths
):
    layer = nn.TransformerEncoderLayer(128, 4, 64, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1).eval()
    size = max(lengths)
    padding = torch.arange(size) >= torch.tensor(lengths)[:, None]

    with torch.no_grad():
        trace = trace_of(encoder, X[:, :size], src_key_padding_mask=padding)

    call = trace["layer.layers.0"].call
    assert trace.log.is_leaf(call)
    item = X[:1, : lengths[0]]
    weights = encoder.layers[0].self_attn(item, item, item, average_attn_weights=False)[1]
    caption = assert_drawn(*panel_of(trace, "layer.layers.0"), weights[0])
    assert "item 1 of 3" in caption


def test_of_a_nested_tensor_whose_item_was_not_kept_that_is_said(panel_of, trace_of):
    layer = nn.TransformerEncoderLayer(128, 4, 64, batch_first=True).eval()
    nested = torch.nested.nested_tensor([X[0, :9], X[1, :5]])
    with torch.no_grad():
        trace = trace_of(layer, nested)
    trace.log.first_items.clear()

    note = panel_of(trace)[0]["notes"][-1]

    assert note.startswith("no attention maps: of (2, None, 128), a nested tensor, no item was")
