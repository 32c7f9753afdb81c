import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnmagic
from nnmagic.records.curves.drawn_curves import POINTS, chosen_of
from nnmagic.records.curves.history import Distributions
from nnmagic.widget.curves import heat_map
from nnmagic.widget.packing import pictures_in
from nnmagic.widget.row_panels import RowPanels

ITERATIONS = 12


@pytest.fixture(scope="module")
def trained():
    """A run of a loop that trains, with its losses, gradients and first outputs."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    losses, norms, first = [], [], []
    with nnmagic.tracing(grad=True) as trace:
        for _ in range(ITERATIONS):
            x = torch.randn(16, 4)
            first.append(F.linear(x, net[0].weight, net[0].bias).detach().numpy())
            loss = F.cross_entropy(net(x), torch.arange(16) % 3)
            optimizer.zero_grad()
            loss.backward()
            norms.append(net[0].weight.grad.norm().item())
            losses.append(loss.item())
            optimizer.step()
    return trace, losses, norms, first


def panel_of(trace, name):
    (row,) = [row for row in trace.table().rows if row.name == name]
    return RowPanels(trace).panel(row.subject)


def test_a_panel_has_the_curves_of_its_layer_over_the_iterations(trained):
    trace, losses, norms, first = trained

    root, layer = (panel_of(trace, name)[0]["curves"] for name in ("Sequential", "0"))

    assert [each["title"] for each in root][:2] == ["loss", "mean, and the middle 90 %"]
    assert root[0]["values"] == pytest.approx(losses, rel=1e-3)
    curves = {each["title"]: each for each in layer}
    assert curves["weight.gradient norm"]["values"] == pytest.approx(norms, rel=1e-3)
    assert curves["weight.update ratio"]["mark"] == 1e-3
    output = trace.history().query("layer == '0' and quantity == 'grad_norm'").value
    assert curves["output gradient norm"]["values"] == pytest.approx([*output], rel=1e-3)
    assert "gradient norm" not in curves  # that of parameters, in the tables
    mean = curves["mean, and the middle 90 %"]
    assert mean["iterations"] == list(range(ITERATIONS))
    assert mean["values"] == pytest.approx([each.mean() for each in first], rel=1e-3, abs=1e-6)
    for side, part in (("low", 0.05), ("high", 0.95)):
        ends = [np.quantile(each, part, method="nearest") for each in first]
        assert mean[side] == pytest.approx(ends, rel=1e-3)


def test_a_mean_of_which_no_values_are_kept_has_no_band():
    net = nn.Flatten()
    with nnmagic.tracing(keep="none") as trace:
        for scale in (1.0, 2.0):
            net(torch.full((2, 3), scale))

    (curve,) = panel_of(trace, "Flatten")[0]["curves"]

    assert curve["low"] == curve["high"] == []


def test_a_map_shows_how_the_distribution_moves(trained):
    panel, buffers = panel_of(trained[0], "0")

    ((figure,),) = panel["figures"]
    (picture,) = pictures_in(figure)
    values = np.frombuffer(buffers[picture["buffer"]], "<f4").reshape(picture["shape"])

    assert picture["axes"] == ["bin", "iteration"]
    assert values.shape == (32, ITERATIONS)
    assert values.sum(0) == pytest.approx(1, rel=1e-5)


def test_a_run_of_one_iteration_has_no_curves():
    trace = nnmagic.trace(nn.Sequential(nn.ReLU()), torch.rand(3))

    assert panel_of(trace, "0")[0]["curves"] == []


def test_a_long_curve_keeps_its_ends_and_the_first_that_is_not_finite():
    values = np.arange(10_000.0)
    values[[4321, 5000]] = np.nan

    chosen = chosen_of(values, POINTS)

    assert len(chosen) in (POINTS, POINTS + 1)
    assert {0, 4321, 9999} <= set(chosen.tolist())


def test_histograms_of_other_ends_stand_on_one_axis():
    counts = np.zeros((2, 32), np.int64)
    counts[:, 0] = 10
    ends = np.array([0.0, 5.0]), np.array([10.0, 10.0])
    sizes = np.array([10, 10])

    grid, caption = heat_map(Distributions(np.array([3, 7]), *ends, counts, sizes, sizes))

    assert np.argmax(grid, 0).tolist() == [31, 15]
    assert "from 3 to 7" in caption
