"""A call that needs values, which no shape tells, is made for real, once, and put back."""

import copy
import random
from pathlib import Path

import pytest
import torch
from corpus.case import Net
from one_linear import PRODUCT, linear
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import nnmagic


def sparse(net, x):
    return torch.sparse.mm(net.adjacency, net.fc(x))


def repeated(net, x):
    counts = (net.fc(x).abs().sum(1) * 0 + 2).long()
    return x.repeat_interleave(counts, 0)


def autocast(net, x):
    with torch.autocast(device_type=x.device.type):
        return net.fc(x)


def packed(net, x):
    lengths = torch.tensor([5, 4, 2, 1])
    steps = pack_padded_sequence(x.unsqueeze(1).expand(4, 5, 8), lengths, batch_first=True)
    return pad_packed_sequence(net.rnn(steps)[0], batch_first=True)[0]


def looped(net, x):
    for _ in range(int(x.max() + 2)):
        y = net.fc(x)
    return y


def attending(net, x):
    query = x.view(1, 2, 4, 4)
    return flex_attention(query, query, query, score_mod=lambda score, *place: score * 2)


NEEDING = {
    "an if": (linear(lambda net, x: net.fc(x) if x.sum() > 0 else x), PRODUCT),
    "an item": (linear(lambda net, x: net.fc(x) * x.max().item()), PRODUCT),
    "a number in text": (linear(lambda net, x: f"{x.mean():.3f}" and net.fc(x)), PRODUCT),
    "numpy": (linear(lambda net, x: net.fc(torch.from_numpy(x.numpy() * 2))), PRODUCT),
    "a list": (linear(lambda net, x: net.fc(torch.tensor(x.tolist()))), PRODUCT),
    "a mask": (linear(lambda net, x: net.fc(x[x[:, 0] >= 0])), PRODUCT),
    "a loop": (linear(looped), 2 * PRODUCT),
    "unique": (linear(lambda net, x: net.fc(x.unique().view(4, 8))), PRODUCT),
    "repeated by computed counts": (linear(repeated), PRODUCT),
    "a sparse matrix": (linear(sparse, adjacency=torch.eye(4).to_sparse()), None),
    "a sparse input": (linear(lambda net, x: net.fc(x.to_sparse().to_dense())), PRODUCT),
    "autocast by the device": (linear(autocast), PRODUCT),
    "a device by name": (linear(lambda net, x: net.fc(x) + torch.ones(3, device="cpu")), PRODUCT),
    "packed lengths": (Net(packed, rnn=nn.LSTM(8, 3, batch_first=True)), 2 * 12 * 12 * (8 + 3)),
    "flex attention": (Net(attending), 2 * 2 * (4 * 4 * 4) * 2),
}


@pytest.mark.parametrize("name", NEEDING)
def test_a_call_that_needs_values_is_made_for_real(name):
    net, flops = NEEDING[name]
    x = torch.rand(4, 8)
    trace = nnmagic.trace(net, x)

    summary = nnmagic.summary(net, x)

    ran = [row for row in summary.rows if row.call is not None]
    assert [row.output_shape for row in ran] == [call.output_shape for call in trace]
    assert [row.layer for row in ran] == [call.layer for call in trace]
    assert summary.total_flops == flops
    assert not summary.failure


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("an if", "net.fc(x) if x.sum() > 0 else x"),
        ("repeated by computed counts", "“return x.repeat_interleave(counts, 0)”"),
        ("a sparse matrix", "“return torch.sparse.mm(net.adjacency, net.fc(x))”"),
        ("autocast by the device", "“with torch.autocast(device_type=x.device.type):”"),
        ("flex attention", "“return flex_attention("),
    ],
)
def test_one_line_names_the_code_that_needed_values(name, code):
    summary = nnmagic.summary(NEEDING[name][0], torch.rand(4, 8))

    (line,) = (note for note in summary.notes if "run for real" in note)
    assert code in line
    assert f"{Path(__file__).name}:" in line
    assert "real run" in summary.heading


class Leaving(nn.Module):
    """Leaves something in every place that it can reach, and reads a value first."""

    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(5, 8, max_norm=0.1), nn.BatchNorm1d(8)
        self.drop, self.calls, self.seen = nn.Dropout(), 0, []

    def forward(self, x):
        assert x.sum() > 0
        self.calls += 1
        self.seen.append(self.drop(x))
        self.last = x.mul_(2) + random.random()
        y = self.norm(x) + self.words(torch.arange(4))
        y.sum().backward()
        return y


