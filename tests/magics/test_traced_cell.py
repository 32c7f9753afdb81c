"""The cell form, `%%nntrace`."""

import copy
import re

import pytest
import torch
from torch import nn

from nnmagic import Trace


def test_a_cell_records_all_that_runs_and_gives_its_last_value(session):
    result = session.run(
        "%%nntrace -o walk\n"
        "image = torch.rand(3, 28, 28)\n"
        "flatten = nn.Flatten()\n"
        "flat = flatten(image)\n"
        "hidden = nn.Linear(784, 20)(flat)\n"
        "nn.ReLU()(hidden).shape"
    )

    assert result == (3, 20)
    assert [(call.network, call.output_shape) for call in session["walk"]] == [
        ("flatten", (3, 784)),
        ("Linear", (3, 20)),
        ("ReLU", (3, 20)),
    ]
    assert session["hidden"].shape == (3, 20)
    assert len(session.tables) == 1


def test_a_cell_records_the_named_networks_and_every_nth_step(session, net):
    session.run(
        "%%nntrace net --every 2 -o t\n"
        "optimizer = torch.optim.SGD(net.parameters(), 0.1)\n"
        "for _ in range(5):\n"
        "    loss = nn.MSELoss()(net(torch.rand(2, 784)), torch.zeros(2, 10))\n"
        "    optimizer.zero_grad(); loss.backward(); optimizer.step()"
    )

    frame = session["t"].to_frame()
    assert set(frame.network) == {"net"}
    assert sorted(set(frame.step)) == [0, 2, 4]
    assert "iteration 4 of 5 (3 recorded)" in session.tables[0]


def test_in_a_cell_the_trees_of_one_network_are_told_apart_by_their_calls(session, net):
    session.run(
        "%%nntrace -o t\n"
        "for n in (1, 2):\n"
        "    net(torch.rand(n, 784)) - net(torch.zeros(n, 784))\n"
        "    y = net.eval()(torch.rand(n, 784)); net.train()"
    )

    table = session["t"].table()
    labels = [row.label for row in table.rows if row.level == 0]
    calls = ["net(torch.rand(n, 784))", "net(torch.zeros(n, 784))"]
    assert labels == [*calls, "net at “net.eval()(torch.rand(n, 784))”"]
    assert "iteration 1 of 2" in table.heading
    assert [note for note in table.notes if f"{labels[-1]}: item 2 read as class scores" in note]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("net(x)\nnet(x)\nnet(-x)", ["net(x) (line 2)", "net(x) (line 3)", "net(-x)"]),
        ("net(x)\ny = net(x)", ["net(x) (line 2)", "net(x) (line 3)"]),
        (
            "net.train()(x)\nnet.train()(x)",
            ["net at “net.train()(x)” (line 2)", "net at “net.train()(x)” (line 3)"],
        ),
        (
            "net(x)\nnet(x)\nnet.eval()\nnet(x)",
            ["net(x) (line 2) (train)", "net(x) (line 3) (train)", "net (eval)"],
        ),
        ("y = net(x), net(x)", ["net(x) (1 of 2)", "net(x) (2 of 2)"]),
    ],
)
def test_trees_whose_calls_read_the_same_are_told_apart_by_their_line(session, net, cell, expected):
    session.run("x = torch.rand(1, 784)")
    session.run(f"%%nntrace -o t\n{cell}\n0")
    trace = session["t"]

    assert [row.label for row in trace.table().rows if row.level == 0] == expected
    for shown in (str(trace), trace.to_markdown(), trace.show(static=True)._repr_html_()):
        text = shown.replace("\N{NO-BREAK SPACE}", " ")
        assert all(text.count(f"{label} ") or text.count(f"{label}</") for label in expected)
    assert set(trace.history(series=True).series) == set(expected)


def test_magics_inside_a_cell_work(session, net):
    session.run("%%nntrace\nt = %nntrace net(torch.rand(1, 784))\n%nnsummary net\nx = 1")

    assert type(session["t"]) is Trace
    assert [text.split(" ")[0] for text in session.tables] == ["net", "cell"]


def test_a_cell_without_a_module_says_so(session):
    session.run("%%nntrace\nx = 1")

    assert session.tables == ["cell · no layer ran"]


