import numpy as np
import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.widget.live_network import LiveNetwork, details_of
from nnmagic.widget.loading import Loading
from nnmagic.widget.panel import LayerDetails, PanelMaker
from nnmagic.widget.row_panels import RowPanels


def panel_of(trace, name, **options):
    maker = PanelMaker()
    panel = maker.call_panel(trace, trace[name].call, LayerDetails(), **options)
    return panel, maker.buffers


def drawn(panel, buffers, side="outputs", place=0):
    picture = panel[side][place]["picture"]
    values = np.frombuffer(buffers[picture["buffer"]], "<f4").reshape(picture["shape"])
    return picture, values


def test_a_small_output_is_drawn_whole():
    net, x = nn.Sequential(nn.Linear(4, 6)), torch.rand(3, 4)

    panel, buffers = panel_of(nnmagic.trace(net, x), "0")

    picture, values = drawn(panel, buffers)
    assert torch.equal(torch.from_numpy(values.copy()), net(x).detach())
    assert picture["kind"] == "matrix"
    assert picture["axes"] == ["batch", "feature"]
    assert picture["caption"] == "all 18 values"
    assert not panel["outputs"][0]["loadable"]


def test_a_convolution_is_drawn_by_channels_at_their_true_places():
    net, x = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()), torch.rand(2, 3, 64, 64)

    loading = Loading(can_load=True)
    panel, buffers = panel_of(nnmagic.trace(net, x), "0", loading=lambda *where: loading)

    picture, values = drawn(panel, buffers)
    rows, columns = picture["steps"][2:]
    expected = net[0](x).detach()[:1, :16, ::rows, ::columns]
    assert torch.equal(torch.from_numpy(values.copy()), expected)
    assert picture["kind"] == "channels"
    assert picture["caption"] == (
        "item 1 of 2, 16 of 32 channels, every 2nd × 2nd value, 16,384 of 262,144 values"
    )
    assert panel["outputs"][0]["loadable"] == 262_144


def test_a_picture_says_how_many_values_of_the_whole_tensor_are_odd():
    net, x = nn.Sequential(nn.LeakyReLU(), nn.ReLU()), torch.rand(1, 40, 112, 112)
    x[0, 3, 5, 7:10], x[0, 39, 5, 7], x[0, 39, 6] = torch.nan, torch.inf, -torch.inf

    panel, buffers = panel_of(nnmagic.trace(net, x), "0")

    picture, values = drawn(panel, buffers)
    assert values.shape[1] == 16  # of 40 channels: the last one is not drawn
    assert 1 <= np.isnan(values).sum() < 3
    assert not np.isinf(values).any()
    assert picture["odd"] == [3, 1, 112]


def test_attention_weights_are_drawn_by_heads():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, average_attn_weights=False)[0]

    trace = nnmagic.trace(Net(), torch.rand(1, 5, 8))

    panel, buffers = panel_of(trace, "attention")

    picture, values = drawn(panel, buffers, place=1)
    assert picture["kind"] == "heads"
    assert picture["axes"] == ["batch", "head", "query", "key"]
    assert values.shape == (1, 2, 5, 5)
    assert values.sum(axis=-1) == pytest.approx(np.ones((1, 2, 5)), abs=1e-6)
    assert panel["outputs"][0]["picture"]["axes"] == ["batch", "position", "feature"]
    assert [tensor["title"] for tensor in panel["inputs"]] == ["query, key, value"]


@pytest.mark.parametrize(
    ("layer", "given", "said"),
    [
        (nn.Embedding(300, 7), torch.tensor([3]), "every 3rd id, 700 of 2,100 values"),
        (nn.Linear(784, 100), torch.rand(1, 784), "every 7th value along in, "),
        (nn.Linear(784, 300), torch.rand(1, 784), "every 3rd × 7th value, "),
    ],
)
def test_a_sparse_picture_says_along_which_axis(layer, given, said):
    trace = nnmagic.trace(layer, given)
    (row,) = trace.table().rows

    panel, _ = RowPanels(trace, live=LiveNetwork(trace)).panel(row.subject)

    assert panel["parameters"][0]["picture"]["caption"].startswith(said)


def test_scores_are_bars_with_the_names_of_the_classes():
    trace = nnmagic.trace(nn.Sequential(nn.Linear(4, 3)), torch.rand(1, 4))

    panel, _ = panel_of(trace, "0", scores=True, classes=("a", "b", "c"))

    picture = panel["outputs"][0]["picture"]
    assert picture["kind"] == "bars"
    assert picture["names"] == ["a", "b", "c"]
    assert panel["inputs"][0]["picture"]["kind"] == "written"


