"""What is beyond a bound is found, with the number, the bound and where that comes from."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

import nnmagic


class Scaled(nn.Module):
    """Returns what it gets, times a parameter: its gradient is what a test makes it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def forward(self, x):
        return x * self.weight


def found(run, **options):
    """Return the findings of a run by their rules."""
    torch.manual_seed(0)
    with nnmagic.tracing(**options) as trace:
        run()
    return {each.rule: each for each in trace.findings}


def losses(values):
    """Run a network whose losses are these."""
    net = Scaled()
    for value in values:
        net.zero_grad()
        net(torch.tensor([[value]])).sum().backward()


def test_a_loss_seven_deviations_above_those_before_is_a_spike():
    usual = [1.0 + 0.1 * (-1) ** i for i in range(60)]  # their deviation is 0.1

    (spike,) = found(lambda: losses([*usual, 1.8, 1.0])).values()
    below = found(lambda: losses([*usual, 1.6, 1.0]))
    early = found(lambda: losses([*usual[:40], 1.8, 1.0]))

    assert (spike.rule, spike.iteration, spike.bound) == ("a spike of the loss", 60, 7)
    assert spike.number == pytest.approx(8, rel=1e-5)
    assert spike.source.startswith("OLMo 2")
    assert below == early == {}


@pytest.mark.parametrize(("last", "says"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_a_loss_that_is_not_finite_is_found_in_its_iteration(last, says):
    findings = found(lambda: losses([1.0, 2.0, last, last]))

    finding = findings["a loss that is not finite"]
    assert (finding.iteration, finding.number) == (2, 2)
    assert f"the loss is {says} from iteration 2 on" in finding.text


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, 2.0, math.nan, 1.0], "is NaN in iteration 2"),
        ([1.0, 2.0, math.nan, 1.0, math.nan], "is NaN in iteration 2 and in later ones"),
        ([1.0, 2.0, math.inf], "is infinite in iteration 2"),
    ],
)
def test_a_loss_that_is_finite_again_is_not_said_to_stay_so(values, says):
    finding = found(lambda: losses(values))["a loss that is not finite"]

    assert finding.text.partition("the loss ")[2].partition(", first in")[0] == says


def test_a_layer_whose_nan_came_after_that_of_the_loss_is_not_its_origin():
    net = nn.Sequential(nn.Linear(4, 3))
    optimizer = SGD(net.parameters(), lr=0.1)

    def run():
        for i in range(4):
            optimizer.zero_grad()
            (net(torch.ones(2, 4)).sum() * (math.nan if i == 2 else 1)).backward()
            optimizer.step()

    finding = found(run)["a loss that is not finite"]

    assert (finding.layer, finding.iteration) == ("", 2)
    assert "first in" not in finding.text


@pytest.mark.parametrize(("factor", "is_found"), [(120.0, True), (80.0, False)])
def test_all_gradients_that_grow_a_hundred_times_are_found(factor, is_found):
    findings = found(lambda: losses([1.0, 2.0, factor]), grad=True)

    assert ("exploding gradients" in findings) is is_found
    if is_found:
        assert findings["exploding gradients"].number == pytest.approx(factor)


@pytest.mark.parametrize(("factor", "is_found"), [(1e-4, True), (1e-2, False)])
def test_the_first_gradient_is_held_against_the_last(factor, is_found):
    first, last = Scaled(), Scaled()
    net = nn.Sequential(first, last)

    def run():
        for _ in range(6):
            net.zero_grad()
            x = net(torch.ones(1, 1))
            (x.sum() * 1.0).backward()

    first.weight.register_hook(lambda gradient: gradient * factor)
    findings = found(run, grad=True)

    assert ("vanishing gradients" in findings) is is_found
    if is_found:
        assert findings["vanishing gradients"].number == pytest.approx(factor)
        assert findings["vanishing gradients"].layer == "0"


@pytest.mark.parametrize(("rate", "steps", "is_found"), [(1e-8, 50, True), (1e-8, 49, False)])
def test_steps_that_change_nothing_are_found_after_fifty(rate, steps, is_found):
    net = nn.Linear(4, 2)
    optimizer = SGD(net.parameters(), rate)

    def run():
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.rand(8, 4)).square().mean().backward()
            optimizer.step()

    assert ("steps that change nothing" in found(run, grad=True)) is is_found


