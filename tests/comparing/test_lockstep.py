"""Two runs in lockstep: nothing of the user's changes, and the figures are those of all values."""

import copy
import threading

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.comparing.other_sides import MOST_ITEMS
from nnmagic.comparing.whole_values import difference


class Noisy(nn.Module):
    """Draws random numbers, counts its calls and writes into what it got."""

    def __init__(self):
        super().__init__()
        self.fc, self.drop, self.norm = nn.Linear(6, 6), nn.Dropout(0.3), nn.BatchNorm1d(6)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x += torch.rand_like(x)
        return self.norm(self.drop(self.fc(x).relu_()))


@pytest.fixture
def noisy():
    torch.manual_seed(0)
    return Noisy()


def test_both_sides_see_the_same_random_numbers_and_the_users_run_is_the_only_one(noisy):
    x = torch.rand(4, 6)
    twin, twin_x = copy.deepcopy(noisy), x.clone()
    torch.manual_seed(3)
    expected = twin(twin_x)
    after = torch.rand(3)
    torch.manual_seed(3)

    comparison = nnmagic.against(copy.deepcopy(noisy), isolate=True, float64=True)(noisy, x)

    assert torch.equal(torch.rand(3), after)
    assert set(comparison.to_frame().verdict) == {"equal"}
    assert (comparison.to_frame().own_error == 0).all()
    assert torch.equal(x, twin_x)
    assert noisy.calls == 1
    for key, value in twin.state_dict().items():
        assert torch.equal(noisy.state_dict()[key], value)
    assert noisy.training
    assert all("_compiled_call_impl" not in vars(each) for each in noisy.modules())
    assert expected.shape == (4, 6)
    assert not any("nnmagic" in each.name for each in threading.enumerate())


def test_another_network_is_left_as_it_was(noisy):
    other = copy.deepcopy(noisy)
    before = {key: value.clone() for key, value in other.state_dict().items()}

    nnmagic.against(other)(noisy, torch.rand(4, 6))

    assert other.calls == 0
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in before.items())
    assert not any(each._forward_hooks for each in other.modules())


def test_a_side_that_fails_is_told_and_compared_so_far():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    other = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(5, 2))
    other[0].load_state_dict(net[0].state_dict())

    comparison = nnmagic.against(other)(net, torch.rand(2, 4))

    assert comparison["0"].verdict == "equal"
    assert comparison["2"].verdict == "failed in the other"
    assert "the other side failed in Sequential" in comparison.table().heading
    assert any("RuntimeError" in note for note in comparison.notes)
    with pytest.raises(AssertionError, match="failed"):
        comparison.raise_if_different()


def test_what_the_users_own_call_raises_is_the_users():
    class Wrong(nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        nnmagic.against("bfloat16")(Wrong(), torch.rand(1))
    assert not any("nnmagic" in each.name for each in threading.enumerate())


def test_calls_in_another_order_are_still_compared():
    class Ordered(nn.Module):
        def __init__(self, order):
            super().__init__()
            self.order, self.a, self.b = order, nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            found = {name: getattr(self, name)(x) for name in self.order}
            return found["a"] + found["b"]

    net, other = Ordered("ab"), Ordered("ba")
    other.load_state_dict(net.state_dict())

    comparison = nnmagic.against(other, isolate=True)(net, torch.rand(5, 3))

    assert {row.verdict for row in comparison} == {"equal"}
    assert comparison["b"].own_error == 0


def test_a_leak_between_items_is_found():
    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.mix, self.out = nn.Linear(6, 6), nn.Identity(), nn.Linear(6, 2)

        def forward(self, x):
            y = self.fc(x)
            y = y.reshape(6, -1).T  # meant to be y
            return self.out(self.mix(y))

    x = torch.rand(3, 6)
    comparison = nnmagic.against("items")(Leaky().eval(), x)

    assert comparison.first_divergence.layer == ""
    assert comparison["fc"].verdict in ("within rounding", "equal")
    norm = nn.Sequential(nn.Linear(6, 6), nn.Dropout(), nn.BatchNorm1d(6, affine=False))
    images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(), nn.BatchNorm2d(2), nn.ReLU())
    batch = torch.rand(MOST_ITEMS + 2, 1, 8, 8)
    assert nnmagic.against("items")(images.train(), batch).first_divergence.layer == "2"
    assert nnmagic.against("items")(images.eval(), batch).first_divergence is None
    assert nnmagic.against("items")(norm.eval(), x).first_divergence is None
    with pytest.raises(ValueError, match="two or more"):
        nnmagic.against("items")(norm.eval(), x[:1])


