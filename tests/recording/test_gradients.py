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
    assert "gradient norm" in str(with_them)
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


def test_a_gradient_with_inf_has_an_infinite_norm_and_a_flag():
    net = nn.Linear(2, 1, bias=False)

    with nnmagic.tracing(net, grad=True) as t:
        (net(torch.ones(1, 2)) * torch.inf).sum().backward()

    assert t[""].own_grad_norm == math.inf
    assert "Inf in the gradient of its output, weight" in str(t)


CLEARED = {
    "set to none": lambda net, step: step.zero_grad(),
    "set to zero": lambda net, step: step.zero_grad(set_to_none=False),
    "by the network": lambda net, step: net.zero_grad(),
    "by hand": lambda net, step: [setattr(p, "grad", None) for p in net.parameters()],
    "written over": lambda net, step: [p.grad.data.fill_(7) for p in net.parameters()],
}


@pytest.mark.parametrize("how", CLEARED)
def test_gradients_that_are_cleared_after_the_step_were_noted(how):
    net, x = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), torch.rand(5, 4)
    twin = copy.deepcopy(net)
    run(twin, x)
    step = torch.optim.SGD(net.parameters(), lr=0.1)

    with nnmagic.tracing(net, grad=True) as t:
        run(net, x)
        step.step()
        CLEARED[how](net, step)

    for name in "02":
        truth = [p.grad.flatten() for p in twin[int(name)].parameters()]
        assert t[name].own_grad_norm == pytest.approx(torch.cat(truth).norm().item(), rel=1e-6)


def test_gradients_of_a_step_within_the_backward_are_noted():
    net, x = nn.Linear(4, 2), torch.rand(5, 4)
    twin, order = copy.deepcopy(net), []
    run(twin, x)

    def step(parameter):
        order.append(parameter)
        parameter.grad = None

    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    with nnmagic.tracing(net, grad=True) as t:
        run(net, x)
    run(net, x)

    assert t[""].parameter_gradients["weight"].values == twin.weight.grad.tolist()
    assert len(order) == 4


def test_a_gradient_that_is_clipped_is_shown_as_the_optimizer_gets_it():
    net, x = nn.Linear(4, 2), 100 * torch.rand(5, 4)
    for clip in (
        lambda: nn.utils.clip_grad_norm_(net.parameters(), 0.5),
        lambda: [p.grad.data.mul_(0.5 / t_norm(net)) for p in net.parameters()],
    ):
        net.zero_grad()
        step = torch.optim.SGD(net.parameters(), lr=0.0)
        with nnmagic.tracing(net, grad=True) as t:
            run(net, x)
            before = t_norm(net)
            clip()
            clipped = t_norm(net)
            step.step()
            step.zero_grad()

        assert clipped < before / 10
        assert t[""].own_grad_norm == pytest.approx(clipped, rel=1e-5)


def t_norm(net):
    return torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()


def test_gradients_that_were_accumulated_are_shown_as_they_add_up():
    net, x = nn.Linear(4, 2), torch.rand(6, 4)

    with nnmagic.tracing(net, grad=True) as t:
        for part in x.split(2):
            run(net, part)

    assert t[""].parameter_gradients["weight"].values == net.weight.grad.tolist()
    assert len(t.log.tensors) == 3 * 3 + 2


def test_gradients_from_before_the_run_are_said_to_be_so():
    net = nn.Linear(4, 2)
    run(net, torch.rand(5, 4))

    with nnmagic.tracing(net, grad=True) as t:
        net(torch.rand(5, 4))

    notes = [note for note in t.log.notes if "no backward ran" in note or "before" in note]
    assert len(notes) == 2
    assert t[""].own_grad_norm == pytest.approx(t_norm(net), rel=1e-6)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_hook_is_left_on_a_parameter_whatever_ends_the_run(error):
    net = nn.Linear(4, 2)
    scale = torch.amp.GradScaler.scale

    with pytest.raises(error), nnmagic.tracing(net, grad=True):
        net(torch.rand(5, 4))
        raise error

    assert [p._post_accumulate_grad_hooks for p in net.parameters()] == [None, None]
    assert torch.amp.GradScaler.scale is scale


def test_gradients_of_a_scaled_loss_are_shown_unscaled_and_keep_their_bits():
    net, x = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), torch.rand(5, 4)
    plain, scaled = copy.deepcopy(net), copy.deepcopy(net)
    net(x).square().mean().backward()
    results = []
    for twin in (plain, scaled):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        step = torch.optim.SGD(twin.parameters(), lr=0.1)
        watched = [twin] if twin is scaled else []
        with nnmagic.tracing(*watched or [nn.Identity()], grad=True) as t:
            scaler.scale(twin(x).square().mean()).backward()
            results.append([p.grad.clone() for p in twin.parameters()])
            scaler.step(step)
            scaler.update()
            step.zero_grad()

    assert all(a.equal(b) for a, b in zip(*results, strict=True))
    assert all(a.equal(b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))
    for name in "02":
        truth = [p.grad.flatten() for p in net[int(name)].parameters()]
        assert t[name].own_grad_norm == pytest.approx(torch.cat(truth).norm().item(), rel=1e-5)
    assert t["2"].grad_norm == pytest.approx((net(x) * 2 / 10).norm().item(), rel=1e-5)
    assert "unscaled" in str(t)
    assert "4,096" in str(t)


def test_a_loss_that_is_not_scaled_is_not_unscaled():
    net, x = nn.Linear(4, 2), torch.rand(5, 4)
    scaler = torch.amp.GradScaler("cpu")

    with nnmagic.tracing(net, grad=True) as t:
        scaler.scale(net(x).sum()).backward()
        net.zero_grad()
        run(net, x)

    assert t[""].own_grad_norm == pytest.approx(t_norm(net), rel=1e-6)


def test_a_scaled_gradient_that_overflows_is_flagged_though_the_step_is_left_out():
    net = nn.Linear(4, 2)
    scaler = torch.amp.GradScaler("cpu")
    step = torch.optim.SGD(net.parameters(), lr=0.1)

    with nnmagic.tracing(net, grad=True) as t:
        scaler.scale(net(torch.full((5, 4), 1e38)).sum() * 1e3).backward()
        scaler.step(step)
        scaler.update()
        step.zero_grad()

    assert "in the gradient of weight" in str(t)
    assert "network unchanged" in t.log.notes


@pytest.mark.parametrize(("bad", "word"), [(float("nan"), "NaN"), (float("inf"), "Inf")])
def test_one_bad_value_among_many_makes_the_norm_bad_everywhere(bad, word):
    net, weights = nn.Linear(40, 50), torch.ones(3, 50)
    weights[1, 7] = bad

    with nnmagic.tracing(net, grad=True) as t:
        (net(torch.ones(3, 40)) * weights).sum().backward()

    norms = {
        t[""].own_grad_norm,
        t[""].grad_norm,
        nnmagic.params(net, grad=True)["weight"].grad_norm,
        t.to_frame().own_grad_norm[0],
    }
    assert {str(norm) for norm in norms} == {str(bad)}
    assert f"{word} in the gradients" in str(t).splitlines()[0]
