"""Networks that differentiate in their forward: a run for shapes keeps the whole graph for them."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import nnmagic
from nnmagic.network.naming import Naming
from nnmagic.structure.describe import describe
from nnmagic.structure.shape_run import MetaRequest

pytestmark = pytest.mark.usefixtures("nothing_remembered")


class Force(nn.Module):
    """Differentiates its own energy, as networks for molecules do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.SiLU(), nn.Linear(3, 3), nn.SiLU())

    def forward(self, positions):
        positions.requires_grad_()
        energy = self.layers(positions).sum()
        return torch.autograd.grad(energy, positions, create_graph=True)[0]


def test_a_network_that_differentiates_itself_is_run_in_full():
    for _ in range(2):
        found = nnmagic.summary(Force(), torch.rand(5, 3))

        assert found.rows[0].output_shape == (5, 3)
        assert len(found.rows) == 6


class TrainingItself(nn.Module):
    """Adapts its weights while it runs."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(8, 8), nn.ReLU()] * 3)

    def forward(self, x):
        self.layers(x).sum().backward()
        return x


class Adapting(TrainingItself):
    """Does without a gradient where there is none."""

    def forward(self, x):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(self.layers(x).sum(), x, allow_unused=True)
        return x - 0.1 * gradient


class Checkpointed(TrainingItself):
    """Computes its layers again in a backward of its own."""

    def forward(self, x):
        y = checkpoint(self.layers, x, use_reentrant=False)
        y.sum().backward()
        return y.detach()


class Keeping(TrainingItself):
    """Looks at a gradient that a backward without any operation brings."""

    def forward(self, x):
        x.requires_grad_()
        self.layers(x).backward(torch.ones(2, 8))
        return x.clone() if x.grad is None else torch.cat([x, x.grad])


class Asking(TrainingItself):
    """Asks for two gradients, of which it gets one in any case."""

    def __init__(self):
        super().__init__()
        self.last = nn.Bilinear(8, 8, 3)

    def forward(self, x):
        x.requires_grad_()
        y = self.layers(x)
        loss = self.last(y, y).sum()
        first, _ = torch.autograd.grad(loss, (x, self.last.weight), allow_unused=True)
        return x.clone() if first is None else torch.cat([x, first])


@pytest.mark.parametrize("make", [TrainingItself, Adapting, Asking, Checkpointed, Keeping, Force])
def test_a_backward_within_the_run_is_whole(make):
    net, x = make(), torch.rand(2, 3 if make is Force else 8)

    def found(by_rule):
        return describe(
            MetaRequest(network=net, args=(x,), naming=Naming(), title=""), by_rule=by_rule
        )

    whole = found(by_rule=False)
    for _ in range(2):
        assert found(by_rule=True) == whole


def test_forward_mode_is_whole():
    class Dual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))

        def forward(self, x):
            with forward_ad.dual_level():
                y = self.layers(forward_ad.make_dual(x, torch.ones_like(x)))
                return forward_ad.unpack_dual(y).tangent

    for _ in range(3):
        assert nnmagic.summary(Dual(), torch.rand(2, 3)).rows[0].output_shape == (2, 3)


def test_hooks_that_save_tensors_see_all():
    saved = []

    def keep(tensor):
        saved.append(tensor.shape)
        return tensor

    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))

        def forward(self, x):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
                return self.layers(x)

    nnmagic.summary(Saving(), torch.rand(2, 3))
    first = len(saved)
    nnmagic.summary(Saving(), torch.rand(2, 3))

    assert len(saved) == 2 * first > 0


@pytest.mark.parametrize("write", [lambda y: nn.functional.relu_(y), lambda y: y.add_(1)])
def test_what_a_backward_hook_forbids_is_forbidden(write):
    class Hooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
            self.layers[2].register_full_backward_hook(lambda *_: None)

        def forward(self, x):
            return write(self.layers(x))

    for _ in range(2):
        with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
            nnmagic.summary(Hooked(), torch.rand(2, 8))


def test_writing_to_a_view_that_may_not_be_written_to_fails_as_it_does():
    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act = nn.Linear(8, 8), nn.ReLU(inplace=True)

        def forward(self, x):
            return self.act(self.linear(x).unbind(0)[0])

    nnmagic.summary(nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)), torch.rand(8))

    with pytest.raises(RuntimeError, match="Output 0 of Unbind"):
        nnmagic.summary(Writing(), torch.rand(2, 8))


def test_writing_to_a_leaf_that_needs_a_gradient_fails_as_it_does():
    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.act(self.act(x.clone()).detach().requires_grad_())

    for _ in range(2):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            nnmagic.summary(Writing(), torch.rand(3))