def test_everything_that_a_real_run_changes_is_put_back():
    net, x = Leaving().train(), torch.rand(4, 8)
    before, given = copy.deepcopy(net), x.clone()
    states = torch.get_rng_state(), random.getstate()

    summary = nnmagic.summary(net, x)

    assert "run for real, and everything put back" in str(summary)
    assert torch.equal(x, given)
    assert (net.calls, net.seen, hasattr(net, "last"), net.training) == (0, [], False, True)
    assert all(
        torch.equal(now, before.state_dict()[name]) for name, now in net.state_dict().items()
    )
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_gradients_that_were_there_before_are_there_still():
    net, x = Leaving().train(), torch.rand(4, 8)
    net(x)
    gradients = [parameter.grad for parameter in net.parameters()]
    values = [gradient.clone() for gradient in gradients]

    nnmagic.summary(net, x)

    assert [parameter.grad for parameter in net.parameters()] == gradients
    assert all(map(torch.equal, gradients, values))


def test_a_forward_that_takes_gradients_itself_gets_them():
    def force(net, x):
        x = x.clone().requires_grad_()
        energy = net.fc(x).sum() * x.sum().item()
        return torch.autograd.grad(energy, x)[0]

    summary = nnmagic.summary(linear(force), torch.rand(4, 8))

    assert summary.rows[0].output_shape == (4, 8)


def test_what_a_network_prints_is_seen_once(capsys):
    def talking(net, x):
        print("in", tuple(x.shape))  # noqa: T201 - as people do to see shapes
        y = net.fc(x) if name == "shapes" or x.sum() > 0 else x
        print("out")  # noqa: T201
        return net.fc(y) if name == "fails" else y

    for name in ("shapes", "values", "fails"):
        try:
            nnmagic.summary(linear(talking), torch.ones(4, 8))
        except RuntimeError:
            assert name == "fails"
        assert capsys.readouterr().out == "in (4, 8)\nout\n"


def test_a_debugger_in_a_forward_is_seen_at_once(capsys):
    seen = []

    def asking(net, x):
        print("(Pdb)", flush=True)  # noqa: T201 - as a debugger's prompt
        seen.append(capsys.readouterr().out)
        return net.fc(x)

    nnmagic.summary(linear(asking), torch.ones(4, 8))

    assert seen == ["(Pdb)\n"]


@pytest.mark.parametrize("line", ["net(x)", "net", "net --input-size 4,8", "net.forward(x)"])
def test_the_forms_of_a_line_need_no_option(line, session):
    session.shell.user_ns.update(net=NEEDING["an if"][0], x=torch.rand(4, 8))

    summary = session.run(f"%nnsummary {line}")

    assert summary.rows[0].output_shape[1:] == (3,)
    assert [row.layer for row in summary.rows] == ["", "fc"]
    assert "x.sum() > 0" in str(summary)


def test_the_memory_of_a_training_step_is_told_beside_a_real_run(session):
    session.shell.user_ns.update(net=NEEDING["an if"][0], x=torch.rand(4, 8))

    summary = session.run("%nnsummary net(x) --optimizer adam")

    assert summary.training.gradient_bytes == 4 * (8 * 3 + 3)
    assert summary.training.optimizer_bytes == 2 * summary.training.gradient_bytes + 4 * 2


def test_a_real_run_shows_the_layers_inside_a_fused_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = Net(lambda net, x: net.layer(x) if x.sum() > 0 else x, layer=layer).eval()

    with torch.no_grad():
        summary = nnmagic.summary(net, torch.rand(1, 4, 8))

    assert torch.backends.mha.get_fastpath_enabled()
    assert len([row for row in summary.rows if row.call is not None]) == 2 + 8


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("net(x)", 1),
        ("net", 1),
        ("net --input-size 4,8", 1),
        ("--real net", 1),
        ("--real net(x)", 1),
        ("net(x).sum()", 1),
        ("net(net(x).new_ones(4, 8))", 2),
        ("net(x) --optimizer sgd", 1),
        ("shapes(x)", 0),
        ("shapes", 0),
    ],
)
def test_nothing_is_computed_twice(line, times, session):
    ran = []

    def run(net, x):
        if type(x) is torch.Tensor and x.is_floating_point() and x.is_cpu:
            ran.append(x.shape)
        return net.fc(x) if net is shapes or x.sum() > 0 else x

    net, shapes = linear(run), linear(run)
    session.shell.user_ns.update(net=net, shapes=shapes, x=torch.ones(4, 8))

    session.run(f"%nnsummary {line}")

    assert len(ran) == times


def test_a_run_that_was_not_asked_for_makes_no_graph():
    made = []

    def forward(net, x):
        y = net.fc(x)
        made.append(y)
        return y if y.sum().item() > 0 else -y

    summary = nnmagic.summary(linear(forward), torch.rand(4, 8))

    assert summary.engine == "real run"
    assert not made[-1].requires_grad
