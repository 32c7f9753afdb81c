from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.loading import Loader
from nnmagic.widget.weight_pictures import weight_pictures
from nnmagic.widget.widget import NetworkWidget


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(300, 100))


def weight_of(page, params, *, asks):
    """The tensor in the panel of the weight, after all its values were asked for."""
    widget = page.show(NetworkWidget(params))
    page.set(widget, selected="0.weight")
    if asks:
        page.ask(widget, ask="all", tensor="output", index=0)
    message, buffers = page.told("panel")[-1]
    (tensor,) = message["panel"]["outputs"]
    return tensor, buffers


def test_a_parameter_that_is_as_it_was_is_loaded(page, net):
    params = nnmagic.params(net)
    assert weight_of(page, params, asks=False)[0]["loadable"]

    tensor, buffers = weight_of(page, params, asks=True)

    sent = torch.frombuffer(bytearray(buffers[tensor["picture"]["buffer"]]), dtype=torch.float32)
    assert torch.equal(sent.view(100, 300), net[0].weight.detach())
    assert tensor["picture"]["caption"] == "all 30,000 values"
    assert not tensor["loadable"]


@pytest.mark.parametrize(
    ("layer", "drawn", "said"),
    [
        (
            nn.Linear(512, 1000),
            lambda w: w[::8, ::4],
            "every 8th × 4th value, 16,000 of 512,000 values",
        ),
        (
            nn.Conv2d(32, 96, 3),
            lambda w: w[:64, :16],
            "64 of 96 along out, 16 of 32 along in, 9,216 of 27,648 values",
        ),
        (
            nn.Conv2d(256, 300, 1),
            lambda w: w[::3, ::2, 0, 0],
            "every 3rd × 2nd value, 12,800 of 76,800 values",
        ),
    ],
)
def test_a_large_parameter_is_drawn_as_in_the_panel_of_its_layer(page, layer, drawn, said):
    tensor, buffers = weight_of(page, nnmagic.params(nn.Sequential(layer)), asks=False)

    sent = np.frombuffer(buffers[tensor["picture"]["buffer"]], "<f4")
    expected = drawn(layer.weight.detach()).numpy()
    (of_layer,) = weight_pictures(layer)
    assert np.array_equal(sent.reshape(tensor["picture"]["shape"]), expected)
    assert np.array_equal(of_layer.picture.sample.real_array(), expected)
    assert tensor["picture"]["caption"] == said
    assert tensor["loadable"] == layer.weight.numel()


def test_nan_between_the_drawn_rows_of_a_parameter_is_seen(page):
    layer = nn.Linear(512, 1000)
    with torch.no_grad():
        layer.weight[13, 6] = torch.nan

    tensor, buffers = weight_of(page, nnmagic.params(nn.Sequential(layer)), asks=False)

    sent = np.frombuffer(buffers[tensor["picture"]["buffer"]], "<f4").reshape(125, 128)
    assert np.argwhere(np.isnan(sent)).tolist() == [[1, 1]]


def test_a_small_parameter_is_loaded_without_being_asked_for(page):
    small = nn.Sequential(nn.Linear(128, 128))

    tensor, _ = weight_of(page, nnmagic.params(small), asks=False)

    assert tensor["picture"]["caption"] == "all 16,384 values"
    assert tensor["histogram"]["of"] == "all 16,384 values"
    assert not tensor["loadable"]


@pytest.mark.parametrize("asks", [False, True])
def test_a_parameter_that_changed_is_said_to_have(page, net, asks):
    params = nnmagic.params(net)
    with torch.no_grad():
        net[0].weight[50, 7] += 1

    tensor, _ = weight_of(page, params, asks=asks)

    assert tensor["reason"] == "0.weight has changed since; run %nnparams again to see it"
    assert not tensor["loadable"]
    assert tensor["picture"]["shape"] == [2, 300]


def test_nothing_is_offered_where_nothing_can_be_loaded(page):
    whole = nnmagic.params(nn.Sequential(nn.Linear(3, 3)))
    assert not weight_of(page, whole, asks=False)[0]["loadable"]
    params = nnmagic.params(nn.Sequential(nn.Linear(300, 100)))

    tensor, _ = weight_of(page, params, asks=False)

    assert not tensor["loadable"]
    assert "0.weight is gone" in tensor["reason"]


def test_of_a_very_large_parameter_it_is_said_how_much_is_loaded(page):
    net = nn.Sequential(nn.Linear(1_000_000, 5, bias=False))
    params = nnmagic.params(net)
    assert weight_of(page, params, asks=False)[0]["loadable"] == 4_000_000

    tensor, buffers = weight_of(page, params, asks=True)

    assert len(buffers[tensor["picture"]["buffer"]]) == 4 * 4_000_000
    assert "4,000,000 of 5,000,000 values" in tensor["picture"]["caption"]
    assert tensor["histogram"]["of"] == "1,024 of 5,000,000 values, evenly spaced"
    assert not tensor["loadable"]


def test_a_parameter_whose_rows_are_too_large_says_so(page):
    net = nn.Sequential(nn.Linear(4_200_000, 3, bias=False))

    tensor, _ = weight_of(page, nnmagic.params(net), asks=False)

    assert not tensor["loadable"]
    assert "4,194,304 values that are loaded at most" in tensor["reason"]


RAGGED = {"alike": [7, 7], "one axis": [7, 4], "of three": [3, 9, 9]}


@pytest.mark.parametrize("lengths", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("features", [8, 400])
def test_a_nested_tensor_has_a_panel_without_a_button(page, lengths, features):
    nested = torch.nested.nested_tensor([torch.rand(length, features) for length in lengths])
    net = nn.Sequential(nn.Identity())

    widget = page.show(NetworkWidget(nnmagic.trace(net, nested)))
    page.set(widget, selected="0")

    message, _ = page.told("panel")[-1]
    for card in (*message["panel"]["inputs"], *message["panel"]["outputs"]):
        assert not card["loadable"]
        assert card["picture"] is None
        assert card["reason"] == "a nested tensor is no grid of values that could be drawn"
        assert f"{sum(lengths) * features:,} values" in card["histogram"]["of"]


def test_an_ask_is_answered_before_it_is_carried_out(page, net):
    widget = page.show(NetworkWidget(nnmagic.trace(net, torch.rand(90, 300))))
    page.set(widget, selected="0")
    page.messages.clear()

    page.ask(widget, ask="all", tensor="output", index=0)

    kinds = [data["content"]["tell"] for _, _, data, _ in page.messages]
    assert kinds == ["begun", "panel"]


def test_values_of_a_new_run_are_gone_when_another_row_was_looked_at(page, net):
    trace = nnmagic.trace(net, torch.rand(90, 300))
    loader, row = Loader(trace), SimpleNamespace(call=1)

    loader.load(row, "output", 0, new_run=True)
    is_new = loader.of(row, "output", 0).is_new_run
    loader.forget_new_runs()

    assert is_new
    assert loader.of(row, "output", 0).values is None


def test_loading_is_no_call_that_a_watch_follows(page, net):
    widget, x = page.show(nnmagic.watch(net)), torch.rand(90, 300)
    net(x)
    page.set(widget, selected="0")

    page.ask(widget, ask="all", tensor="output", index=0)

    message, _ = page.told("panel")[-1]
    assert message["panel"]["outputs"][0]["picture"]["caption"] == "all 9,000 values"
    assert "call 1" in widget.sheet.content["heading"]
