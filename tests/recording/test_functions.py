import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x):
        y = F.relu(self.fc(x))
        y = torch.cat([y, x], dim=1)[:, 2:6]
        y *= self.scale
        return x + y


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(Block(), nn.ReLU())


def names(trace):
    return [call.layer for call in trace]


def test_the_functions_of_a_forward_are_rows_under_its_module_in_order(net):
    x = torch.rand(3, 4)

    with nnmagic.tracing(net, ops=True) as t:
        y = net(x)

    assert names(t) == [
        *("", "0", "0.fc", "0.relu()", "0.cat()", "0.getitem()", "0.mul_()", "0.add()", "1"),
    ]
    assert [(call.type, call.depth) for call in t][3:8] == [
        *(("F.relu", 2), ("torch.cat", 2), ("Tensor.getitem", 2)),
        *(("Tensor.mul_", 2), ("Tensor.add", 2)),
    ]
    assert y.equal(net(x))


def test_a_row_has_what_the_function_got_and_returned_before_it_was_written_over(net):
    x = torch.rand(3, 4)
    with torch.no_grad():
        relu = F.relu(net[0].fc(x))
        cut = torch.cat([relu, x], dim=1)[:, 2:6]

    with nnmagic.tracing(net, ops=True) as t, torch.no_grad():
        net(x)

    assert t["0.getitem()"].outputs[0].values == cut.tolist()
    assert t["0.mul_()"].inputs[0].values == cut.tolist()
    assert t["0.mul_()"].outputs[0].values == (cut * 2).tolist()
    assert t["0.add()"].outputs[0].values == (x + cut * 2).tolist()
    assert t["0.cat()"].input_shape == (((3, 4), (3, 4)), {"dim": None}) or t[
        "0.cat()"
    ].input_shape == (((3, 4), (3, 4)),)


def test_without_the_option_no_function_is_a_row(net):
    with nnmagic.tracing(net) as t:
        net(torch.rand(3, 4))

    assert names(t) == ["", "0", "0.fc", "1"]


def test_functions_outside_every_module_are_rows_of_their_own():
    x = torch.rand(3, 4)

    with nnmagic.tracing(ops=True) as t:
        y = F.softmax(x / 2, dim=1).sum()

    assert [(call.network, call.layer, call.depth) for call in t] == [
        *(("functions", "div()", 0), ("functions", "softmax()", 0), ("functions", "sum()", 0)),
    ]
    assert t["sum()"].outputs[0].values == y.item()
    assert "softmax()" in str(t)


def test_of_a_function_outside_every_module_the_last_call_alone_has_a_picture():
    x = torch.rand(1 << 14)

    with nnmagic.tracing(ops=True) as t:
        for _ in range(3):
            F.relu(x)

    assert [call.outputs[0].picture is not None for call in t] == [False, False, True]


def test_what_an_optimizer_computes_is_no_row(net):
    optimizer = torch.optim.Adam(net.parameters())

    with nnmagic.tracing(ops=True) as t:
        loss = net(torch.rand(3, 4)).mean()
        loss.backward()
        optimizer.step()

    assert names(t)[-2:] == ["1", "mean()"]


def test_what_returns_the_very_tensor_unchanged_is_no_row():
    class Same(nn.Module):
        def forward(self, x):
            return x.to(torch.float32).contiguous()

    net = Same()

    with nnmagic.tracing(net, ops=True) as t:
        net(torch.rand(2, 2))

    assert names(t) == [""]


def test_a_step_that_is_passed_over_has_no_functions(net):
    with nnmagic.tracing(net, ops=True, every=2) as t:
        for _ in range(3):
            net(torch.rand(3, 4))

    assert [call.step for call in t.calls("0.add()")] == [0, 2]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", ["encoder", "attention"])
def test_the_fused_paths_of_torch_are_taken_as_without_it(kind, grad):
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8)
    if kind == "encoder":
        layer = nn.TransformerEncoderLayer(8, 2, batch_first=True, dropout=0.0)
        net = nn.TransformerEncoder(layer, 2).eval()
        args = (x,)
    else:
        net = nn.MultiheadAttention(8, 2, batch_first=True).eval()
        args = (x, x, x)

    with torch.set_grad_enabled(grad):
        plain = net(*args)
        with nnmagic.tracing(net, ops=True) as t:
            traced = net(*args)

    pairs = zip(plain, traced, strict=True) if kind == "attention" else [(plain, traced)]
    assert all(one.equal(other) for one, other in pairs)
    assert any(name.endswith("()") for name in names(t)) is grad
    assert torch._C._len_torch_function_stack() == 0


def test_an_exception_leaves_no_mode_behind():
    net = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()

    with pytest.raises(RuntimeError), torch.no_grad(), nnmagic.tracing(net, ops=True):
        net(torch.rand(2, 3, 7))

    assert torch._C._len_torch_function_stack() == 0


def test_gradients_are_bit_identical_and_functions_have_theirs(net):
    x = torch.rand(3, 4)
    net(x).square().sum().backward()
    plain = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()

    with nnmagic.tracing(net, ops=True, grad=True) as t:
        net(x).square().sum().backward()

    assert all(a.equal(p.grad) for a, p in zip(plain, net.parameters(), strict=True))
    assert t["0.add()"].gradient.values == t[""].gradient.values
