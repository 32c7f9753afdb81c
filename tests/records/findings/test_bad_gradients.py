"""NaN and Inf in a gradient are told of the iteration that they were in, whichever is shown."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic

X, Y = torch.linspace(-1, 1, 32).view(8, 4), torch.arange(8) % 3
RULE = "NaN in a gradient"


class BadAt(nn.Module):
    """Puts NaN into the gradient between its layers in some calls."""

    def __init__(self, *at, seen_by_output=False):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)
        self.at, self.calls, self.seen_by_output = at, 0, seen_by_output

    def forward(self, x):
        h = self.a(x)
        if self.calls in self.at:
            bad = h.clone() if self.seen_by_output else h
            bad.register_hook(lambda gradient: gradient * torch.nan)
            h = bad
        self.calls += 1
        return self.b(h)


def traced(net, iterations=10, *, rate=None, steps=lambda i: True, clear="zero_grad"):
    """Train a network; a rate of None makes no steps."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate or 0.1)
    with nnmagic.tracing(net, grad=True) as trace:
        for i in range(iterations):
            optimizer.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            if rate is not None and steps(i):
                optimizer.step()
    return trace


def bad_of(trace):
    return [(e.layer, e.iteration, e.level) for e in trace.findings if e.rule == RULE]


@pytest.mark.parametrize("seen_by_output", [False, True])
@pytest.mark.parametrize("rate", [None, 0.1])
@pytest.mark.parametrize("at", [5, 9])
def test_nan_in_the_gradient_of_one_iteration_is_found_there(at, rate, seen_by_output):
    net = BadAt(at, seen_by_output=seen_by_output)

    trace = traced(net, rate=rate, steps=lambda i: i != at)

    assert bad_of(trace) == [("a", at, "finding" if rate is None else "note")]
    history = trace.history().query("layer == 'a' and quantity == 'weight.grad_norm'")
    assert history.value.isna().to_list() == [i == at for i in range(10)]


@pytest.mark.parametrize("show", [str, lambda trace: trace._repr_html_()])
def test_it_is_in_words_in_the_display_of_another_iteration(show):
    used, left_out = (
        traced(BadAt(5, seen_by_output=True), rate=rate, steps=lambda i: i != 5)
        for rate in (None, 0.1)
    )

    assert "NaN in the gradients at iteration 5" in used.table().heading
    assert "NaN in the gradient of its output, weight, bias, at iteration 5" in " ".join(
        show(used).split()
    )
    assert "NaN" not in left_out.table().heading
    assert "at iteration 5, and no step used it" in " ".join(show(left_out).split())
    contents = [each["text"] for each in left_out.table().beside["findings"]]
    assert sum("NaN in the gradient" in text for text in contents) == 1


def test_it_flags_its_row_in_its_iteration_only():
    trace = traced(BadAt(5), 10)

    flagged = {
        step: [row.name for row in trace.show(step=step).table().rows if row.state]
        for step in (4, 5, 6)
    }

    assert flagged == {4: [], 5: ["a"], 6: []}
    assert "at iteration" not in trace.show(step=5).table().heading


def test_a_step_that_used_it_counts_more_than_one_that_was_left_out_before():
    trace = traced(BadAt(2, 6), 7, rate=0.1, steps=lambda i: i != 2)

    assert bad_of(trace) == [("a", 6, "finding")]


def test_nan_that_comes_in_is_told_of_its_iteration_in_all_layers():
    net, bad = BadAt(), X.clone()
    bad[0, 0] = torch.nan
    with nnmagic.tracing(net, grad=True) as trace:
        for i in range(12):
            net.zero_grad()
            F.cross_entropy(net(bad if i == 5 else X), Y).backward()

    assert {each[1:] for each in bad_of(trace)} == {(5, "finding")}
    assert {each[0] for each in bad_of(trace)} == {"", "a", "b"}
    line = next(each for each in trace.table().notes if "in the gradient of" in each)
    assert line.startswith("b: NaN")


def test_a_gradient_without_values_is_not_bad():
    net = nn.Linear(4, 3, device="meta")
    with nnmagic.tracing(net, grad=True) as trace:
        for _ in range(3):
            net.zero_grad()
            net(X.to("meta")).sum().backward()

    assert net.weight.grad is not None
    assert bad_of(trace) == []
    assert "weight.grad_norm" not in set(trace.history().quantity)


def test_the_iteration_stays_in_a_file_and_in_a_long_run(tmp_path):
    trace = traced(BadAt(501), 1100)
    trace.save(tmp_path / "run.nnt")

    assert bad_of(trace) == bad_of(nnmagic.load(tmp_path / "run.nnt")) == [("a", 501, "finding")]