@pytest.mark.parametrize(("outlier", "is_found"), [(3000.0, True), (300.0, False)])
def test_one_very_large_value_among_small_ones_is_found(outlier, is_found):
    x = torch.ones(8, 64)
    x[3, 5] = outlier
    net = Scaled()

    findings = found(lambda: net(x).mean().backward())

    assert ("very large activations" in findings) is is_found
    if is_found:
        assert findings["very large activations"].number == pytest.approx(outlier)


def test_a_language_model_may_have_very_large_values():
    net = nn.Sequential(nn.Embedding(4, 64), Scaled())
    nn.init.ones_(net[0].weight)
    net[0].weight.data[1, 5] = 3000.0

    assert found(lambda: net(torch.arange(4)).mean().backward()) == {}


@pytest.mark.parametrize(("scale", "level"), [(9.0, None), (12.0, "note"), (120.0, "finding")])
def test_attention_logits_are_worth_a_note_and_very_large_ones_a_finding(scale, level):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            query = x * self.weight
            return F.scaled_dot_product_attention(query, query, x, scale=1.0)

    x = scale * torch.eye(4).reshape(1, 1, 4, 4)  # the largest logit is the scale squared
    findings = found(lambda: Attending()(x).sum().backward(), ops=True)

    finding = findings.get("large attention logits")
    assert (finding and finding.level) == level
    if finding:
        assert finding.number == pytest.approx(scale**2)


@pytest.mark.parametrize(("dead", "is_found"), [(15, True), (14, False)])
def test_nine_of_ten_units_that_are_always_zero_are_dead(dead, is_found):
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
    nn.init.constant_(net[0].bias, 10.0)
    net[0].bias.data[:dead] = -10.0

    findings = found(lambda: [net(torch.rand(64, 4)).mean().backward() for _ in range(8)])
    few = found(lambda: [net(torch.rand(64, 4)).mean().backward() for _ in range(7)])

    assert ("dead units" in findings) is is_found
    assert "dead units" not in few
    if is_found:
        assert findings["dead units"].number == pytest.approx(dead / 16)


def test_channels_of_a_convolution_are_units():
    net = nn.Sequential(nn.Conv2d(1, 10, 3), nn.ReLU())
    nn.init.constant_(net[0].bias, -10.0)
    net[0].bias.data[3] = 10.0

    findings = found(lambda: [net(torch.rand(64, 1, 8, 8)).mean().backward() for _ in range(8)])

    assert findings["dead units"].number == pytest.approx(0.9)


def test_a_unit_that_lives_for_few_inputs_is_not_dead():
    """Nine of ten values are 0, but every unit is another's turn."""
    net = nn.Sequential(Scaled(), nn.ReLU())
    x = torch.eye(16).repeat(4, 1)

    assert "dead units" not in found(lambda: [net(x).sum().backward() for _ in range(8)])


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Tanh])
def test_an_activation_at_its_bounds_is_found_inside_a_network_and_not_at_its_end(kind):
    x = torch.cat([9 * torch.ones(64, 6), torch.zeros(64, 2)], 1) * torch.tensor([-1.0, 1.0] * 4)
    inside, at_the_end = nn.Sequential(Scaled(), kind(), Scaled()), nn.Sequential(Scaled(), kind())

    findings = found(lambda: [inside(x).sum().backward() for _ in range(8)])
    healthy = found(lambda: [inside(x / 9).sum().backward() for _ in range(8)])

    assert findings["saturated units"].number == pytest.approx(0.75)
    assert findings["saturated units"].layer == "1"
    assert "saturated units" not in healthy
    assert "saturated units" not in found(
        lambda: [at_the_end(x).sum().backward() for _ in range(8)]
    )


@pytest.mark.parametrize(("has_learned", "is_found"), [(True, False), (False, True)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_saturation_is_no_fault_of_a_network_whose_loss_has_fallen_to_nothing(
    seed, has_learned, is_found
):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(64, 4)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    optimizer = torch.optim.LBFGS(net.parameters())

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y) + (0 if has_learned else 1)
        loss.backward()
        return loss

    with nnmagic.tracing() as trace:
        for _ in range(3):
            optimizer.step(closure)

    rules = [each.rule for each in trace.findings]
    assert rules == ["saturated units"] * is_found
