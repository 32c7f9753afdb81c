import copy
import math

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

import nnmagic


class Shuffle(nn.Module):
    def forward(self, x):
        return x.view(x.shape[0], 2, -1).transpose(1, 2).reshape(x.shape)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


NETWORKS = {
    "in place": lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True)),
    "views": lambda: nn.Sequential(nn.Linear(4, 6), Shuffle(), nn.Hardtanh(inplace=True)),
    "checkpoint": lambda: nn.Sequential(Checkpointed(), nn.Linear(4, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2)),
}


def run(net, x):
    torch.manual_seed(1)
    loss = net(x).square().mean()
    loss.backward()
    return loss


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_bit_identical_with_and_without(name):
    torch.manual_seed(0)
    plain, x = NETWORKS[name](), torch.rand(5, 4)
    traced = copy.deepcopy(plain)
    run(plain, x)

    with nnmagic.tracing(traced, grad=True):
        run(traced, x)

    pairs = zip(plain.parameters(), traced.parameters(), strict=True)
    assert all(one.grad.equal(other.grad) for one, other in pairs)


@pytest.mark.slow
def test_a_real_networks_gradients_are_bit_identical():
    torch.manual_seed(0)
    plain, x = torchvision.models.mobilenet_v3_small(num_classes=5), torch.rand(2, 3, 32, 32)
    traced = copy.deepcopy(plain)
    run(plain, x)

    with nnmagic.tracing(traced, grad=True) as t:
        run(traced, x)

    pairs = zip(plain.parameters(), traced.parameters(), strict=True)
    assert all(one.grad.equal(other.grad) for one, other in pairs)
    assert all(call.grad_norm is not None for call in t)


def test_a_layer_has_the_gradient_of_what_it_returned():
    torch.manual_seed(0)
    net, x = NETWORKS["in place"](), torch.rand(5, 4)
    kept = {}

    def keep(layer, args, output):
        output.retain_grad()
        kept[layer] = output

    hooks = [net[i].register_forward_hook(keep) for i in (0, 2)]
    net[1].inplace = False
    run(net, x)
    truth = {i: kept[net[i]].grad.double() for i in (0, 2)}
    for hook in hooks:
        hook.remove()
    net[1].inplace = True
    net.zero_grad()

    with nnmagic.tracing(net, grad=True) as t:
        run(net, x)

    for i, gradient in truth.items():
        call = t[str(i)]
        assert call.gradient.values == gradient.float().tolist()
        assert call.grad_norm == pytest.approx(gradient.norm().item(), rel=1e-6)
        assert call.grad_mean == pytest.approx(gradient.mean().item(), rel=1e-5)
        assert call.grad_std == pytest.approx(gradient.std().item(), rel=1e-6)


def test_a_layer_has_the_gradients_of_its_own_parameters():
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    net[1].bias.requires_grad_(False)
    net[0].unused = nn.Parameter(torch.ones(3))

    with nnmagic.tracing(net, grad=True) as t:
        run(net, torch.rand(5, 4))

    first, second = t["0"], t["1"]
    assert first.parameter_gradients["weight"].values == net[0].weight.grad.tolist()
    assert first.parameter_gradients["unused"] is None
    assert list(second.parameter_gradients) == ["weight"]
    assert second.own_grad_norm == pytest.approx(net[1].weight.grad.norm().item(), rel=1e-6)
    assert "unused none" in str(t)


def test_the_frame_has_columns_for_them_only_when_asked():
    net = nn.Linear(4, 2)
    with nnmagic.tracing(net, grad=True) as with_them:
        run(net, torch.rand(5, 4))
    with nnmagic.tracing(net) as without:
        run(net, torch.rand(5, 4))

    added = set(with_them.to_frame().columns) - set(without.to_frame().columns)

    assert added == {"grad_norm", "grad_mean", "grad_std", "own_grad_norm"}
    assert "own gradient" in str(with_them)
    assert "gradient" not in str(without)


def test_a_run_without_a_backward_says_so():
    net = nn.Linear(4, 2)

    with nnmagic.tracing(net, grad=True) as t:
        net(torch.rand(5, 4))

    assert t[""].gradient is None
    assert any(note.startswith("no backward ran") for note in t.log.notes)


def test_no_hook_is_left_on_a_tensor():
    net = nn.Sequential(nn.Linear(4, 2), nn.Tanh())

    with nnmagic.tracing(net, grad=True) as t:
        y = net(torch.rand(5, 4))
    y.sum().backward()

    assert not y._backward_hooks
    assert t["1"].gradient is None


def test_a_gradient_that_overflows_is_counted():
    net = nn.Linear(2, 1, bias=False)

    with nnmagic.tracing(net, grad=True) as t:
        (net(torch.ones(1, 2)) * torch.inf).sum().backward()

    assert t[""].gradient.inf == 1
    assert t[""].parameter_gradients["weight"].inf == 2


class RootOfZero(nn.Module):
    """Ends in a function whose gradient at zero is infinite: times zero that is NaN."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return torch.sqrt(self.fc(x) * 0)


def test_nan_in_the_gradients_is_shown_alike_by_trace_and_params():
    net = RootOfZero()

    with nnmagic.tracing(net, grad=True) as t:
        net(torch.rand(2, 3)).sum().backward()

    assert net.fc.weight.grad.isnan().all()
    assert math.isnan(t["fc"].own_grad_norm)
    assert math.isnan(nnmagic.params(net, grad=True)["fc.weight"].grad_norm)
    assert "NaN in the gradient of its output, weight, bias" in str(t)
    heading, *_ = str(t).splitlines()
    assert "NaN in the gradients" in heading
    assert "own gradient: none" not in str(t)


def test_a_gradient_with_inf_has_an_infinite_norm_and_a_flag():
    net = nn.Linear(2, 1, bias=False)

    with nnmagic.tracing(net, grad=True) as t:
        (net(torch.ones(1, 2)) * torch.inf).sum().backward()

    assert t[""].own_grad_norm == math.inf
    assert "Inf in the gradient of its output, weight" in str(t)
