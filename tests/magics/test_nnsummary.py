"""`%nnsummary` of a call, of a network alone, and of a call that fails."""

import copy

import pytest
import torch
from torch import nn


def test_summary_of_a_call_makes_the_call_on_meta(session, net):
    before = copy.deepcopy(net)
    session.run("calls = []\ndef once():\n    calls.append(1)\n    return torch.rand(3, 28, 28)")

    summary = session.run("%nnsummary net(once())")

    assert session["calls"] == [1]
    assert summary.engine == ""  # from shapes alone
    assert summary.rows[0].output_shape == (3, 10)
    assert all(
        torch.equal(a, b) for a, b in zip(net.parameters(), before.parameters(), strict=True)
    )


def test_an_optimizer_asks_for_the_memory_of_a_training_step(session, net):
    alone = session.run("%nnsummary net --optimizer Adam").training
    called = session.run("%nnsummary --optimizer momentum net(torch.rand(8, 28, 28))").training

    parameters = 4 * (784 * 20 + 20 + 20 * 10 + 10)
    saved = 4 * (784 + 20)  # the inputs of both linear layers; a ReLU saves what the second gets
    assert alone.optimizer == "adam"
    assert (alone.gradient_bytes, alone.saved_bytes) == (parameters, saved)
    assert alone.optimizer_bytes == 2 * parameters + 4 * 4
    assert (called.optimizer_bytes, called.saved_bytes) == (parameters, 8 * saved)
    assert "'momentum'" in session.refusal("%nnsummary net --optimizer adamm")


def test_summary_takes_a_method_and_a_factory(session):
    session.run(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(4, 2)\n"
        "    def score(self, x):\n"
        "        return self.fc(x).sum()\n"
        "    def forward(self, x):\n"
        "        return self.fc(x)\n"
        "net = Net()"
    )

    summary = session.run("%nnsummary net.score(torch.rand(3, 4))")
    assert [row.layer for row in summary.rows] == ["fc"]
    assert session.run("%nnsummary Net()").rows[0].input_shape == (1, 4)
    assert session.run("%nnsummary net.eval()").total_params == 10
    assert not session["net"].training


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "%nnsummary net(torch.rand(3, 20))",
            "failed: net.1 (Linear) got (3, 20), weight is (20, 784)",
        ),
        ("%nnsummary net([torch.rand(2, 784), torch.ones(2)])", "a DataLoader's batch?"),
        ("s = %nnsummary net(torch.rand(3, 20))", "the last axis must be 784, it is 20"),
        ("%nnsummary net.forward(torch.rand(3, 20));", "the last axis must be 784, it is 20"),
        ("%nnsummary net()", "net (Sequential) takes (input): missing a required"),
    ],
)
def test_a_failing_summary_shows_the_table_in_every_form(session, net, line, says):
    with pytest.raises((RuntimeError, AttributeError, TypeError)) as caught:
        session.run(line)

    (text,) = session.tables
    assert says in " ".join(text.split())
    assert "not called" in text
    assert "interactiveshell" not in text
    assert caught.value.__notes__[0].startswith("nnmagic: raised in net")


def test_an_interrupted_summary_shows_what_ran(session):
    session.run(
        "class Stop(nn.Module):\n"
        "    def forward(self, x):\n"
        "        raise KeyboardInterrupt\n"
        "net = nn.Sequential(nn.ReLU(), Stop())"
    )

    with pytest.raises(KeyboardInterrupt):
        session.run("%nnsummary net(torch.rand(3, 20))")

    assert "failed: net.1 (Stop)" in session.tables[0]


def test_the_tutorials_summary_has_the_published_figures(session):
    session.run(
        "model = nn.Sequential(nn.Flatten(), nn.Linear(2352, 20), nn.ReLU(), nn.Linear(20, 10))"
    )

    summary = session.run("%nnsummary model --input-size 1,3,28,28")

    frame = summary.to_frame().set_index("layer")
    assert frame.output_shape.tolist() == [(1, 10), (1, 2352), (1, 20), (1, 20), (1, 10)]
    assert frame.params.tolist() == [47_270, 0, 47_060, 0, 210]
    assert (summary.total_params, summary.trainable_params, summary.non_trainable_params) == (
        47_270,
        47_270,
        0,
    )
    assert (summary.input_bytes, summary.output_bytes) == (4 * 2352, 4 * (2352 + 20 + 20 + 10))
    assert summary.param_bytes == 4 * 47_270


@pytest.mark.parametrize("option", ["", "--engine torchinfo"])
@pytest.mark.parametrize("line", ["net.head", "net.head(x)"])
def test_a_layer_alone_has_the_names_of_its_network(option, line, session):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)
            self.head = nn.Sequential(nn.Linear(4, 2), nn.ReLU())

    session.shell.user_ns.update(net=Net(), x=torch.rand(3, 4))

    summary = session.run(f"%nnsummary {option} {line}")

    assert [row.layer for row in summary.rows] == ["head", "head.0", "head.1"]
    assert {row.network for row in summary.rows} == {"net"}
    assert all(row.call is not None for row in summary.rows)
    assert summary.total_params == 10
