"""Two records side by side."""

import copy
import math

import pytest
import torch
from torch import nn

import nnmagic


class Block(nn.Module):
    """A layer with a residual, and what may be wrong with it."""

    def __init__(self, width, *, residual=True, turned=False):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, width)
        self.residual, self.turned = residual, turned

    def forward(self, x):
        y = self.norm(x)
        if self.turned:
            y = y.reshape(y.shape[1], y.shape[0]).T
        y = self.fc(y).relu()
        return x + y if self.residual else y


def network(**options):
    torch.manual_seed(0)
    blocks = [Block(6, **(options if i == 1 else {})) for i in range(3)]
    return nn.Sequential(*blocks, nn.ReLU(), nn.Linear(6, 3)).eval()


X = torch.rand(5, 6, generator=torch.Generator().manual_seed(1))


def compared(other, x=X, mine=None, **options):
    trace = nnmagic.trace(mine or network(), X)
    return trace.compare(nnmagic.trace(other, x), **options)


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def test_the_errors_are_those_of_the_outputs():
    mine, other = network(), network()
    with torch.no_grad():
        other[1].fc.weight[2, 3] += 0.5
    comparison = compared(other, mine=mine)

    frame = comparison.to_frame()
    expected = (
        "network layer other_layer matched_by call output_shape other_shape input_error "
        "output_error own_error max_abs cosine verdict"
    )
    assert list(frame.columns)[:13] == expected.split()
    assert (frame.matched_by == "name").all()
    a, b = mine(X), other(X)
    root = comparison[""]
    assert root.output_error == pytest.approx(relative(a, b), rel=1e-6)
    assert root.max_abs == pytest.approx((a - b).abs().max().item(), rel=1e-6)
    assert (a - b).abs()[root.max_at] == (a - b).abs().max()
    assert root.cosine == pytest.approx(
        float(nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)), rel=1e-5
    )
    assert comparison["0"].verdict == "equal"
    assert comparison["1.fc"].verdict == "parts here"
    assert comparison.first_divergence.layer == "1.fc"
    assert {comparison[each].verdict for each in ("1", "2.fc", "4", "")} == {"inherited"}


@pytest.mark.parametrize(
    ("fault", "layer"),
    [
        ({"residual": False}, "1"),
        ({"turned": True}, "1"),
    ],
)
def test_what_a_forward_does_itself_is_blamed_on_it(fault, layer):
    assert compared(network(**fault)).first_divergence.layer == layer


def test_a_swapped_activation_and_another_eps_are_named():
    swapped, other_eps = network(), network()
    swapped[3] = nn.Tanh()
    other_eps[2].norm.eps = 0.1

    assert compared(swapped).first_divergence.layer == "3"
    assert compared(other_eps).first_divergence.layer == "2.norm"


def test_rounding_is_no_divergence():
    comparison = compared(network().double(), X.double())

    assert comparison.first_divergence is None
    assert set(comparison.to_frame().verdict) <= {"within rounding", "equal"}
    assert "agree within rounding" in str(comparison)
    comparison.raise_if_different()


WITH_NAN = X.clone()
WITH_NAN[0, 0] = math.nan


@pytest.mark.parametrize(
    ("x", "y"),
    [(X, 2 * X), (X, X.flip(0)), (X, torch.zeros_like(X)), (WITH_NAN, X), (X, WITH_NAN)],
)
def test_runs_on_other_inputs_never_agree(tmp_path, x, y):
    nnmagic.trace(network(), x).save(tmp_path / "mine")
    nnmagic.trace(network(), y).save(tmp_path / "other")
    comparison = nnmagic.compare(tmp_path / "mine", tmp_path / "other")

    assert comparison.first_divergence is None
    assert comparison.different_inputs.layer == ""
    assert "within rounding" not in set(comparison.to_frame().verdict)
    assert comparison[""].verdict == "inherited"
    heading = comparison.table().heading
    assert " · different inputs · " in heading
    assert "agree" not in heading
    with pytest.raises(AssertionError, match="different inputs: those of Sequential"):
        comparison.raise_if_different()


def test_a_call_that_errs_on_other_inputs_is_named_beside_them():
    other = network()
    with torch.no_grad():
        other[1].fc.bias += 1e3
    comparison = compared(other, 1.01 * X)

    assert comparison.first_divergence.layer == "1.fc"
    with pytest.raises(AssertionError, match=r"different inputs: .*; the runs part in .*1\.fc"):
        comparison.raise_if_different()


def test_a_cast_and_what_rounding_made_of_an_input_are_no_other_inputs():
    narrow = compared(network().bfloat16(), X.bfloat16())
    assert narrow[""].input_error > 0
    assert narrow.different_inputs is None

    torch.manual_seed(0)
    cell = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    with torch.no_grad():
        cell[0].weight *= 5

    def unrolled(cell, x):
        with nnmagic.tracing(cell) as trace:
            for _ in range(15):
                x = cell(x)
        return trace

    drifting = unrolled(cell, X).compare(unrolled(copy.deepcopy(cell).double(), X.double()))
    assert max(row.input_error for row in drifting if row.layer == "") > 2 * 2**-23
    assert drifting.different_inputs is None
    drifting.raise_if_different()