class Attending(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, **options)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Made(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


LEAKS = {
    "attention over the batch": Attending(),
    "a softmax over the batch": nn.Softmax(0),
    "the batch's mean": Made(lambda x: x - x.mean((0, 1))),
    "a sum along the batch": Made(lambda x: x.cumsum(0)),
    "a view that mixes": Made(lambda x: x.view(4, -1, 6).transpose(0, 1)),
    "statistics of the batch": nn.BatchNorm1d(4).train(),
    "the next item": Made(lambda x: x.roll(1, 0)),
}
SEALED = {
    "attention within items": Attending(batch_first=True),
    "a softmax over features": nn.Softmax(-1),
    "statistics that are kept": nn.BatchNorm1d(4).eval(),
    "a normalisation of items": nn.LayerNorm(6),
    "a linear layer": nn.Linear(6, 2),
    "a convolution": nn.Conv1d(4, 2, 3),
}


@pytest.mark.parametrize(("name", "net"), [*LEAKS.items(), *SEALED.items()])
def test_a_leak_is_found_where_an_output_has_a_gradient_of_another_items_input(name, net):
    x = torch.rand(3, 4, 6, requires_grad=True)
    last = net(x)[-1]
    (gradient,) = torch.autograd.grad((last * torch.rand_like(last)).sum(), x)

    comparison = nnmagic.against("items")(net, x.detach())

    is_leak = bool((gradient[:-1] != 0).any())
    assert is_leak == (name in LEAKS)
    assert (comparison.first_divergence is not None) == is_leak


def test_a_leak_of_what_has_no_gradient_is_found():
    words = nn.Sequential(Made(lambda ids: ids - ids.min(0).values), nn.Embedding(9, 4))
    ids = torch.tensor([[3, 1], [2, 4], [5, 5]])

    assert nnmagic.against("items")(words, ids).first_divergence.layer == "0"


def test_a_difference_that_is_rounding_vanishes_in_float64():
    class Cancelling(nn.Module):
        """Loses all but a few digits, so that rounding looks like a fault."""

        def __init__(self, order):
            super().__init__()
            self.order, self.last = order, nn.Identity()

        def forward(self, x):
            total = torch.zeros(8, dtype=x.dtype)
            for i in self.order:
                total = total + x[:, i]
            return self.last(total[:, None] - x.sum(1, keepdim=True) + 1e-6 * x)

    x = torch.rand(8, 40)
    net, other = Cancelling(range(40)), Cancelling(range(39, -1, -1))

    kept = nnmagic.trace(net, x).compare(nnmagic.trace(other, x))
    checked = nnmagic.against(other)(net, x)
    isolated = nnmagic.against(other, isolate=True)(net, x)

    assert kept.first_divergence is not None  # the bound alone cannot tell
    assert checked.first_divergence is None
    assert isolated.first_divergence is None
    assert isolated[""].own_error > isolated[""].tolerance
    assert checked[""].verdict == "within rounding"
    assert checked[""].float64_error < 1e-4 * checked[""].output_error


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.complex64])
def test_the_difference_is_that_of_all_values(dtype):
    generator = torch.Generator().manual_seed(0)
    a = (torch.rand(7, 5, generator=generator) * 50).to(dtype)
    b = a.clone()
    b[3, 2] += 3
    found = difference(a, b)

    wide = torch.complex128 if dtype.is_complex else torch.float64
    a, b = a.to(wide), b.to(wide)
    assert found.error == pytest.approx(((a - b).norm() / b.norm()).item(), rel=1e-5)
    assert (found.max_abs, found.max_at) == (pytest.approx(float((a - b).abs().max())), (3, 2))
    assert (found.compared, found.numel) == (35, 35)


def test_odd_tensors_have_a_difference_or_none():
    x = torch.tensor([1.0, float("nan"), float("inf"), 0.0])
    assert difference(x, x.clone()).error == 0
    assert difference(x, torch.zeros(4)).error == float("inf")
    assert difference(torch.zeros(3), torch.zeros(3)).error == 0
    assert difference(torch.zeros(0), torch.zeros(0)).error == 0
    assert difference(torch.tensor(2.0), torch.tensor(4.0)).max_at == ()
    assert difference(torch.zeros(2, 3), torch.zeros(2, 4)) is None
    assert difference(torch.zeros(2, device="meta"), torch.zeros(2)) is None
    assert difference(torch.full((2,), 1e30), torch.full((2,), 2e30)).error == pytest.approx(0.5)
    sparse = torch.eye(3).to_sparse()
    assert difference(sparse, torch.eye(3)).error == 0


def test_what_is_compiled_runs_compiled_again_afterwards():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    net, x = nn.Linear(2, 2), torch.rand(3, 2)
    compiled = torch.compile(net, backend=backend)
    with torch.no_grad():
        comparison = nnmagic.against("eval", isolate=True)(compiled, x)
        assert not graphs
        compiled(x)

    assert set(comparison.to_frame().verdict) == {"equal"}
    assert len(graphs) == 1
