import pytest
import torch
from torch import nn

import nnmagic


@pytest.fixture(scope="module")
def trace():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with nnmagic.tracing(net, grad=True) as t:
        for _ in range(5):
            optimizer.zero_grad()
            net(torch.rand(2, 4)).square().mean().backward()
            optimizer.step()
    return t


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_the_figure_has_the_loss_and_a_line_for_each_layer(trace):
    figure = trace.plot()

    axes = {each.get_ylabel(): each for each in figure.axes[:5]}
    (loss,) = lines(axes["loss"]).values()
    expected = trace.history().query("quantity == 'loss'")
    assert loss.get_xdata().tolist() == expected.iteration.tolist()
    assert loss.get_ydata().tolist() == expected.value.tolist()
    assert set(lines(axes["std"])) == {"Sequential", "0", "1", "2"}
    assert set(lines(figure.axes[-1])) == {"0 bias", "0 weight", "2 bias", "2 weight"}
    assert figure.axes[-1].get_yscale() == "log"


def test_quantities_and_layers_can_be_chosen(trace):
    figure = trace.plot("zeros", layers="1")

    assert [each.get_ylabel() for each in figure.axes] == ["zeros"]
    assert set(lines(figure.axes[0])) == {"1"}


def test_what_was_not_recorded_is_said(trace):
    with pytest.raises(ValueError, match=r"nothing was recorded of variance"):
        trace.plot("variance")
