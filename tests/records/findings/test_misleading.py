"""What raises nothing but misleads is flagged, and what is usual is not."""

import pytest
import torch
import torchvision
from torch import nn

import nnmagic
from nnmagic.display.sheet import sheet_of
from nnmagic.display.table import State
from nnmagic.records.record import View
from nnmagic.records.trace_table import TraceTable


def table_of(trace):
    return TraceTable(trace.log, View(), scores=False)


def found(trace):
    """Return the findings by layer, which all displays show."""
    findings = table_of(trace).findings
    content = sheet_of(trace.table()).content
    assert all(content["state"][call] & State.FLAGGED for call in findings.flags)
    return {trace.call(call).layer: ", ".join(words) for call, words in findings.flags.items()}


def notes(trace):
    findings = table_of(trace).findings
    assert set(findings.notes) <= set(trace.drawn(text=False).notes)
    content = sheet_of(trace.table()).content
    assert set(findings.notes) <= {each["text"] for each in content["findings"]}
    assert not set(findings.notes) & set(content["notes"])  # a page says them above the table
    return findings.notes


PIXELS = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8).float() % 256


@pytest.mark.parametrize(
    ("net", "layer"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "0"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, 2)), "1"),
    ],
)
def test_pictures_that_nobody_scaled_are_flagged_at_the_first_layer(net, layer):
    trace = nnmagic.trace(net, PIXELS)

    assert found(trace) == {layer: "got values up to 255: scale pictures to 0 … 1"}
    assert notes(trace)[0].endswith("scale pictures to 0 … 1, type x / 255")
    assert found(nnmagic.trace(net, PIXELS / 255)) == {}


def resized(mode):
    return nn.functional.interpolate(PIXELS, size=(13, 11), mode=mode)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("net", "layer"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "0"),
        (nn.Sequential(nn.Flatten(), nn.Linear(429, 4)), "1"),
        (nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(2)), "0"),
    ],
)
def test_pictures_that_were_resized_and_not_scaled_are_flagged(net, layer, mode):
    trace = nnmagic.trace(net, resized(mode))

    assert list(found(trace)) == [layer]
    (finding,) = trace.findings
    assert (finding.rule, finding.layer) == ("pictures that were not scaled", layer)
    assert finding.number > finding.bound == 128
    assert "type x / 255" in finding.text
    assert nnmagic.trace(net, resized(mode) / 255).findings == ()
    assert nnmagic.trace(net, (resized(mode) - 128) / 60).findings == ()


@pytest.mark.parametrize("times", [1, 2])
def test_pictures_that_were_scaled_twice_are_flagged(times):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4))
    pictures = torch.randint(256, (2, 3, 12, 12)) / 255**times

    findings = nnmagic.trace(net, pictures).findings

    expected = ("pictures that were scaled twice", "1", 1 / 255)
    assert [(each.rule, each.layer, each.bound) for each in findings] == [expected] * (times > 1)
    assert all("leave out one x / 255" in each.text for each in findings)


def test_pictures_with_a_hole_of_nan_are_looked_at():
    pictures = torch.randint(256, (2, 3, 12, 12)).float()
    pictures[0, 0, 0, 0] = torch.nan

    trace = nnmagic.trace(nn.Conv2d(3, 4, 3), pictures)

    assert [each.rule for each in trace.findings] == ["pictures that were not scaled"]


NO_PICTURES = {
    "a small field": (nn.Conv2d(3, 4, 3), 0.003 * torch.rand(2, 3, 12, 12) - 0.001),
    "a small field above 0": (nn.Conv2d(3, 4, 3), 0.003 * torch.rand(2, 3, 12, 12)),
    "small numbers of a table": (nn.Linear(4, 2), 0.003 * torch.rand(8, 4)),
    "black": (nn.Conv2d(1, 4, 3), torch.zeros(2, 1, 12, 12)),
    "a table": (nn.Linear(4, 2), 200 * torch.rand(8, 4) + 20),
    "a sequence": (nn.LSTM(4, 2, batch_first=True), 200 * torch.rand(8, 5, 4)),
    "a signal": (nn.Conv1d(2, 4, 3), 200 * torch.rand(8, 2, 50)),
    "many channels": (nn.Conv2d(16, 4, 3), 200 * torch.rand(2, 16, 12, 12)),
    "degrees": (nn.Conv2d(3, 4, 3), 360 * torch.rand(2, 3, 12, 12)),
    "temperatures": (nn.Conv2d(1, 4, 3), 100 * torch.rand(2, 1, 12, 12)),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_not_to_be_scaled(name):
    net, x = NO_PICTURES[name]

    assert nnmagic.trace(net, x).findings == ()


def test_values_up_to_255_behind_a_first_layer_are_not():
    normed = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)).train()
    embedded = nn.Sequential(nn.Embedding(256, 4), nn.Linear(4, 2))
    embedded[0].weight.data = torch.arange(1024.0).reshape(256, 4) % 256

    assert found(nnmagic.trace(normed, PIXELS)) == {}
    assert found(nnmagic.trace(embedded, torch.arange(8))) == {}


