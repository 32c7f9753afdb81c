"""What the words of the options do, and the line that refuses a wrong one."""

import re

import pytest
import torch
from torch import nn


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%nnsummary 3", "%nnsummary: no layer ran in '3' (it gave an int); type a network or"),
        ("%nnsummary net --bad", "%nnsummary: unknown option --bad; there are --depth"),
        ("%nnsummary net(", "%nnsummary: 'net(' is not a Python expression"),
        ("%nnsummary net --input-size 1,x", "takes whole numbers with commas, the batch first"),
        ("%nnsummary net --input-size 1,20", "Sequential.1 (Linear)"),
        ("%nntrace net --input-size 1,20", "the last axis must be 784, it is 20"),
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


def test_a_step_can_be_chosen(session, net):
    session.run("for_steps = [torch.rand(n, 784) for n in (1, 2, 3)]")

    trace = session.run("%nntrace [net(x) for x in for_steps] --step 1")

    assert "(2, 10)" in str(trace)
    assert "(3, 10)" not in str(trace)
    assert "net has no iteration 7: 0, 1, 2 were recorded" in str(trace.show(step=7))


def test_a_device_is_that_of_the_default_network_and_of_made_inputs(session, net):
    assert session.run("%nntrace --device cpu")[""].device == "cpu"
    assert session.run("%nntrace net --device cpu --input-size 2,784")[""].device == "cpu"


@pytest.mark.parametrize("magic", ["nntrace", "nnsummary", "nnparams"])
def test_the_help_shows_every_option_with_an_example(session, magic):
    function = session.shell.find_line_magic(magic)
    text = function.__doc__

    for action in function.parser._actions:
        flag = action.option_strings[-1]
        assert flag in text
        assert any(option in action.help for option in action.option_strings), flag
    assert f"%{magic} net" in text


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
