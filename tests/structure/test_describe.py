import copy

import pytest
import torch
from corpus.case import Net
from IPython.core.error import UsageError
from one_linear import PRODUCT, linear
from torch import nn

import nnmagic


class OwnCall(nn.Module):
    """Has a `__call__` of its own, as the Gaussian processes of gpytorch."""

    def __init__(self):
        super().__init__()
        self.mean, self.scale = nn.Linear(8, 1), nn.Linear(8, 2)

    def __call__(self, x):
        assert x.sum() > 0
        return torch.distributions.Normal(self.mean(x), self.scale(x).exp())


EVALUATED = {
    "loss_fn(net(x), y)": (["net", "net", "net", "loss_fn"], 2 * PRODUCT),
    "F.cross_entropy(net(x), y)": (["net", "net", "net"], 2 * PRODUCT),
    "net(net[1](x.new_zeros(4, 3)))": (["net"] * 4, 3 * PRODUCT),
    "[each(x) for each in (net, gp)]": (["net", "net", "net", "gp", "gp"], 3 * PRODUCT),
    "once(net, x)": (["net"] * 3, 2 * PRODUCT),
    "net(x).argmax(1)": (["net"] * 3, 2 * PRODUCT),
}


@pytest.mark.parametrize("expression", EVALUATED)
def test_an_expression_that_is_no_single_call_shows_all_that_ran_in_it(expression, session):
    def once(net, x):
        evaluated.append(expression)
        return net(x)

    evaluated = []
    net = nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 8)).requires_grad_(False)
    session.shell.user_ns.update(net=net, gp=OwnCall(), once=once, F=nn.functional)
    session.shell.user_ns.update(loss_fn=nn.CrossEntropyLoss(), x=torch.ones(4, 8))
    session.shell.user_ns.update(y=torch.tensor([0, 1, 2, 0]))

    summary = session.run(f"%nnsummary {expression}")

    networks, flops = EVALUATED[expression]
    assert [row.network for row in summary.rows if row.call is not None] == networks
    assert summary.total_flops == flops
    assert f"{expression} was evaluated for real" in str(summary)
    assert evaluated == [expression] * ("once" in expression)


def test_a_module_with_a_call_of_its_own_shows_what_it_calls(session):
    session.shell.user_ns.update(gp=OwnCall(), x=torch.ones(4, 8))

    for line in ("gp(x)", "gp"):
        summary = session.run(f"%nnsummary {line}")

        assert [row.layer for row in summary.rows] == ["mean", "scale"]
        assert "x.sum() > 0" in str(summary)
        assert "a __call__ of its own hides the calls of: OwnCall" in summary.notes


def test_containers_that_refuse_calls_hide_none():
    net = Net(lambda net, x: x * net.scales["a"])
    net.scales = nn.ParameterDict({"a": torch.ones(1)})

    assert "hides the calls" not in str(nnmagic.summary(net, torch.rand(2)))


def test_what_needs_a_single_call_says_so_of_another_expression(session):
    session.shell.user_ns.update(net=nn.Linear(8, 3), x=torch.ones(4, 8))

    for option in ("--optimizer adam", "--engine torchinfo"):
        with pytest.raises(UsageError, match="is more than one call of a network"):
            session.run(f"%nnsummary net(x).sum() {option}")


DOUBLE = torch.rand(4, 8).double()

OTHER_DTYPES = {
    "a Linear": (nn.Linear(8, 3), DOUBLE),
    "without a bias": (nn.Linear(8, 3, bias=False), DOUBLE),
    "of integers": (nn.Linear(8, 3), DOUBLE.long()),
    "of three axes": (nn.Linear(8, 3), DOUBLE[None]),
    "a convolution": (nn.Conv1d(4, 2, 3), DOUBLE),
    "a transposed convolution": (nn.ConvTranspose1d(4, 2, 3), DOUBLE),
    "a cell": (nn.GRUCell(8, 3), DOUBLE),
    "a batch norm": (nn.BatchNorm1d(8), DOUBLE),
    "a layer norm": (nn.LayerNorm(8), DOUBLE),
    "a group norm": (nn.GroupNorm(2, 8), DOUBLE),
    "an encoder": (nn.TransformerEncoderLayer(8, 2, 8), DOUBLE[None]),
    "half of a product": (linear(lambda net, x: x @ net.fc.weight[0]), DOUBLE),
}


@pytest.mark.parametrize("name", OTHER_DTYPES)
def test_dtypes_that_a_real_run_refuses_are_refused(name):
    net, x = OTHER_DTYPES[name]

    with pytest.raises(RuntimeError) as plain:
        net(x)
    with pytest.raises(RuntimeError) as summarised:
        nnmagic.summary(net, x)
    with pytest.raises(RuntimeError):
        nnmagic.summary(copy.deepcopy(net).to("meta"), x.to("meta"))

    assert str(summarised.value) == str(plain.value)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.LayerNorm(8), nn.GroupNorm(2, 8)])
def test_a_norm_in_half_precision_takes_weights_in_single(layer):
    x = torch.rand(4, 8).bfloat16()

    assert nnmagic.summary(layer, x).rows[0].output_shape == layer(x).shape


def test_shapes_are_found_in_the_grad_mode_of_the_user():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.auxiliary = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            x = self.fc(x)
            return self.auxiliary(x) if torch.is_grad_enabled() else x

    net, x = Auxiliary(), torch.rand(4, 8)
    found = {}
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            found[mode] = nnmagic.summary(net, x)

    assert all(each.engine != "real run" for each in found.values())
    assert found[torch.enable_grad].total_flops == 2 * 4 * 8 * (8 + 3)
    for mode in (torch.no_grad, torch.inference_mode):
        assert found[mode].total_flops == 2 * 4 * 8 * 8
