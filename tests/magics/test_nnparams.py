"""`%nnparams`: gradients, what `--against` takes, and what it says of a wrong one."""

import copy
import os

import pytest
import torch
from IPython.core.error import UsageError

import nnmagic


@pytest.fixture
def home(session, tmp_path, monkeypatch):
    """A session in a folder of its own, with a network, a changed copy, and files of it."""
    monkeypatch.chdir(tmp_path)
    session.run("torch.manual_seed(0); net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))")
    session.run("import copy, pathlib, nnmagic; other = copy.deepcopy(net)")
    session.run("with torch.no_grad(): other[0].weight[1, 2] += 1")
    session.run("state = other.state_dict(); record = nnmagic.params(other); number = 3")
    torch.save(session["state"], tmp_path / "net.pt")
    torch.save(session["state"], tmp_path / "my file.pt")
    session.run("here = pathlib.Path('net.pt')")
    return session


@pytest.mark.parametrize(
    "typed",
    [
        "other",
        "state",
        "other.state_dict()",
        'torch.load("net.pt")',
        '"{k: v for k, v in state.items()}"',
        "net.pt",
        "./net.pt",
        "'net.pt'",
        '"my file.pt"',
        "\"'net.pt'\"",
        "here",
        "record",
    ],
)
def test_an_expression_a_path_and_a_record_are_taken(home, typed):
    comparison = home.run(f"%nnparams --against {typed} net")

    assert type(comparison) is nnmagic.ParamsComparison
    frame = comparison.to_frame()
    assert {"name", "shape", "dtype", "verdict", "error", "max_abs", "cosine"} <= set(frame)
    assert list(frame.name[frame.verdict == "changed"]) == ["0.weight"]
    assert set(frame.verdict) == {"changed", "equal"}
    assert "net against" in comparison.heading


def test_the_option_may_stand_behind_and_before_others(home):
    comparison = home.run("c = %nnparams net --against=net.pt --sort error --top 1 -o d")

    assert comparison is None
    assert home["c"] == home["d"]
    assert home["c"].view.top == 1
    assert len(home["c"]) == 7


def test_without_an_expression_it_is_the_default_network(home):
    home.run("default = nnmagic.default_network()")

    comparison = home.run("%nnparams --against default")

    assert comparison.counts == {"equal": 6}


def test_a_name_of_the_notebook_comes_before_a_file_of_that_name(home):
    os.mkdir("other")

    assert home.run("%nnparams --against other net").counts == {"changed": 1, "equal": 6}


def test_a_function_sees_its_own_names(home):
    home.run("def f(mine, his):\n    return get_ipython().run_line_magic('nnparams', "
             "'--against his mine')\nc = f(net, other)")  # fmt: skip

    assert home["c"].counts == {"changed": 1, "equal": 6}


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("nothing", ["'nothing' is no name here and no file", "type a network"]),
        ("nothing.state_dict()", ["no name here and no file"]),
        ("nothing.pt", ["no file 'nothing.pt'"]),
        ("no/such/file.safetensors", ["no file 'no/such/file.safetensors'"]),
        ("number", ["gives an int", "type a network"]),
        ("state['0.weight']", ["gives a Tensor"]),
        ("nn.Linear", ["gives the class Linear"]),
        ("{'a':1}", ["holds no tensors"]),
        ("text.md", ["text.md cannot be compared"]),
        ("'net('", ["no name here and no file"]),
    ],
)
def test_a_wrong_one_is_told_in_one_line(home, typed, parts):
    with open("text.md", "w") as file:
        file.write("# not tensors")

    with pytest.raises(UsageError) as caught:
        home.run(f"%nnparams --against {typed} net")

    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("%nnparams: ")
    assert all(part in text for part in parts)


def test_gradients_are_not_compared(home):
    with pytest.raises(UsageError, match="leave out --grad"):
        home.run("%nnparams --grad --against other net")


def test_an_error_of_the_expression_is_the_users_own(home):
    with pytest.raises(ZeroDivisionError):
        home.run("%nnparams --against 1/0 net")


def test_neither_network_is_changed(home):
    before = copy.deepcopy(home["net"].state_dict())

    home.run("%nnparams --against other net")

    assert all(torch.equal(before[k], v) for k, v in home["net"].state_dict().items())
    assert home["net"].training


def test_the_line_says_what_to_type_where_all_names_miss(home):
    home.run("wrapped = nn.DataParallel(other)")

    comparison = home.run("%nnparams --against wrapped net")

    typed = comparison.notes[0].rpartition("type ")[2]
    assert typed == 'nnmagic.compare(net, wrapped, rename={"*": "module.*"})'
    assert home.run(typed).counts == {"changed": 1, "equal": 6}


def test_gradients_are_those_that_the_parameters_have_now(session, net):
    session.run("net(torch.rand(2, 784)).sum().backward()")

    found = session.run("%nnparams net --grad --sort grad_norm")
    none = session.run("%nnparams --grad")

    assert found["3.bias"].grad_norm == pytest.approx(net[3].bias.grad.norm().item())
    assert "no parameter has a gradient: run a backward first" in str(none)
    assert "the gradients are needed: --grad" in session.refusal("%nnparams net --sort grad_norm")
    assert "%nnparams: unknown option --real" in session.refusal("%nnparams net --real")