class Scale(nn.Module):
    def __init__(self, factor, shift=0.0):
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x):
        return x * self.factor + self.shift


def test_values_near_the_limit_of_float16_are_flagged():
    x = torch.linspace(-1, 1, 9).half()

    near = nnmagic.trace(nn.Sequential(Scale(40_000), Scale(1e-4)), x)

    assert found(near) == {"0": "up to 40,000, float16 overflows at 65,504"}
    assert found(nnmagic.trace(nn.Sequential(Scale(30_000), nn.ReLU()), x)) == {}
    assert found(nnmagic.trace(nn.Sequential(Scale(40_000)), x.float())) == {}


def test_a_spread_below_the_steps_of_the_dtype_is_flagged():
    x = torch.zeros(1000).bfloat16()
    x[::100] = 4.0

    lost = nnmagic.trace(Scale(1, 1020), x)
    kept = nnmagic.trace(Scale(64, 1022), torch.linspace(0, 1, 1000).bfloat16())

    assert found(lost)[""].startswith("spread of ")
    assert found(lost)[""].endswith("but bfloat16 has steps of 4 there")
    assert found(kept) == {}


class Dead(nn.Module):
    """A network whose first layer forgets the input: its bias is out of reach."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)
        nn.init.constant_(self.first.bias, -100)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


def test_an_output_that_is_constant_over_the_batch_is_told_with_the_first_layer():
    trace = nnmagic.trace(Dead(), torch.rand(8, 4))

    text = "identical for all 8 items of the batch"
    assert found(trace) == {"": text, "act": text}
    assert notes(trace) == [
        f"the output of Dead is {text}, though the inputs differ: from act (ReLU) on"
    ]


def test_a_constant_output_is_told_of_a_large_batch_too():
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
    nn.init.constant_(net[0].bias, -1000)

    trace = nnmagic.trace(net, torch.rand(64, 784))

    assert list(found(trace)) == ["", "1"]


def test_a_constant_output_is_not_told_where_the_inputs_are_alike():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())

    assert found(nnmagic.trace(net, torch.ones(8, 4))) == {}
    assert found(nnmagic.trace(net, torch.rand(1, 4))) == {}


def test_one_item_that_differs_is_enough():
    net, x = Dead(), torch.rand(8, 4)
    x[5] = 1000
    nn.init.constant_(net.first.weight, 1.0)

    assert found(nnmagic.trace(net, x)) == {}


def lstm():
    return nn.LSTM(3, 4, batch_first=True), torch.rand(4, 6, 3)


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.rand(4, 5, 8)


def words():
    net = nn.Sequential(nn.Embedding(300, 8), nn.LayerNorm(8), nn.Flatten(), nn.Linear(40, 3))
    return net, torch.randint(0, 256, (4, 5))


def model(name, size):
    return getattr(torchvision.models, name)(num_classes=10), torch.rand(2, 3, size, size)


USUAL = [
    lambda: (nnmagic.NeuralNetwork(), torch.rand(4, 28, 28)),
    lstm,
    encoder,
    words,
    lambda: model("resnet18", 64),
    lambda: model("mobilenet_v3_small", 64),
    lambda: model("squeezenet1_0", 64),
    lambda: model("shufflenet_v2_x0_5", 64),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", USUAL)
@pytest.mark.parametrize("train", [True, False])
def test_usual_networks_raise_no_alarm(make, dtype, train):
    torch.manual_seed(0)
    net, x = make()
    net = net.to(dtype).train(train)
    x = x.to(dtype) if x.is_floating_point() else x

    with torch.no_grad():
        trace = nnmagic.trace(net, x)

    assert found(trace) == {}
    assert notes(trace) == []


def test_targets_and_losses_raise_no_alarm():
    loss = nn.CrossEntropyLoss(reduction="none")

    trace = nnmagic.trace(loss, torch.rand(16, 3), torch.randint(0, 3, (16,)))

    assert found(trace) == {}
