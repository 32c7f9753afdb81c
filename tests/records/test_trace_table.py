import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.lines import width_of
from nnmagic.display.table import State
from nnmagic.display.text import table_text


def test_the_sketch_of_the_default_network_holds_true_numbers():
    net, x = nnmagic.default_network(), nnmagic.default_input()
    with torch.no_grad():
        first = net.linear_relu_stack[0](x.flatten(1))

    trace = nnmagic.trace(net, x)

    found = table_text(trace.drawn(text=True), None).splitlines()

    assert found[0] == "NeuralNetwork · float32 · cpu · 8 calls"
    assert " ".join(found[1].split()) == "layer type shape mean ± std min … max histogram zeros"
    statistics = f"{first.mean():.3f} ± {first.std():.3f}  {first.min():.3f} … {first.max():.3f}"
    assert found[5].startswith(f"    ├─ 0               Linear      (1, 512)  {statistics}")
    assert found[6].endswith(f" {100 * (first <= 0).float().mean():.0f} %")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_text_fits_the_width_of_the_window(width):
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2)
    for record in (
        nnmagic.trace(net.train(), torch.rand(2, 3, 8)),
        nnmagic.summary(net),
        nnmagic.params(net),
    ):
        text = table_text(record.drawn(text=True), width)

        assert all(width_of(line) <= width for line in text.splitlines())
        assert all(line == line.rstrip() for line in text.splitlines())
        assert "\x1b" not in text


def test_nan_is_told_by_who_made_it_and_who_inherited_it():
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    net = nn.Sequential(nn.Identity(), Log(), nn.Linear(2, 2))

    table = nnmagic.trace(net, torch.tensor([[-2.0, 3.0]])).drawn(text=True)

    flags = dict(zip([row.label for row in table.rows], table.cells("flags"), strict=True))
    assert flags == {
        "Sequential": "2 NaN, made inside",
        "0": "",
        "1": "1 NaN, made here from -2.000 … 3.000",
        "2": "2 NaN, inherited",
    }
    assert [bool(row.state & State.DIMMED) for row in table.rows] == [False, False, False, True]
    assert table.notes[0].startswith(
        "first NaN: Sequential.1 (Log), from finite inputs in [-2.000, 3.000], "
        "in its own code: --ops shows where, called at test_"
    )
    assert "NaN or Inf arose" in table.heading


def flagged(trace):
    table = trace.table()
    return [row.label for row in table.rows if row.state & State.FLAGGED]


def test_an_output_of_zeros_only_is_flagged_in_words():
    trace = nnmagic.trace(nn.ReLU(), -torch.ones(3))

    assert "all zeros" in str(trace)
    assert flagged(trace) == ["ReLU"]


def zero(layer):
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (zero(nn.Linear(3, 2, bias=False)), torch.rand(4, 3)),  # as LoRA begins
        (zero(nn.Conv2d(1, 2, 1)), torch.rand(4, 1, 3, 3)),
        (zero(nn.BatchNorm1d(3)), torch.rand(4, 3)),  # as the last of a residual block begins
        (nn.Embedding(3, 2, padding_idx=0), torch.zeros(4, dtype=torch.int64)),
    ],
)
def test_zeros_that_a_layers_own_weights_make_are_no_alarm(layer, x):
    trace = nnmagic.trace(nn.Sequential(nn.Sequential(layer), nn.Identity(), nn.ReLU()), x)

    assert trace["0.0"].zeros == trace["2"].zeros == 1
    assert "all zeros" not in str(trace)
    assert flagged(trace) == []


def test_only_the_layer_that_makes_zeros_of_numbers_is_flagged():
    trace = nnmagic.trace(nn.Sequential(nn.ReLU(), nn.Identity(), nn.Tanh()), -torch.ones(3))

    assert flagged(trace) == ["0"]


def test_the_fused_encoder_path_is_explained():
    net = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()

    with torch.no_grad():
        trace = nnmagic.trace(net, torch.rand(1, 3, 8))

    assert len(trace) == 1
    assert "TransformerEncoderLayer ran as one fused operation" in str(trace)


def hostile():
    net = nn.Sequential()
    for name in (
        "<img src=x onerror=alert(1)>",
        "</script>",
        "line\nbreak",
        "\x1b[31mred",
        "层" * 30,
    ):
        net.add_module(name, nn.ReLU())
    return net


def test_hostile_names_do_no_harm():
    trace = nnmagic.trace(hostile(), torch.ones(2))
    html, text = trace._repr_html_(), str(trace)

    assert "<img" not in html
    assert "</script" not in html
    assert "\x1b" not in html + text
    assert "line\\nbreak" in text


def test_the_html_is_small():
    trace = nnmagic.trace(nnmagic.default_network())
    summary = nnmagic.summary(nnmagic.default_network(), nnmagic.default_input())

    for record, rows in ((trace, 8), (summary, 8)):
        size = len(record._repr_html_().encode())
        assert size < 30_000
        assert size / rows < 600
