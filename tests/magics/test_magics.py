import copy
import re

import pytest
import torch
from IPython.core.error import UsageError
from torch import nn

import nnmagic
from nnmagic import Params, Summary, Trace

SEQUENTIAL = "net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))"


@pytest.fixture
def net(session):
    session.run(f"torch.manual_seed(0); {SEQUENTIAL}")
    return session["net"]


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


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%nnsummary 3", "%nnsummary: no layer ran in '3' (it gave an int); type a network or"),
        ("%nnsummary net --bad", "%nnsummary: unknown option --bad; there are --depth"),
        ("%nnsummary net(", "%nnsummary: 'net(' is not a Python expression"),
        ("%nnsummary net --input-size 1,x", "takes whole numbers with commas, the batch first"),
        ("%nnsummary net --input-size 1,20", "Sequential.1 (Linear)"),
        ("%nnsummary net --sort colour", "no column 'colour' to sort by; there are params"),
        ("%nnsummary net(torch.rand(1, 784)) --input-size 1,784", "already has an input"),
        ("%nnsummary net --dtype int64", "--dtype needs --input-size"),
        ("%nnparams net(torch.rand(1, 784))", "type the network alone: net"),
        ("%nnparams 3", "gives an int; type a network or a state dict"),
        ("%nnparams {'a': 1}", "the mapping holds no tensors"),
        ("%nntrace len('abc')", "no layer ran in \"len('abc')\" (it gave an int)"),
        (
            "%nntrace net --depth two",
            "argument --depth: takes a whole number, 0 or more, not 'two'",
        ),
        ("%nntrace net --keep some", "argument --keep: invalid choice: 'some'"),
        ("%nntrace net --device nowhere", "cannot use the device 'nowhere'"),
        ("%nntrace net -o 3x", "takes a variable's name, not '3x'"),
        ("%nntrace net --classes missing", "'missing' is none"),
        ("%nntrace net --lively", "unknown option --lively"),
        ("%%nntrace other\nnet(1)", "%%nntrace: 'other' is not the name of a network"),
        ("%%nntrace\nawait x", "%%nntrace: a traced cell cannot await"),
    ],
)
def test_a_mistake_in_the_line_is_one_line_that_says_what_to_type(session, net, line, says):
    assert says in session.refusal(line)


def test_a_refused_size_names_what_is_wanted(session, net):
    text = session.refusal("%nntrace net --input-size 1,20")

    assert "the last axis must be 784, it is 20" in text


def test_summary_of_a_call_makes_the_call_on_meta(session, net):
    before = copy.deepcopy(net)
    session.run("calls = []\ndef once():\n    calls.append(1)\n    return torch.rand(3, 28, 28)")

    summary = session.run("%nnsummary net(once())")

    assert session["calls"] == [1]
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


def test_a_failing_summary_shows_what_ran(session, net):
    with pytest.raises(RuntimeError):
        session.run("%nnsummary net(torch.rand(3, 20))")

    (text,) = session.tables
    assert "failed: net.1 (Linear) got (3, 20), weight is (20, 784)" in text


