import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.records.kept_slices import slices_of, with_nonfinite
from nnmagic.records.tensor import Picture, Sample
from nnmagic.widget.comparison_panel import subtracted
from nnmagic.widget.row_panels import RowPanels
from nnmagic.widget.widget import NetworkWidget


def panel_of(comparison, name):
    table = comparison.table()
    subject = next(each.subject for each in table.rows if each.name == name)
    return RowPanels(comparison).panel(subject)


def values(card, buffers):
    picture = card["picture"]
    form = "<f8" if picture["kind"] in ("number", "constant", "written") else "<f4"
    return np.frombuffer(buffers[picture["buffer"]], form).reshape(picture["shape"])


def conv_pair():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()).eval()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight[2] *= -8
    return net, other, torch.rand(2, 3, 64, 64)


def test_the_difference_is_that_of_the_two_pictures_on_a_scale_centred_on_zero():
    net, other, x = conv_pair()
    panel, buffers = panel_of(nnmagic.trace(net, x).compare(nnmagic.trace(other, x)), "0")

    ((a, b, difference),) = panel["figures"]
    steps = a["picture"]["steps"]
    assert b["picture"]["steps"] == difference["picture"]["steps"] == steps
    places = (slice(1), slice(16), slice(None, None, steps[2]), slice(None, None, steps[3]))
    with torch.no_grad():
        assert np.array_equal(values(a, buffers), net[0](x)[places].numpy())
        expected = (net[0](x) - other[0](x))[places].numpy()
    assert values(difference, buffers) == pytest.approx(expected, abs=1e-6)
    assert [a["picture"][k] for k in ("low", "high")] == [b["picture"][k] for k in ("low", "high")]
    scale = difference["picture"]
    assert scale["low"] == -scale["high"]
    assert scale["diverging"]
    assert scale["high"] >= np.quantile(np.abs(expected[expected != 0]), 0.99)
    assert scale["caption"] == a["picture"]["caption"]
    assert "16 of 32 channels" in scale["caption"]
    assert difference["shape"] == "(2, 32, 64, 64)"


def test_a_difference_in_very_few_values_is_drawn_on_a_scale_of_their_own():
    class Spot(nn.Module):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def forward(self, x):
            y = x.clone()
            y[0, 7] += self.by
            return y

    x = torch.rand(4, 200)
    panel, _ = panel_of(nnmagic.trace(Spot(0), x).compare(nnmagic.trace(Spot(1e-3), x)), "Spot")

    ((_, _, difference),) = panel["figures"]
    assert difference["picture"]["high"] == pytest.approx(1e-3, rel=1e-3)


def test_the_numbers_are_said_in_words_and_red_only_where_they_part():
    net, other, x = conv_pair()
    comparison = nnmagic.trace(net, x).compare(nnmagic.trace(other, x))

    parts, _ = panel_of(comparison, "0")
    inherits, _ = panel_of(comparison, "1")
    assert parts["wrong"]
    assert not parts["notes"]
    assert not inherits["wrong"]
    assert inherits["notes"][0].startswith("inherited: ")
    facts = dict(parts["facts"])
    assert facts["input error"] == "0"
    assert facts["matched"].startswith("by its name")
    assert {"output error", "tolerance", "largest |a - b|", "cosine", "a", "b"} <= {*facts}
    assert "own error, on the same input" not in facts


def test_its_pictures_open_where_the_two_lie_furthest_apart():
    net, _, x = conv_pair()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].bias[11] += 1
        other[0].bias[5] += 0.5
    panel, _ = panel_of(nnmagic.trace(net, x).compare(nnmagic.trace(other, x)), "0")

    starts = [card["picture"]["start"] for card in panel["figures"][0]]
    assert starts[0] == starts[1] == starts[2]
    assert starts[0][:2] == [0, 11]