def test_only_what_is_read_as_scores_is_drawn_as_bars():
    x = torch.rand(4, 8)
    one, two = nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    with nnmagic.tracing() as trace:
        one(x), two(x)
    kinds = {}
    for row in trace.table().rows:
        panel, _ = RowPanels(trace).panel(row.subject)
        kinds[row.name] = panel["outputs"][0]["picture"]["kind"]
    assert kinds["Sequential"] == "bars"
    assert kinds["Sequential#2"] == "matrix"
    assert (
        trace.table().beside["scores"]["how"] == "Sequential: read as class scores, after softmax"
    )


def test_a_score_alone_is_no_bar():
    trace = nnmagic.trace(nn.Sequential(nn.Linear(4, 1)), torch.rand(20, 4))

    panel, _ = panel_of(trace, "0", scores=True)

    assert panel["outputs"][0]["picture"]["kind"] == "matrix"


def test_a_histogram_says_over_how_many_values_it_is():
    x = torch.randn(3, 50, 200)
    trace = nnmagic.trace(nn.Sequential(nn.Tanh(), nn.ReLU()), x)

    panel, _ = panel_of(trace, "0")

    given, returned = (panel[side][0]["histogram"] for side in ("inputs", "outputs"))
    assert given["of"] == "all 30,000 values"
    assert sum(given["counts"]) == 30_000
    assert returned["of"] == "968 of 30,000 values, evenly spaced"
    assert sum(returned["counts"]) == 968


def test_a_failed_call_tells_why():
    net = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(RuntimeError), nnmagic.tracing(net) as trace:
        net(torch.rand(1, 4))

    panel, _ = panel_of(trace, "0")

    assert panel["outputs"] == []
    assert panel["shapes"] == "(1, 4) → nothing"
    assert "the last axis must be 3, it is 4" in panel["wrong"][0]


def test_a_parameter_is_shown_with_the_rows_that_are_kept():
    params = nnmagic.params(nn.Linear(4, 3))

    panel = PanelMaker().parameter_panel(params, params.rows[0])

    assert panel["title"] == "weight"
    assert panel["outputs"][0]["picture"]["full"] == [3, 4]


@pytest.mark.parametrize(
    ("params", "axes"),
    [
        (nnmagic.params(nn.ConvTranspose2d(4, 6, 3)), ["in", "out", "kh", "kw"]),
        (
            nnmagic.params({"weight": torch.rand(4, 6, 3, 3)}),
            ["axis 0", "axis 1", "axis 2", "axis 3"],
        ),
    ],
)
def test_a_parameter_s_picture_has_the_axes_of_its_layer_or_numbered_ones(params, axes):
    panel = PanelMaker().parameter_panel(params, params["weight"])

    picture = panel["outputs"][0]["picture"]
    assert (picture["axes"], picture["kind"]) == (axes, "channels")


def test_a_compared_parameter_tells_how_far_apart_and_where():
    b = torch.zeros(3, 4)
    b[1, 2], b[2, 0] = 2.0, 1.0
    a = b.clone()
    a[2, 0] = 2.0
    comparison = nnmagic.compare({"body.w": a, "n": torch.ones(1)}, {"body.w": b.half(), "n": b})
    rows = {row.name: row.subject for row in comparison.table().rows}
    panels = RowPanels(comparison)

    facts = dict(panels.panel(rows["body.w"])[0]["facts"])

    assert facts == {
        "verdict": "changed",
        "dtype": "float32 against float16",
        "||a - b|| / ||b||": "0.447214",
        "largest |a - b|": "1",
        "at": "(2, 0)",
        "cosine": "0.948683298",
        "values compared": "12",
    }
    assert panels.panel(rows["n"])[0]["shapes"] == "(1,) against (3, 4)"
    assert panels.panel(rows["body"])[0] is None


def test_a_layer_of_a_structure_tells_its_counts():
    summary = nnmagic.summary(nnmagic.default_network())

    panel = PanelMaker().layer_panel(summary.rows[3])

    assert panel["title"] == "linear_relu_stack.0"
    assert panel["shapes"] == "(1, 784) → (1, 512)"
    assert panel["facts"] == [
        ("made with", "in_features=784, out_features=512, bias=True"),
        ("parameters", "401,920, 401,920 trainable"),
        ("memory of parameters", "1.53 MiB"),
        ("FLOPs", "802,816 (401,408 multiply-adds)"),
        ("memory of its output", "2.00 KiB"),
    ]


def test_a_call_that_made_nan_tells_of_what():
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    trace = nnmagic.trace(nn.Sequential(Log()), torch.tensor([-2.0, 1.0]))
    subject = next(row.subject for row in trace.table().rows if row.name == "0")

    panel, _ = RowPanels(trace).panel(subject)

    assert panel["wrong"] == [
        "1 NaN, made here from -2.000 … 1.000",
        "in its own code: --ops shows where",
    ]


