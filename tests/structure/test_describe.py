import copy
import random

import pytest
import torch
from corpus.case import Net
from IPython.core.error import UsageError
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import nnmagic
from nnmagic.structure.describe import ValuesNeededError


def linear(run, **others):
    return Net(run, fc=nn.Linear(8, 3), **others)


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


PRODUCT = 2 * 4 * 8 * 3
"""The operations of the Linear on (4, 8)."""

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
    assert "test_describe.py:" in line
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


WRONG = {
    "a width": lambda net, x: net.fc(x[:, :7]),
    "a width after values": lambda net, x: net.fc(x[:, :7]) if x.sum() > 0 else x,
    "a name": lambda net, x: undefined,  # noqa: F821
    "an assertion of values": lambda net, x: (_ for _ in ()).throw(AssertionError(x.sum().item())),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_network_fails_as_its_own_run_does(name, session):
    net, x = linear(WRONG[name]), torch.ones(4, 8)
    session.shell.user_ns.update(net=net, x=x)
    with pytest.raises(Exception) as own:  # noqa: PT011 - of any type
        net(x)
    with pytest.raises(type(own.value)) as traced:
        session.run("%nntrace net(x)")
    session.displayed.clear()

    with pytest.raises(type(own.value)) as caught:
        session.run("%nnsummary net(x)")

    assert str(caught.value) == str(own.value)
    assert caught.value.__notes__ == [
        note.replace(", called at “net(x)”", "") for note in traced.value.__notes__
    ]
    assert caught.value.__context__ is None
    (shown,) = session.displayed
    assert "FAILED" in shown["text/plain"]


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


def heavy(run):
    net = linear(run)
    net.table = nn.Parameter(torch.empty((1 << 28) + 1))  # a byte or four above 1 GiB, untouched
    return net


REFUSED = {
    "heavy": (lambda: heavy(NEEDING["an item"][0].run), torch.ones(4, 8), "it is heavy, 1.00 GiB"),
    "on meta": (lambda: NEEDING["an item"][0].to("meta"), torch.ones(4, 8), "on meta"),
    "an argument on meta": (
        lambda: linear(NEEDING["an item"][0].run),
        torch.ones(4, 8, device="meta"),
        "an argument is on meta",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_real_run_that_would_be_heavy_or_has_no_values_is_refused(name, session):
    make, x, why = REFUSED[name]
    session.shell.user_ns.update(net=copy.deepcopy(make()) if name == "on meta" else make(), x=x)

    with pytest.raises(ValuesNeededError, match=why):
        nnmagic.summary(session["net"], x)
    with pytest.raises(UsageError) as caught:
        session.run("%nnsummary net(x)")

    assert "x.max().item()" in str(caught.value)
    assert why in str(caught.value)
    assert str(caught.value).endswith("type --real to run it for real")
    assert "\n" not in str(caught.value)


def test_a_heavy_network_is_run_for_real_where_that_is_asked_for(session):
    session.shell.user_ns.update(net=heavy(NEEDING["an item"][0].run), x=torch.ones(4, 8))

    summary = session.run("%nnsummary --real net(x)")

    assert summary.rows[0].output_shape == (4, 3)


@pytest.mark.parametrize("make", [heavy, lambda run: linear(run).to("meta")])
def test_a_network_that_is_wrong_and_not_run_fails_on_meta(make, session):
    session.shell.user_ns.update(net=make(WRONG["a width"]), x=torch.ones(4, 8))

    with pytest.raises(RuntimeError, match="4, 7") as caught:
        session.run("%nnsummary net(x)")

    assert caught.value.__notes__[0].startswith("nnmagic: raised on the meta device in fc (Linear)")


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


def test_a_run_that_was_not_asked_for_makes_no_graph():
    made = []

    def forward(net, x):
        y = net.fc(x)
        made.append(y)
        return y if y.sum().item() > 0 else -y

    summary = nnmagic.summary(linear(forward), torch.rand(4, 8))

    assert summary.engine == "real run"
    assert not made[-1].requires_grad


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


def test_what_is_wrong_is_not_said_to_need_values(session):
    session.shell.user_ns.update(net=linear(WRONG["a width"]), x=torch.ones(4, 8))

    with pytest.raises(RuntimeError):
        session.run("%nnsummary net(x)")

    (shown,) = session.displayed
    assert "real tensors" not in shown["text/plain"]


def test_a_heavy_network_alone_is_refused_for_its_size():
    net = linear(lambda net, x: net.fc(x) if x.sum().item() > 0 else x)
    net.register_buffer("large", torch.empty((1 << 28) + 1))

    with pytest.raises(ValuesNeededError, match="heavy"):
        nnmagic.summary(net)