def test_inputs_that_differ_after_a_call_that_errs_come_of_it():
    def unrolled(net, x):
        with nnmagic.tracing(net) as trace:
            net(net(x))
        return trace

    net = nn.Linear(6, 6)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.bias += 1
    comparison = unrolled(net, X).compare(unrolled(other, X))

    assert comparison.first_divergence.call == 0
    assert comparison.different_inputs is None


def test_what_compares_nothing_does_not_pass():
    def traced(net):
        with nnmagic.tracing(net, keep="none") as trace:
            net(X)
        return trace

    comparison = traced(network()).compare(traced(network()))

    assert " · nothing to compare · " in comparison.table().heading
    with pytest.raises(ValueError, match="keep="):
        comparison.raise_if_different()


def test_the_error_names_the_call_that_errs_or_those_of_one_side():
    other = network()
    other.append(nn.Softmax(1))
    wrong = copy.deepcopy(network())
    wrong[1].fc.bias.data += 1

    with pytest.raises(AssertionError, match=r"1\.fc \(Linear\): inputs are equal"):
        compared(wrong).raise_if_different()
    comparison = compared(other)
    assert [row.other_layer for row in comparison if row.verdict == "only in the other"] == ["5"]
    with pytest.raises(AssertionError):
        comparison.raise_if_different()


def test_a_map_of_names_or_their_order_matches_other_names():
    class Port(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = nn.ModuleList(Block(6) for _ in range(3))
            self.act, self.head = nn.ReLU(), nn.Linear(6, 3)

        def forward(self, x):
            for block in self.h:
                x = block(x)
            return self.head(self.act(x))

    port = Port().eval()
    values = list(network().state_dict().values())
    port.load_state_dict(dict(zip(port.state_dict(), values, strict=True)))
    numbered = {f"{i}": f"h.{i}" for i in range(3)} | {f"{i}.*": f"h.{i}.*" for i in range(3)}

    by_map = compared(port, rename=numbered | {"3": "act", "4": "head"})
    by_order = compared(port)

    for comparison, how in ((by_map, "rename"), (by_order, "order")):
        assert comparison.first_divergence is None
        assert comparison["1.fc"].other_layer == "h.1.fc"
        assert comparison["1.fc"].matched_by == how
        assert comparison["4"].other_layer == "head"
        assert not any(row.verdict.startswith("only") for row in comparison)
    with pytest.raises(ValueError, match=r"needs one on the left"):
        compared(port, rename={"a": "*"})


def test_of_two_batches_the_items_that_both_have_are_compared():
    comparison = compared(network(), X[:2])

    assert comparison.first_divergence is None
    assert "the first 2 items were compared" in " ".join(comparison.table().notes)


def test_another_shape_is_a_divergence():
    other = network()
    other[4] = nn.Linear(6, 4)
    comparison = compared(other)

    assert comparison.first_divergence.layer == "4"
    assert comparison["4"].verdict == "other shape"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_in_both_is_equal_and_in_one_is_infinitely_far(value):
    class Spoilt(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return torch.cat([x, torch.full((5, 1), self.value)], 1)

    def run(filling):
        return nnmagic.trace(Spoilt(filling), X)

    assert run(value).compare(run(value))[""].verdict == "equal"
    assert run(value).compare(run(1.0))[""].output_error == math.inf
    assert run(value).compare(run(1.0)).first_divergence.layer == ""


def test_values_are_compared_at_the_same_places_in_every_memory_format():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU()).eval()
    x = torch.rand(2, 3, 32, 32)
    trace = nnmagic.trace(net, x)
    other = nnmagic.trace(copy.deepcopy(net).to(memory_format=torch.channels_last), x)

    comparison = trace.compare(other)

    assert comparison.first_divergence is None
    assert comparison["0"].output_error < 1e-5
    assert "only the kept values" in " ".join(comparison.table().notes)


def test_every_value_is_compared_where_both_runs_kept_all():
    def run(value):
        bias = torch.zeros(3, 50, 60)
        bias[1, 7, 11] = value
        return nnmagic.trace(nn.Identity(), torch.ones(3, 50, 60) + bias)

    comparison = run(0.0).compare(run(0.5))

    assert comparison[""].output_error == pytest.approx(0.5 / math.sqrt(9000 + 1.25))
    assert comparison[""].max_at == (1, 7, 11)
    assert "only the kept values" not in " ".join(comparison.table().notes)


def test_gradients_are_compared_too():
    def run(net):
        with nnmagic.tracing(grad=True) as trace:
            net(X).sum().backward()
        return trace

    other = network()
    with torch.no_grad():
        other[4].weight *= 2
    row = run(network()).compare(run(other))["3"]

    assert row.output_error == 0
    assert row.gradient_error == pytest.approx(0.5)
