"""How two runs side by side show themselves."""

import copy
import math

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.table import RelativeError, State
from nnmagic.display.text import brief_text

X = torch.rand(8, 6, generator=torch.Generator().manual_seed(1))


def network():
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.ReLU())) for _ in "abc"
    ]
    return nn.Sequential(*layers).eval()


def changed():
    other = network()
    with torch.no_grad():
        other[1][1][0].bias[0] += 1
    return other


def compared(other, x=X):
    return nnmagic.trace(network(), X).compare(nnmagic.trace(other, x))


def row(table, name):
    return next(each for each in table.rows if each.name == name)


def test_an_error_stands_beside_the_tolerance_and_none_at_all_is_0():
    comparison = compared(changed())
    table = comparison.table()

    errors = dict(zip((each.name for each in table.rows), table.cells("output_error"), strict=True))
    here = comparison["1.1.0"]
    assert errors["1.1.0"] == RelativeError(here.output_error, here.tolerance)
    assert errors["0"] == RelativeError(0.0, comparison["0"].tolerance)
    equal = next(line for line in str(comparison).splitlines() if "─ 0 " in line)
    assert equal.split()[-1] == "equal"
    assert "0.000" not in equal


def test_one_row_alone_is_where_they_part_and_what_inherits_is_dimmed():
    table = compared(changed()).table()

    first = [each.name for each in table.rows if each.state & State.FIRST]
    assert first == ["1.1.0"]
    assert [each.name for each in table.rows if each.state & State.STRONG] == first
    assert row(table, "2.0").state & State.DIMMED
    assert not row(table, "0.0").state & (State.DIMMED | State.FLAGGED)
    assert table.first[0] == "where they part"
    assert "1.1.0" in table.heading


def test_the_heading_tells_two_runs_of_one_name_apart_and_counts_those_matched_by_order():
    table = compared(changed()).table()
    assert table.heading.startswith("Sequential (a) against Sequential (b) · ")
    assert "by order" not in table.heading

    class Ported(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.one, self.two = layers

        def forward(self, x):
            return self.two(self.one(x))

    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    port = nnmagic.trace(net, X).compare(nnmagic.trace(Ported(net), X))
    assert "Sequential against Ported · " in port.table().heading
    assert "2 matched by order" in port.table().heading
    assert "by order" not in " ".join(port.table().cells("flags"))


def test_a_heading_counts_the_calls_of_one_side_beside_what_is_equal():
    longer = network()
    longer.append(nn.Dropout(0))
    mine, other = nnmagic.trace(network(), X), nnmagic.trace(longer.eval(), X)

    assert " · equal · " in mine.compare(mine).table().heading
    for comparison, side in ((mine.compare(other), "in the other"), (other.compare(mine), "here")):
        heading = comparison.table().heading
        assert " · equal in what both have · " in heading
        assert heading.endswith(f" · 1 call only {side}")


def test_the_iteration_in_which_two_loops_part_is_named_and_shown():
    def loop(net, wrong):
        with nnmagic.tracing(net) as trace:
            for step in range(3):
                if step == 1:
                    net[0][0].bias.data += wrong
                net(X)
        return trace

    comparison = loop(network(), 0).compare(loop(network(), 1))
    table = comparison.table()

    assert comparison.first_divergence.iteration == 1
    assert comparison.to_frame().iteration.max() == 2
    first = comparison.first_divergence.name
    for text in (table.heading, table.notes[0]):
        assert f"{first} in iteration 1" in text
    assert "iteration 1 of 3" in table.heading
    assert sum(bool(row.state & State.FIRST) for row in table.rows) == 1
    last = comparison.show(step=2).table()
    assert "iteration 2 of 3" in last.heading
    assert set(last.cells("flags")) == {"inherited"}


def test_a_long_run_that_agrees_does_not_hide_where_they_part():
    net = nn.Sequential(*[nn.Linear(6, 6) for _ in range(700)]).eval()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[650].bias += 1
    comparison = nnmagic.trace(net, X).compare(nnmagic.trace(other, X))

    for text in (
        str(comparison),
        brief_text(comparison.drawn(text=True)),
        comparison._repr_html_(),
    ):
        assert "parts here" in text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_layer_that_is_called_often_is_one_row_and_the_call_that_errs_another():
    class Eighth(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + (self.wrong and self.calls == 8)

    class Often(nn.Module):
        def __init__(self, *, wrong):
            super().__init__()
            self.fc = Eighth(6, 6)
            self.fc.wrong = wrong

        def forward(self, x):
            for _ in range(8):
                x = self.fc(x)
            return x

    torch.manual_seed(0)
    net, other = Often(wrong=False), Often(wrong=True)
    other.load_state_dict(net.state_dict())
    table = nnmagic.trace(net, X).compare(nnmagic.trace(other, X)).table()

    assert len([each for each in table.rows if each.state & State.MANY_CALLS]) == 1
    assert len([each for each in table.rows if each.state & State.FIRST]) == 1


def test_a_row_says_in_words_how_far_it_errs():
    table = compared(changed()).table()

    (said,) = table.details(row(table, "1.1.0").subject)
    assert said.startswith("parts here: inputs are equal, its output differs by ")
    (said,) = table.details(row(table, "2.0").subject)
    assert said.startswith("inherited: inputs differ by ")
    assert [*table.details(row(table, "0").subject)] == ["equal"]


def test_nan_on_one_side_is_said_in_words():
    class Filling(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return torch.where(x > 0.5, self.value, x)

    def run(value):
        return nnmagic.trace(Filling(value), X)

    text = str(run(math.nan).compare(run(1.0)))
    assert "NaN or Inf stands on one side alone" in text
    assert "by inf" not in text


@pytest.mark.parametrize("static", [True, False])
def test_a_comparison_has_no_iterations_to_choose(static):
    table = compared(network()).show(static=static).table()

    assert not table.beside
    assert not any(each.state & State.FIRST for each in table.rows)
