"""`%nntrace --against`: words, networks, traces, files, and what is none of them."""

import pytest
import torch
from IPython.core.error import UsageError
from torch import nn

from nnmagic import Comparison

NET = (
    "net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval(); x = torch.rand(4, 6)"
)


@pytest.fixture
def run(session):
    session.run(
        f"import copy; torch.manual_seed(0); {NET}; x = torch.rand(4, 6); "
        "other = copy.deepcopy(net)"
    )
    session.run("other[2].weight.data *= 1.1")
    return session.run


@pytest.mark.parametrize(
    "word",
    [
        "eval",
        "train",
        "float64",
        "bfloat16",
        "float16",
        "items",
        pytest.param("compiled", marks=pytest.mark.slow),
    ],
)
def test_a_word_is_a_copy_so_changed(run, session, word):
    before = {key: value.clone() for key, value in session["net"].state_dict().items()}

    comparison = run(f"%nntrace --against {word} net(x)")

    assert type(comparison) is Comparison
    assert comparison.first_divergence is None
    assert f"against {word}" in str(comparison)
    assert not session["net"].training
    for key, value in session["net"].state_dict().items():
        assert torch.equal(before[key], value)


def test_another_network_a_trace_and_a_file_are_the_other_side(run, session, tmp_path):
    path = tmp_path / "other.safetensors"
    run("t = %nntrace other(x)")
    session["t"].save(path)
    session.shell.user_ns["path"] = str(path)

    for what in ("other", "t", f'"{path}"', "path", "copy.copy(other)"):
        found = run(f"%nntrace --against {what} net(x)")
        assert found.first_divergence.layer == "2"
        assert len(found) == 4


def test_without_a_call_both_sides_run_on_an_input_that_is_worked_out(run):
    comparison = run("%nntrace net --against bfloat16 --isolate")

    assert "torch.rand(1, 6)" in str(comparison)
    assert comparison["0"].own_error < comparison["0"].tolerance
    assert len(run("%nntrace --against float64")) == 8


def test_a_method_and_a_part_of_a_network_are_called_on_both_sides(run):
    run(
        "class Coder(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.inner, self.outer = nn.Linear(6, 2), nn.Linear(2, 6)\n"
        "    def encode(self, x):\n"
        "        return self.inner(x)\n"
        "    def forward(self, x):\n"
        "        return self.outer(self.encode(x))\n"
        "coder = Coder()"
    )

    encoded = run("%nntrace --against bfloat16 coder.encode(x)")
    part = run("%nntrace --against bfloat16 coder.inner(x)")

    for comparison in (encoded, part):
        assert [row.layer for row in comparison] == ["inner"]
        assert 0 < comparison["inner"].output_error < comparison["inner"].tolerance


def test_whether_it_is_rounding_is_told_where_both_run_in_float64(run):
    comparison = run("%nntrace --against float64 --float64 net(x)")

    assert (comparison.to_frame().float64_error == 0).all()
    assert "in float64" in str(comparison)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("--against 3 net(x)", "gives an int"),
        ("--against nothing net(x)", "'nothing' is no name here"),
        ("--against missing.safetensors net(x)", "missing.safetensors"),
        ("--isolate net(x)", "need --against"),
        ("--float64 net(x)", "need --against"),
        ("--against eval net(x).sum()", "no call of a network"),
        ("--against eval 3", "is an int"),
        ("--against items net(x[:1])", "two or more"),
        ("--against items --isolate net(x)", "leave it out"),
        ("--against t --isolate net(x)", "not a trace"),
        ("--against eval --grad net(x).sum().backward()", "--grad"),
        ("--against eval --input-size 1,6 net(x)", "--input-size"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(run, line, word):
    run("t = %nntrace net(x)")
    with pytest.raises(UsageError, match=word) as caught:
        run(f"%nntrace {line}")
    assert "\n" not in str(caught.value)


def test_a_cell_has_no_other_side(run):
    with pytest.raises(UsageError, match="line only"):
        run("%%nntrace --against eval\nnet(x)")


def test_a_network_that_cannot_be_copied_is_told(run, session):
    class Locked(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("one of a kind")

    session.shell.user_ns["locked"] = Locked(6, 2)

    with pytest.raises(UsageError, match="one of a kind"):
        run("%nntrace --against bfloat16 locked(x)")


def test_a_network_that_cannot_be_compiled_is_told(run, monkeypatch):
    def refuse(network, options):
        def called(x):
            raise RuntimeError("no compiler here")

        return called

    monkeypatch.setattr(torch, "compile", refuse)

    with pytest.raises(UsageError, match=r"cannot be compiled.*no compiler here"):
        run("%nntrace --against compiled net(x)")
