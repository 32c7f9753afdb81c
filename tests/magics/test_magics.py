"""The magics with nothing behind them, and wherever in a cell they stand."""

import torch

import nnmagic
from nnmagic import Params, Summary, Trace


def test_with_no_argument_the_default_network_is_shown(session):
    trace = session.run("%nntrace")
    summary = session.run("%nnsummary")
    params = session.run("%nnparams")

    assert (type(trace), len(trace)) == (Trace, 8)
    assert trace[""].output_shape == (1, 10)
    assert trace[""].network == "NeuralNetwork"
    assert torch.equal(trace.output, nnmagic.default_network()(nnmagic.default_input()))
    assert (type(summary), summary.total_params, summary.total_flops) == (
        Summary,
        669_706,
        1_337_344,
    )
    assert (type(params), params.total) == (Params, 669_706)


def test_a_line_magic_can_be_assigned_and_then_shows_nothing(session, net):
    session.run("t = %nntrace net(torch.rand(2, 784))")

    assert type(session["t"]) is Trace
    assert session.tables == []


def test_a_statement_of_its_own_is_shown_once_wherever_it_stands(session, net):
    session.run("x = torch.rand(2, 784)\n%nntrace net(x)\ny = 1")
    session.run("for i in range(2):\n    %nntrace net(x)")
    session.run("def f(z):\n    %nnsummary net(z)\n    t = %nntrace net(z)\n    return t")
    session.run("if True:\n    f(x);")

    assert [text.split(" ")[0] for text in session.tables] == [
        "net(x)",
        "net(x)",
        "net(x)",
        "net(z)",
    ]


def test_a_semicolon_silences_a_statement(session, net):
    assert session.run("%nntrace net(torch.rand(2, 784));") is None
    session.run("%nntrace net(torch.rand(2, 784));\nx = 1")

    assert session.displayed == []


def test_the_last_statement_is_the_cells_result(session, net):
    result = session.run("x = torch.rand(2, 784)\n%nntrace net(x)")

    assert type(result) is Trace
    assert session.shell.user_ns["_"] is result


def test_local_names_are_seen_where_the_magic_is_in_a_function(session, net):
    session.run(
        "def f(images):\n"
        "    scale = 2\n"
        "    t = %nntrace [net(image * scale) for image in images]\n"
        "    return t"
    )

    trace = session.run("f([torch.rand(1, 784)] * 2)")

    assert trace.to_frame().step.tolist() == [0] * 5 + [1] * 5


def test_a_walrus_stays_in_the_notebook(session, net):
    session.run("%nntrace net(kept := torch.rand(2, 784));")

    assert session["kept"].shape == (2, 784)


def test_the_result_is_stored_under_a_name(session, net):
    session.run("%nntrace net(torch.rand(2, 784)) -o first;")
    session.run("%nnsummary --output second net;")

    assert type(session["first"]) is Trace
    assert type(session["second"]) is Summary


def test_braces_and_dollars_are_left_as_typed(session, net):
    trace = session.run("%nntrace (text := '$net {net}') and net(torch.rand(1, 784))")

    assert len(trace) == 5
    assert session["text"] == "$net {net}"