def test_a_gradient_stands_beside_what_it_is_of():
    net, x = nn.Sequential(nn.Conv2d(1, 4, 3)), torch.rand(1, 1, 34, 34)
    with nnmagic.tracing(net, grad=True) as trace:
        output = net(x)
        output.retain_grad()
        (output**2).sum().backward()

    panel, buffers = panel_of(trace, "0")

    _, gradient = panel["outputs"]
    picture, values = drawn(panel, buffers, place=1)
    assert gradient["title"] == "gradient of output"
    assert gradient["stats"]["norm"] == pytest.approx(output.grad.norm().item(), rel=1e-5)
    assert gradient["histogram"]["counts"]
    assert picture["kind"] == "channels"
    rows, columns = picture["steps"][2:]
    shown = output.grad[:1, :16, ::rows, ::columns]
    assert torch.equal(torch.from_numpy(values.copy()), shown)
    details = details_of(net[0])
    weight = PanelMaker().call_panel(trace, trace["0"].call, details)["parameters"][0]
    assert weight["gradient_norm"] == pytest.approx(net[0].weight.grad.norm().item(), rel=1e-5)


def test_one_value_is_a_number_and_ids_are_exact():
    class Net(nn.Module):
        def forward(self, ids):
            return {"loss": ids.sum() / 3, "ids": ids}

    panel, buffers = panel_of(
        nnmagic.trace(nn.Sequential(Net()), torch.tensor([16_777_217, 3])), "0"
    )

    loss, ids = (tensor["picture"] for tensor in panel["outputs"])
    assert [loss["kind"], ids["kind"]] == ["number", "written"]
    assert np.frombuffer(buffers[loss["buffer"]], "<f8") == pytest.approx(16_777_220 / 3)
    assert np.frombuffer(buffers[ids["buffer"]], "<f8").tolist() == [16_777_217, 3]


@pytest.mark.parametrize(
    ("x", "wide"),
    [
        (torch.linspace(-3e200, 3e200, 100, dtype=torch.float64), True),
        (torch.linspace(1e-200, 3e-200, 100, dtype=torch.float64), True),
        (1e8 + torch.linspace(0, 1, 100, dtype=torch.float64), True),
        (torch.linspace(-3, 3, 100, dtype=torch.float64), False),
        (torch.linspace(-3e38, 3e38, 100), False),
        (torch.arange(5000), False),
    ],
)
def test_a_picture_has_doubles_where_float32_would_show_other_values(x, wide):
    panel, buffers = panel_of(nnmagic.trace(nn.Sequential(nn.Identity()), x.view(10, -1)), "0")

    picture = panel["outputs"][0]["picture"]
    values = np.frombuffer(buffers[picture["buffer"]], "<f8" if wide else "<f4")
    assert picture["wide"] == wide
    np.testing.assert_allclose(values, x, rtol=1e-6 if not wide else 0)


def test_pictures_of_floats_and_doubles_share_a_scale():
    maker = PanelMaker()
    figures = [
        maker.figure(values, title="", caption="", kind="matrix", axes=("row", "column"))
        for values in (np.eye(4, dtype=np.float32), np.eye(4) * 2e200)
    ]

    maker.share_scale(figures)

    assert [each["picture"]["high"] for each in figures] == [2e200, 2e200]


@pytest.mark.parametrize(
    ("x", "texts"),
    [
        (torch.tensor([[2**62 + 1, -5]]), ["4611686018427387905", "-5"]),
        (torch.tensor(-(2**63)), ["-9223372036854775808"]),
        (torch.full((3,), 2**53 + 1), ["9007199254740993"]),
        (torch.tensor(True), ["True"]),
        (torch.tensor([2**53, 5]), []),
        (torch.tensor([1e300, 5.0]), []),
    ],
)
def test_bools_and_integers_too_large_for_a_double_come_as_texts(x, texts):
    panel, _ = panel_of(nnmagic.trace(nn.Sequential(nn.Identity()), x), "0")

    assert panel["outputs"][0]["picture"]["names"] == texts


def test_a_figure_is_a_grid_of_values_with_axes_and_words_of_its_own():
    maker, values = PanelMaker(), np.arange(-4, 8).reshape(3, 2, 2)

    figure = maker.figure(
        values, title="attention", caption="worked out", kind="heads", axes=("head", "query", "key")
    )

    picture = figure["picture"]
    assert (figure["title"], figure["caption"], figure["stats"]) == ("attention", "worked out", {})
    assert picture["axes"] == ["head", "query", "key"]
    assert picture["full"] == picture["shape"] == [3, 2, 2]
    assert np.frombuffer(maker.buffers[picture["buffer"]], "<f4").tolist() == [*range(-4, 8)]
    assert not figure["loadable"]


def test_a_panel_has_no_figures_unless_one_is_added():
    panel, _ = panel_of(nnmagic.trace(nn.Sequential(nn.Linear(4, 6)), torch.rand(3, 4)), "0")

    assert panel["figures"] == []
