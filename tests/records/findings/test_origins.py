"""An Inf that is swallowed is no alarm; what made NaN is told with its cause."""

from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic


class Runs(nn.Module):
    """Runs a function as its forward, with layers that it may use."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args):
        return self.function(self, *args)


def traced(function, *args, ops, **layers):
    torch.manual_seed(0)
    net = Runs(function, **layers)
    with nnmagic.tracing(net, ops=ops) as trace:
        net(*args)
    return trace


def flags(trace):
    """Return what the rows say, by the names of their layers."""
    return {row.name: row.subject.flags for row in trace.table().rows}


CAUSAL = torch.ones(5, 5).triu(1).bool()


def hand_written(net, x):
    scores = (net.q(x) @ net.k(x).transpose(-1, -2)).masked_fill(CAUSAL, -inf)
    return scores.softmax(-1) @ x


def added_mask(net, x):
    mask = torch.full((5, 5), -inf).triu(1)
    return torch.softmax((net.q(x) @ net.k(x).mT + mask).contiguous() / 2, -1) @ x


def by_where(net, x):
    scores = torch.where(CAUSAL, torch.tensor(-inf), net.q(x) @ net.k(x).mT)
    return F.log_softmax(scores, -1).exp() @ x


SWALLOWED = {
    "masked_fill and softmax": hand_written,
    "a mask that is added": added_mask,
    "where and log_softmax": by_where,
    "a softmax layer": lambda net, x: net.sm(net.q(x).masked_fill(x == x.amax(-1, True), -inf)),
    "logsumexp": lambda net, x: net.q(x).masked_fill(x < x.amax(-1, True), -inf).logsumexp(-1),
    "the largest of a padded row": lambda net, x: F.pad(net.q(x), (1, 1), value=-inf).amax(-1),
    "a division that where leaves out": lambda net, x: torch.where(x > 1, 1 / (x * 0), x),
    "exp of -Inf": lambda net, x: torch.exp(torch.log(x * 0)),
    "clamp": lambda net, x: (1 / (x * 0)).clamp(max=5),
}


@pytest.mark.parametrize("ops", [True, False])
@pytest.mark.parametrize("name", SWALLOWED)
def test_an_inf_that_is_swallowed_is_no_alarm(name, ops):
    layers = {"q": nn.Linear(5, 5), "k": nn.Linear(5, 5), "sm": nn.Softmax(-1)}

    trace = traced(SWALLOWED[name], torch.rand(5, 5), ops=ops, **layers)

    assert trace[""].inf == trace[""].nan == 0
    assert trace.first_nonfinite is None
    assert "Inf" not in trace.table().heading
    assert [note for note in trace.table().notes if "Inf" in note] == []
    assert [
        words for words in flags(trace).values() if "made" in words or "inherited" in words
    ] == []


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("ops", [True, False])
def test_a_decoder_with_a_causal_mask_raises_no_alarm(ops, train):
    layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    net, x = nn.TransformerDecoder(layer, 2).train(train), torch.rand(3, 5, 8)

    with nnmagic.tracing(net, ops=ops) as trace:
        net(x, x, tgt_mask=nn.Transformer.generate_square_subsequent_mask(5))

    assert trace.first_nonfinite is None
    assert "Inf" not in trace.table().heading


def test_a_mask_made_outside_the_network_raises_no_alarm():
    net = Runs(lambda net, x, mask: (x @ x.mT + mask).softmax(-1))

    with nnmagic.tracing(ops=True) as trace:
        net(torch.rand(5, 5), torch.full((5, 5), -inf).triu(1))

    assert trace.first_nonfinite is None


def test_a_mask_that_is_swallowed_does_not_hide_what_goes_wrong_after_it():
    trace = traced(lambda net, x: torch.log(hand_written(net, x) - 9), torch.rand(5, 5), ops=True,
                   q=nn.Linear(5, 5), k=nn.Linear(5, 5))  # fmt: skip

    assert trace.first_nonfinite.layer == "log()"
    assert flags(trace)["log()"].startswith("25 NaN, made here: log of values down to")
    assert "made" not in flags(trace)["masked_fill()"]


def test_the_zero_whose_log_becomes_nan_is_the_origin():
    trace = traced(lambda net, x: (x * torch.log(x)).sum(), torch.tensor([0.0, 0.5]), ops=True)

    assert trace.first_nonfinite.layer == "log()"
    assert "made here: log of zero" in flags(trace)["log()"]
    assert "inherited" in flags(trace)["mul()"]
    assert "made inside" in flags(trace)["Runs"]


FULLY_MASKED = torch.ones(5, 5).triu(0).bool()
ALL_OUT = {
    "a layer": lambda net, x: net.sm((x @ x.mT).masked_fill(FULLY_MASKED, -inf)) @ x,
    "after a dropout": lambda net, x: net.sm(net.drop((x @ x.mT).masked_fill(FULLY_MASKED, -inf))),
    "of logarithms": lambda net, x: net.lsm(x.masked_fill(FULLY_MASKED, -inf)),
}


@pytest.mark.parametrize("ops", [True, False])
@pytest.mark.parametrize("name", ALL_OUT)
def test_a_softmax_of_a_row_that_is_all_masked_made_the_nan(name, ops):
    layers = {"sm": nn.Softmax(-1), "lsm": nn.LogSoftmax(-1), "drop": nn.Dropout(0.0)}

    trace = traced(ALL_OUT[name], torch.rand(5, 5), ops=ops, **layers)

    layer = trace.first_nonfinite.layer
    assert layer == ("lsm" if "log" in name else "sm")
    assert flags(trace)[layer].startswith("5 NaN, ")
    assert flags(trace)[layer].endswith("made here: of a row that is all -Inf")
    assert flags(trace)["Runs"].endswith("made inside")
    (note,) = [each for each in trace.table().notes if each.startswith("first NaN")]
    assert note.startswith(f"first NaN: {layer} (")
    assert "NaN or Inf arose" in trace.table().heading


def test_a_softmax_function_is_named_too():
    masked = lambda net, x: F.softmax(x.masked_fill(FULLY_MASKED, -inf), -1)  # noqa: E731

    trace = traced(masked, torch.rand(5, 5), ops=True)

    assert trace.first_nonfinite.layer == "softmax()"
    assert "of a row that is all -Inf" in flags(trace)["softmax()"]


def padding(*items):
    return torch.tensor([[each in items] * 5 for each in range(3)])


MASKS = {
    "an item": ({"key_padding_mask": padding(1)}, "every key of item 1"),
    "two items": ({"key_padding_mask": padding(0, 2)}, "every key of item 0, 2"),
    "an item, as floats": (
        {"key_padding_mask": torch.zeros(3, 5).masked_fill(padding(2), -inf)},
        "every key of item 2",
    ),
    "a query": ({"attn_mask": torch.ones(5, 5).triu(0).bool()}, "every key of query 0"),
    "a query, as floats": (
        {"attn_mask": torch.full((5, 5), -inf).triu(0)},
        "every key of query 0",
    ),
    "a query of an item, by two masks": (
        {
            "attn_mask": torch.ones(5, 5).triu(1).bool(),
            "key_padding_mask": torch.tensor([[False] * 5, [True] + [False] * 4, [False] * 5]),
        },
        "every key of query 0 of item 1",
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_an_attention_without_a_key_is_told_whose(name):
    masks, says = MASKS[name]
    net, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.rand(3, 5, 8)

    trace = nnmagic.trace(net, x, x, x, **masks)

    assert trace.first_nonfinite.layer == ""
    assert f"made here: the mask masks {says}" in flags(trace)["MultiheadAttention"]


def test_an_attention_inside_a_network_is_the_origin():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    net = Runs(lambda net, x, out: net.norm(net.attention(x, x, x, out)[0]),
               attention=attention, norm=nn.LayerNorm(8))  # fmt: skip

    trace = nnmagic.trace(net, torch.rand(3, 5, 8), padding(1))

    assert trace.first_nonfinite.layer == "attention"
    assert "the mask masks every key of item 1" in flags(trace)["attention"]
    assert "made inside" in flags(trace)["Runs"]
    assert "inherited" in flags(trace)["norm"]


def test_nan_of_an_inf_that_came_in_is_made_where_it_arises():
    net = nn.Sequential(nn.Identity(), Runs(lambda net, x: x - x), nn.Identity())

    trace = nnmagic.trace(net, torch.tensor([1.0, inf]))

    assert trace.first_nonfinite.layer == "1"
    assert "made here" in flags(trace)["1"]
    assert "inherited" in flags(trace)["2"]
    assert "the input of Sequential held 1 Inf already" in trace.table().notes


def test_an_inf_that_comes_in_and_is_swallowed_is_no_alarm():
    net = nn.Sequential(nn.Identity(), Runs(lambda net, x: x.clamp(max=3)))

    trace = nnmagic.trace(net, torch.tensor([1.0, inf]))

    assert trace.first_nonfinite is None
    assert [note for note in trace.table().notes if "Inf" in note] == []


def test_a_mask_in_a_network_that_fails_is_not_told_as_the_cause():
    with pytest.raises(RuntimeError), nnmagic.tracing(ops=True) as trace:
        Runs(lambda net, x: hand_written(net, x).view(7), q=nn.Linear(5, 5), k=nn.Linear(5, 5))(
            torch.rand(5, 5)
        )

    assert trace.first_nonfinite is None
