import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nnmagic
from nnmagic.recording.values_by_rerun import RefusedError, TensorOfCall, ValuesByRerun


def values_of(trace, layer, side="output", place=0):
    tensor = TensorOfCall(trace[layer].call, side, place)
    return torch.tensor(ValuesByRerun(trace, 1 << 20).of_recorded_run(tensor).tolist())


def refusal(trace, call):
    with pytest.raises(RefusedError) as refused:
        ValuesByRerun(trace, 1 << 20).of_recorded_run(TensorOfCall(call, "output", 0))
    return str(refused.value), refused.value.offers_new_run


def test_all_values_of_a_layer_are_had_by_running_again():
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval(), torch.rand(1, 3, 50, 50)
    trace = nnmagic.trace(net, x)

    assert torch.equal(values_of(trace, "0"), net[0](x))
    assert torch.equal(values_of(trace, "0", "input"), x)


def test_a_network_in_train_mode_is_run_in_train_mode_and_put_back():
    net, x = nn.Sequential(nn.BatchNorm1d(400)), torch.rand(80, 400)
    twin = nn.BatchNorm1d(400)
    trace, before = nnmagic.trace(net, x), [each.clone() for each in net.buffers()]

    values = values_of(trace, "0")

    assert torch.equal(values, twin(x).detach())
    assert all(map(torch.equal, net.buffers(), before))
    assert net.training


def test_a_run_is_made_again_under_the_autocast_that_it_had():
    net, x = nn.Sequential(nn.Linear(100, 300)).eval(), torch.rand(90, 100)
    with torch.autocast("cpu", torch.bfloat16):
        cast = nnmagic.trace(net, x)
        expected = net(x).float()
    plain = nnmagic.trace(net, x)

    assert torch.equal(values_of(cast, "0"), expected)
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(values_of(cast, "0"), expected)
        assert values_of(plain, "0").dtype is torch.float32
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(values_of(plain, "0"), net(x))
    assert not torch.is_autocast_enabled("cpu")


def test_each_network_of_a_loop_is_run_by_its_own_last_call():
    first, second = nn.Linear(200, 200), nn.Linear(200, 200)
    x = torch.rand(100, 200)
    with nnmagic.tracing() as trace:
        y = first(x)
        z = second(y)

    labels = trace.log.networks

    assert torch.equal(values_of(trace, f"{labels[0]}:"), y)
    assert torch.equal(values_of(trace, f"{labels[1]}:"), z)


def test_the_right_one_of_a_layers_calls_is_taken():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()

        def forward(self, x):
            return self.act(self.act(x))

    net, x = Twice(), torch.rand(100, 200)
    trace = nnmagic.trace(net, x)
    first = trace.calls("act")[0].call

    values = ValuesByRerun(trace, 1 << 20).of_recorded_run(TensorOfCall(first, "output", 0))

    assert torch.equal(torch.tensor(values.tolist()), x.tanh())
    assert torch.equal(values_of(trace, "act"), x.tanh().tanh())


def test_what_is_recorded_of_large_matrices_of_scores_is_compared_too():
    net, x = nn.Sequential(nn.Linear(10, 3000)), torch.rand(30, 10)
    trace = nnmagic.trace(net, x)

    assert torch.equal(values_of(trace, "0"), net(x))


def test_a_value_swapped_with_another_is_noticed():
    net, x = nn.Sequential(nn.Embedding(40, 600)), torch.arange(40)
    trace = nnmagic.trace(net, x)
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight.flip(0))

    said, offers_new_run = refusal(trace, 1)

    assert "--keep all" in said
    assert offers_new_run


def test_a_refusal_says_why():
    class Plus(nn.Module):
        def forward(self, x):
            return x + 1

    net, x = nn.Sequential(Plus()), torch.rand(2, 4)
    with nnmagic.tracing(net, ops=True) as trace:
        for _ in range(2):
            net(x)
    functions = [c for c in range(len(trace.log)) if trace.log.is_function(c)]
    modes = nnmagic.trace(net, x)
    net.eval()
    gone = nnmagic.trace(nn.Sequential(nn.Linear(4, 4)), x)

    assert refusal(trace, functions[0])[0].startswith("functions are not run again")
    assert refusal(trace, 0)[0].startswith("only the last call of Sequential can be run again; --k")
    assert refusal(modes, 0) == (
        "recorded in train mode, and the network is in eval mode now; --keep all keeps all values",
        True,
    )
    assert refusal(gone, 0) == ("the network is gone; --keep all keeps all values", False)


def test_a_recomputation_is_not_loaded():
    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    net = Saving()
    with nnmagic.tracing(net) as trace:
        net(torch.rand(2, 4)).sum().backward()
    (recomputed,) = trace.log.recomputed

    assert "recomputation" in refusal(trace, recomputed)[0]


def test_a_new_run_that_fails_is_told_in_one_line():
    class Gate(nn.Module):
        fails = ()

        def forward(self, x):
            if self.fails:
                raise ValueError(*self.fails)
            return x + 1

    net = Gate()
    trace = nnmagic.trace(net, torch.rand(2, 4))
    net.fails = ["shut\nfor good"]
    with_text = refusal(trace, 0)[0]
    net.fails = [""]

    assert with_text.startswith("a new run failed: ValueError: shut; --keep all")
    assert "failed: ValueError, which says no more; --keep all" in refusal(trace, 0)[0]
