"""`%nntrace` of an expression, of a network alone, and of a run that ends early."""

import pytest
import torch
from torch import nn


def test_the_default_network_is_read_as_class_scores(session):
    trace = session.run("%nntrace")
    chances = trace.output.softmax(1)[0]

    best = int(chances.argmax())
    expected = f"read as class scores: {best} is the largest of 10 ({chances[best]:.1%}"
    assert expected.replace("%", " %") in str(trace)


def test_an_expression_is_evaluated_once_in_the_users_own_mode(session, net):
    session.run("calls = []\ndef once():\n    calls.append(1)\n    return torch.rand(3, 28, 28)")

    trace = session.run("%nntrace net(once())")

    assert session["calls"] == [1]
    assert trace.output.requires_grad
    assert [call.layer for call in trace] == ["", "0", "1", "2", "3"]
    assert trace[""].network == "net"


def test_a_network_alone_runs_on_an_input_that_is_worked_out(session, net):
    trace = session.run("%nntrace net")

    assert trace[""].input_shape == (1, 784)
    assert net.training
    assert "net on torch.rand(1, 784)" in str(trace)


def test_any_expression_in_which_modules_run_is_traced(session, net):
    session.run(
        "loss_fn = nn.CrossEntropyLoss(); x, y = torch.rand(3, 28, 28), torch.zeros(3).long()"
    )

    trace = session.run("%nntrace loss_fn(net(x), y) * 2")

    frame = trace.to_frame()
    assert frame.network.tolist() == ["net"] * 5 + ["loss_fn"]
    assert frame.call.tolist() == list(range(6))
    assert trace["loss_fn:"].output_shape == ()


def test_a_failing_forward_shows_the_partial_trace_and_raises_the_users_exception(
    session, net, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        session.run("%nntrace net(torch.rand(3, 20)) -o t")

    (text,) = session.tables
    assert text.startswith("net(torch.rand(3, 20)) failed in net.1 · 1 call finished")
    assert "FAILED got (3, 20), weight is (20, 784): the last axis must be 784, it is 20" in text
    assert session["t"].failed.layer == "1"
    assert caught.value.__notes__[0].startswith("nnmagic: raised in net.1 (Linear)")


def test_an_error_of_the_expression_itself_is_the_users_own(session):
    with pytest.raises(NameError, match="nowhere"):
        session.run("%nntrace nowhere(3)")

    assert session.displayed == []


def test_an_interrupt_shows_what_ran_and_goes_on(session):
    session.run(
        "class Stop(nn.Module):\n"
        "    def forward(self, x):\n"
        "        raise KeyboardInterrupt\n"
        "net = nn.Sequential(nn.ReLU(), Stop())"
    )
    call = nn.Module.__call__.__code__

    with pytest.raises(KeyboardInterrupt):
        session.run("%nntrace net(torch.ones(2))")

    assert "interrupted in net.1 · 1 call finished" in session.tables[0]
    assert nn.Module.__call__.__code__ is call


def test_our_frames_are_hidden_in_a_traceback(session, net, capsys):
    session.shell.InteractiveTB.set_mode("Context")
    with pytest.raises(RuntimeError):
        session.run("%nntrace net(torch.rand(3, 20))")

    printed = capsys.readouterr().out
    assert "mat1 and mat2" in printed
    assert "nnmagic/" not in printed


def test_names_that_are_taken_get_a_number(session):
    trace = session.run("%nntrace nn.ReLU()(nn.ReLU()(torch.ones(2)))")

    assert trace.to_frame().network.tolist() == ["ReLU", "ReLU#2"]
    with pytest.raises(KeyError, match="several networks have"):
        trace[""]


def test_a_method_that_calls_a_part_is_named_from_the_network(session):
    session.run(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.encoder = nn.Linear(4, 2)\n"
        "    def generate(self, x):\n"
        "        return self.encoder(self.encoder(x)[:, [0, 1, 0, 1]])\n"
        "net = Net()"
    )

    frame = session.run("%nntrace net.generate(torch.rand(1, 4))").to_frame()

    assert frame[["network", "layer", "step", "depth"]].values.tolist() == [
        ["net", "encoder", 0, 0],
        ["net", "encoder", 1, 0],
    ]


def test_the_functions_between_the_layers_are_rows(session, net):
    trace = session.run("%nntrace --ops net(torch.rand(3, 28, 28)).relu() + 1")

    layers = [call.layer for call in trace]
    assert layers == ["rand()", "", "0", "1", "2", "3", "relu()", "add()"]


def test_functions_alone_are_traced_only_where_they_are_asked_for(session):
    trace = session.run("%nntrace --ops torch.ones(2, 3).softmax(1)")

    assert trace["softmax()"].mean == pytest.approx(1 / 3)
    assert "no layer ran in" in session.refusal("%nntrace torch.ones(2, 3).softmax(1)")


def test_the_gradients_of_a_backward_in_the_line_are_columns(session, net):
    trace = session.run("%nntrace --grad net(torch.rand(3, 28, 28)).sum().backward()")

    assert trace["3"].gradient.values == [[1.0] * 10] * 3
    assert "gradient norm" in str(trace)


@pytest.mark.parametrize("line", ["%nntrace --grad", "%nntrace net --grad"])
def test_gradients_need_a_backward_of_the_users_own(session, net, line):
    assert "--grad needs a backward pass; type one" in session.refusal(line)


def test_a_live_widget_has_no_functions_and_no_gradients(session, net):
    assert "leave out --ops and --grad" in session.refusal("%nntrace --live --ops net")


def test_a_line_or_cell_that_fails_outside_its_layers_is_headed_so(session):
    session.shell.user_ns.update(net=nn.Linear(3, 2), x=torch.rand(4, 3))
    session.run("import torch.nn.functional as F")

    for typed in (
        "%nntrace --grad F.cross_entropy(net(x), torch.tensor([0, 1, 2, 5])).backward()",
        "%%nntrace\nnet(x)\nF.cross_entropy(net(x), torch.tensor([0, 1, 2, 5]))",
    ):
        session.displayed.clear()
        with pytest.raises(IndexError):
            session.run(typed)
        (text,) = [each["text/plain"] for each in session.displayed]
        assert "failed outside the layers" in " ".join(text.split())
        assert "IndexError: Target 2 is out of bounds" in text
        assert "call .backward() inside" not in text