@pytest.mark.parametrize(
    ("line", "says"),
    [
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


def test_display_options_change_the_display_only(session, net):
    trace = session.run("%nntrace net(torch.rand(2, 784)) --depth 0 --classes a,b,c,d,e,f,g,h,i,j")

    assert len(trace.to_frame()) == 5
    assert "ReLU" not in str(trace)
    assert re.search(r"item 1 read as class scores: [a-j] is the largest of 10", str(trace))


def test_values_are_shown_where_they_are_asked_for(session, net):
    trace = session.run("%nntrace net(torch.ones(3, 784)) --values 1")

    first = trace["3"].outputs[0].values[0]
    assert f"[{first[0]:.3f}, {first[1]:.3f}, " in str(trace)


def test_classes_may_be_the_name_of_a_list(session, net):
    session.run("names = [f'class-{i}' for i in range(10)]")

    assert "class-" in str(session.run("%nntrace net(torch.rand(1, 784)) --classes names"))


def test_keep_all_keeps_every_value(session, net):
    session.run("x = torch.rand(3, 784)")

    trace = session.run("%nntrace net(x) --keep all")

    assert trace["0"].outputs[0].values == session["x"].tolist()
    assert session.run("%nntrace net(x) --keep none")["0"].outputs[0].values is None


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


def test_our_frames_are_hidden_in_a_traceback(session, net, capsys):
    session.shell.InteractiveTB.set_mode("Context")
    with pytest.raises(RuntimeError):
        session.run("%nntrace net(torch.rand(3, 20))")

    printed = capsys.readouterr().out
    assert "mat1 and mat2" in printed
    assert "nnmagic/" not in printed


def test_a_step_can_be_chosen(session, net):
    session.run("for_steps = [torch.rand(n, 784) for n in (1, 2, 3)]")

    trace = session.run("%nntrace [net(x) for x in for_steps] --step 1")

    assert "(2, 10)" in str(trace)
    assert "(3, 10)" not in str(trace)
    assert "net has no iteration 7: 0, 1, 2 were recorded" in str(trace.show(step=7))


def test_a_device_is_that_of_the_default_network_and_of_made_inputs(session, net):
    assert session.run("%nntrace --device cpu")[""].device == "cpu"
    assert session.run("%nntrace net --device cpu --input-size 2,784")[""].device == "cpu"


def test_braces_and_dollars_are_left_as_typed(session, net):
    trace = session.run("%nntrace {'a': net(torch.rand(1, 784))}['a']")

    assert len(trace) == 5


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


@pytest.mark.parametrize("magic", ["nntrace", "nnsummary", "nnparams"])
def test_the_help_shows_every_option_with_an_example(session, magic):
    function = session.shell.find_line_magic(magic)
    text = function.__doc__

    for action in function.parser._actions:
        flag = action.option_strings[-1]
        assert flag in text
        assert any(option in action.help for option in action.option_strings), flag
    assert f"%{magic} net" in text


def test_gradients_are_those_that_the_parameters_have_now(session, net):
    session.run("net(torch.rand(2, 784)).sum().backward()")

    found = session.run("%nnparams net --grad --sort grad_norm")
    none = session.run("%nnparams --grad")

    assert found["3.bias"].grad_norm == pytest.approx(net[3].bias.grad.norm().item())
    assert "no parameter has a gradient: run a backward first" in str(none)
    assert "the gradients are needed: --grad" in session.refusal("%nnparams net --sort grad_norm")
    assert "%nnparams: unknown option --real" in session.refusal("%nnparams net --real")


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


def test_one_expression_in_two_loops_is_told_apart_by_the_mode(session, net):
    session.run(
        "%%nntrace net -o t\nx = torch.rand(2, 1, 28, 28)\ny = net(x)\n_ = net.eval()\nz = net(x)\n"
    )
    names = [row.label for row in session["t"].table().rows if row.level == 0]

    assert names == ["net (train)", "net (eval)"]


@pytest.mark.parametrize("magic", ["nntrace", "nnsummary"])
def test_what_patterns_name_is_shown_at_any_depth(magic, session):
    deep = nn.Linear(3, 3)
    for _ in range(5):
        deep = nn.Sequential(deep)
    session.shell.user_ns.update(deep=deep, x=torch.rand(2, 3))

    record = session.run(f"%{magic} --layers 0.0.0.0.0 deep(x)")

    assert "Linear" in str(record)
    assert "Linear" not in str(record.show(depth=2))


def test_sorted_layers_stop_at_the_depth(session):
    session.shell.user_ns.update(
        net=nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 3))), x=torch.rand(2, 4)
    )

    summary = session.run("%nnsummary --sort flops --depth 1 net(x)")

    assert [row.name for row in summary.table().rows] == ["net", "0", "1"]


def test_an_unused_device_is_told_of_in_a_summary_too(session):
    session.shell.user_ns.update(net=nn.Linear(4, 8), x=torch.rand(2, 4))

    assert "--device" in str(session.run("%nnsummary --device cpu net(x)"))


def test_a_lambda_is_told_to_be_called_in_brackets(session):
    session.shell.user_ns.update(net=nn.Linear(4, 8), x=torch.rand(2, 4))

    with pytest.raises(UsageError, match=r"\(lambda: net\(x\)\)\(\)"):
        session.run("%nntrace lambda: net(x)")


def test_a_module_without_a_forward_is_not_told_to_rename_it(session):
    session.shell.user_ns.update(nn=nn)

    with pytest.raises(UsageError) as caught:
        session.run("%nntrace nn.Module()")

    assert "rename" not in str(caught.value)