def test_a_silenced_cell_still_shows_its_trace(session):
    assert session.run("%%nntrace\nnn.ReLU()(torch.ones(2));") is None
    assert len(session.tables) == 1


def test_an_exception_leaves_a_cell_as_it_would_without_the_magic(session, net):
    with pytest.raises(ZeroDivisionError):
        session.run("%%nntrace -o t\nnet(torch.rand(1, 784))\n1 / 0")

    assert len(session["t"]) == 5
    assert len(session.tables) == 1
    with pytest.raises(SyntaxError):
        session.run("%%nntrace\nnet(")


def test_a_cells_traceback_shows_its_own_line(session, capsys):
    session.shell.InteractiveTB.set_mode("Context")
    with pytest.raises(ZeroDivisionError):
        session.run("%%nntrace\nx = 1\nx / 0")

    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "----> 3 x / 0" in printed


LOOP = (
    "optimizer = torch.optim.SGD(net.parameters(), 0.1)\n"
    "for i in range(6):\n"
    "    loss = net(torch.rand(2, 784)).square().mean()\n"
    "    optimizer.zero_grad(); loss.backward(); optimizer.step()\n"
)


def test_a_cell_runs_the_network_on_a_probe(session, net):
    twin = copy.deepcopy(net)
    session.run(f"torch.manual_seed(3)\n{LOOP}")
    plain, net_after = net.state_dict(), torch.get_rng_state()
    session.shell.user_ns["net"] = twin
    head = "%%nntrace net --probe torch.rand(3,784) -o t --every 2"

    session.run(f"{head}\ntorch.manual_seed(3)\n{LOOP}")

    rows = session["t"].history().query("network == 'net (probe)' and layer == '3'")
    assert sorted(set(rows.iteration)) == [0, 2, 4]
    assert session["t"]["net (probe):"].output_shape == (3, 10)
    assert all(plain[name].equal(value) for name, value in twin.state_dict().items())
    assert net_after.equal(torch.get_rng_state())


def test_a_probe_is_for_a_cell(session, net):
    assert "%%nntrace" in session.refusal("%nntrace net(torch.rand(2, 784)) --probe 1")


def test_an_interrupted_loop_says_after_how_many_iterations(session, net):
    with pytest.raises(KeyboardInterrupt):
        session.run(f"%%nntrace net --grad -o t\n{LOOP}    if i == 4: raise KeyboardInterrupt")

    assert "interrupted after 5 iterations" in session.tables[0]
    losses = session["t"].history().query("quantity == 'loss'")
    assert losses.iteration.tolist() == [0, 1, 2, 3, 4]
    assert not any(each._post_accumulate_grad_hooks for each in net.parameters())


def test_a_cell_has_functions_and_gradients(session, net):
    session.run(
        "%%nntrace --ops --grad -o t\nloss = net(torch.rand(3, 28, 28)).square().mean()\n"
        "loss.backward()"
    )

    trace = session["t"]
    assert trace["mean()"].gradient.values == 1.0
    assert trace["1"].own_grad_norm > 0


def test_a_weight_that_the_cell_changes_before_the_first_call_is_no_unchanged_network(session):
    session.shell.user_ns["net"] = nn.Linear(3, 2)
    session.shell.user_ns["x"] = torch.rand(4, 3)
    change = "with torch.no_grad(): net.weight.copy_(torch.zeros(2, 3))\nnet(x)"

    for magic in ("%%nntrace -o t net", "%%nntrace -o t"):
        session.run(f"{magic}\n{change}")
        assert "the run changed 1 of its tensors: weight" in session["t"].log.notes
    session.run("t = %nntrace net(net.weight.data.mul_(2) @ x.T)[:0] if False else net(x)")
    assert "network unchanged" in session["t"].log.notes
    session.run("t = %nntrace (net.weight.data.add_(1), net(x))[1]")
    assert "the run changed 1 of its tensors: weight" in session["t"].log.notes


def test_one_expression_in_two_loops_is_told_apart_by_the_mode(session, net):
    session.run(
        "%%nntrace net -o t\nx = torch.rand(2, 1, 28, 28)\ny = net(x)\n_ = net.eval()\nz = net(x)\n"
    )
    names = [row.label for row in session["t"].table().rows if row.level == 0]

    assert names == ["net (train)", "net (eval)"]