def test_what_the_two_got_is_drawn_where_it_differs():
    net, other, x = conv_pair()
    comparison = nnmagic.trace(net, x).compare(nnmagic.trace(other, x))

    titles = {
        name: [card["title"] for row in panel_of(comparison, name)[0]["figures"] for card in row]
        for name in ("0", "1")
    }
    assert titles["0"] == ["a: output", "b: output", "a - b"]
    assert titles["1"] == [*titles["0"], "a: input", "b: input", "a - b"]


def test_gradients_stand_below_what_they_are_of():
    net, other = nn.Linear(5, 40), nn.Linear(5, 40)
    with nnmagic.tracing(net, grad=True) as one:
        net(torch.ones(4, 5)).square().sum().backward()
    with nnmagic.tracing(other, grad=True) as two:
        other(torch.ones(4, 5)).square().sum().backward()
    panel, buffers = panel_of(one.compare(two), "Linear")

    outputs, gradients = panel["figures"]
    assert [card["title"] for card in gradients] == [
        "a: gradient of output",
        "b: gradient of output",
        "a - b",
    ]
    assert values(gradients[2], buffers) == pytest.approx(2 * values(outputs[2], buffers), abs=1e-5)


def test_complex_numbers_differ_by_an_absolute_value():
    x = torch.randn(4, 40, dtype=torch.complex64)
    turned = nnmagic.trace(nn.Identity(), x).compare(nnmagic.trace(nn.Identity(), 1j * x))
    panel, buffers = panel_of(turned, "Identity")

    a, b, difference = panel["figures"][0]
    assert a["caption"] == b["caption"] == "absolute values"
    assert difference["title"] == "|a - b|"
    assert values(difference, buffers) == pytest.approx((x - 1j * x).abs().numpy(), rel=1e-6)


def test_two_runs_of_one_name_are_told_apart():
    net, other, x = conv_pair()
    panel, _ = panel_of(nnmagic.trace(net, x).compare(nnmagic.trace(other, x)), "0")

    names = dict(panel["facts"])
    assert names["a"].endswith(" (a)")
    assert names["b"].endswith(" (b)")


def test_a_call_of_one_side_shows_that_side_alone():
    x = torch.rand(4, 5)
    net = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
    longer = nn.Sequential(*net, nn.Softmax(1))
    there, buffers = panel_of(nnmagic.trace(net, x).compare(nnmagic.trace(longer, x)), "2")
    here, _ = panel_of(nnmagic.trace(longer, x).compare(nnmagic.trace(net, x)), "2")

    ((card,),) = there["figures"]
    assert card["title"] == "b: output"
    assert np.array_equal(values(card, buffers), longer(x).detach().numpy())
    assert [[each["title"] for each in row] for row in here["figures"]] == [["a: output"]]
    assert there["notes"] == ["only in the other"]
    assert here["notes"] == ["only here"]


def test_equal_outputs_have_a_difference_of_zero():
    net, x = nn.Linear(5, 40), torch.rand(4, 5)
    panel, buffers = panel_of(nnmagic.trace(net, x).compare(nnmagic.trace(net, x)), "Linear")

    ((_, _, difference),) = panel["figures"]
    assert difference["picture"]["kind"] == "constant"
    assert not values(difference, buffers).any()


def test_of_two_batches_the_items_that_both_have_are_drawn():
    net, x = nn.Linear(5, 40), torch.rand(8, 5)
    panel, buffers = panel_of(
        nnmagic.trace(net, x).compare(nnmagic.trace(net, x[:3] * 2)), "Linear"
    )

    (_, _, difference), _ = panel["figures"]
    expected = (net(x[:3]) - net(x[:3] * 2)).detach().numpy()
    assert values(difference, buffers) == pytest.approx(expected, abs=1e-6)
    assert "3 items" in difference["caption"]
    assert difference["picture"]["caption"] == "all 120 values"


def test_other_shapes_have_no_difference():
    x = torch.rand(4, 5)
    comparison = nnmagic.trace(nn.Linear(5, 4), x).compare(nnmagic.trace(nn.Linear(5, 6), x))
    panel, _ = panel_of(comparison, "Linear")

    assert [[each["title"] for each in row] for row in panel["figures"]] == [
        ["a: output", "b: output"]
    ]
    assert panel["shapes"] == "(4, 4) against (4, 6)"


def test_every_output_has_a_row_of_its_own():
    net, x = nn.LSTM(5, 6, batch_first=True), torch.rand(2, 3, 5)
    panel, _ = panel_of(nnmagic.trace(net, x).compare(nnmagic.trace(net, x)), "LSTM")

    assert [[each["title"] for each in row] for row in panel["figures"]] == [
        [f"a: {name}", f"b: {name}", "a - b"] for name in ("output", "h_n", "c_n")
    ]


@pytest.mark.parametrize("sizes", [(64, 32), (200, 90), (1000, 1000)])
def test_grids_of_two_batches_are_compared_where_they_have_the_same_places(sizes):
    whole = np.random.default_rng(0).normal(size=(max(sizes), 512)).astype(np.float32)

    def grid(items, values):
        cuts = slices_of((items, 512), None, 16_384)
        part = values[:items][cuts.picture]
        return Picture(Sample("f", part.shape, part.tobytes()), cuts.steps)

    found = subtracted(grid(sizes[0], whole), grid(sizes[1], whole * 3))

    values = np.frombuffer(found.sample.data).reshape(found.sample.shape)
    rows, columns = found.steps
    expected = -2 * whole[: min(sizes) : rows, ::columns]
    assert values == pytest.approx(expected[: len(values)], rel=1e-5)
    assert values.shape[1] == expected.shape[1]


def test_nan_in_both_is_no_difference_and_in_one_it_is_nan():
    a = np.array([math.nan, math.nan, 1.0, math.inf, math.inf])
    b = np.array([math.nan, 2.0, 3.0, math.inf, 1.0])
    one, two = (Picture(Sample("d", (5,), each.tobytes()), (1,)) for each in (a, b))

    found = np.frombuffer(subtracted(one, two).sample.data)

    assert found == pytest.approx([0.0, math.nan, -2.0, 0.0, math.inf], nan_ok=True)


def test_nan_that_both_have_is_no_difference_where_their_grids_have_other_steps():
    whole = np.ones((12, 12), np.float32)
    whole[7, 3] = math.nan
    pictures = []
    for step in (2, 4):
        seen = with_nonfinite(whole[::step, ::step], whole, (step, step))
        pictures.append(Picture(Sample("f", seen.shape, seen.tobytes()), (step, step)))

    found = subtracted(*pictures)

    assert found.steps == (4, 4)
    assert not found.sample.array().any()


def test_a_widget_shows_a_comparison_and_offers_no_run():
    net, other, x = conv_pair()
    comparison = nnmagic.trace(net, x).compare(nnmagic.trace(other, x))
    widget = NetworkWidget(comparison)
    sent = []
    widget.send = lambda message, buffers=None: sent.append(message)

    widget.selected = "0"

    (message,) = sent
    assert message["panel"]["title"] == "0"
    assert widget.content["run"] is None
    assert "part in" in widget.content["heading"]
    assert not any(each["loadable"] for row in message["panel"]["figures"] for each in row)
    assert repr(widget).startswith("<nnmagic widget: Comparison of")
    widget.close()


def test_a_page_of_its_own_has_the_panels(tmp_path):
    net, other, x = conv_pair()
    nnmagic.trace(net, x).compare(nnmagic.trace(other, x)).to_html(tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "parts here" in page
    assert len(page) < 300_000


class Noise(nn.Module):
    def forward(self, x):
        return torch.randn_like(x)


def test_the_pictures_of_a_page_get_coarser_where_there_are_many(tmp_path):
    net, x = nn.Sequential(*[Noise() for _ in range(40)]), torch.rand(2, 8, 64, 64)
    nnmagic.trace(net, x).compare(nnmagic.trace(net, x)).to_html(tmp_path / "page.html")

    assert (tmp_path / "page.html").stat().st_size < 300_000
