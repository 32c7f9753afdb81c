"""A display shows one iteration of each place in the code, all its calls, and says their number."""

import pytest
import torch
from torch import nn

import nnmagic

X = torch.rand(1, 2)


def labels(trace, *, text=True):
    """Return the label of each row that text, or HTML, draws."""
    return [row.label for row in trace.drawn(text=text).rows]


def heading(trace):
    return trace.table().heading


def shapes(trace):
    return [cell.shape for cell in trace.table().cells("shape")]


@pytest.fixture
def gan():
    """A loop of three passes, each with a batch of another size."""
    gen, disc = nn.ReLU(), nn.Tanh()
    with nnmagic.tracing() as trace:
        for n in (1, 2, 3):
            disc(torch.rand(n, 4))
            fake = gen(torch.rand(n, 2))
            disc(fake)
    return trace


def lines_of(trace, name):
    """Return the places of a network's calls, each once."""
    return list(dict.fromkeys(call.place for call in trace if call.network == name))


def test_a_pass_of_a_loop_is_shown_together_with_a_tree_for_each_place(gan):
    real, fake = lines_of(gan, "Tanh")

    assert labels(gan) == [f"Tanh at {real}", "ReLU", f"Tanh at {fake}"]
    assert shapes(gan) == [(3, 4), (3, 2), (3, 2)]
    assert "iteration 2 of 3" in heading(gan)
    assert heading(gan).endswith(" · 3 calls")


@pytest.mark.parametrize("step", [0, 1, 2])
def test_any_pass_can_be_shown_and_rows_keep_their_order(gan, step):
    shown = gan.show(step=step)

    assert labels(shown) == labels(gan)
    assert shapes(shown) == [(step + 1, 4), (step + 1, 2), (step + 1, 2)]
    assert f"iteration {step} of 3" in heading(shown)


def test_two_places_on_one_line_are_told_apart_by_their_source():
    net = nn.ReLU()
    a, b = torch.rand(1, 2), torch.rand(2, 2)

    with nnmagic.tracing(net) as trace:
        net(a), net(b)

    place = trace[""].place
    assert labels(trace) == [f"ReLU at {place} net(a)", f"ReLU at {place} net(b)"]


def test_two_calls_on_one_line_that_read_the_same_are_numbered():
    net, other = nn.ReLU(), nn.Sequential(nn.ReLU(), nn.ReLU())

    with nnmagic.tracing() as trace:
        net(X), net(X)
        for layer in other:  # two layers of one place are told by their names
            layer(X)

    place = next(iter(trace)).place
    found = [row.label for row in trace.drawn(text=True).rows]
    assert found[:2] == [f"ReLU at {place} (1 of 2)", f"ReLU at {place} (2 of 2)"]
    assert not any(" of 2)" in label for label in found[2:])


def test_training_and_validation_are_two_trees_each_at_its_own_iteration():
    net = nn.ReLU()

    def epoch(batches):
        for n in range(1, batches + 1):
            net(torch.rand(n, 2))

    with nnmagic.tracing(net) as trace:
        for _ in range(2):
            net.train()
            epoch(5)
            net.eval()
            with torch.no_grad():
                epoch(2)

    train = "ReLU (train)"
    validation = "ReLU (eval)"
    assert labels(trace) == [train, validation]
    assert shapes(trace) == [(5, 2), (2, 2)]
    assert f"{train} iteration 9 of 10" in heading(trace)
    assert f"{validation} iteration 3 of 4" in heading(trace)

    sixth = trace.show(step=5)
    assert labels(sixth) == [train]
    assert shapes(sixth) == [(1, 2)]
    assert "iteration 5 of 10" in heading(sixth)
    assert (
        f"{validation} has no iteration 5: 0, 1, 2, 3 were recorded, it is left out"
        in sixth.table().notes
    )


def test_rows_keep_their_order_where_places_take_turns_in_another_one():
    first, second = nn.ReLU(), nn.Tanh()

    def call(layer):
        return layer(X)

    with nnmagic.tracing() as trace:
        call(first)
        call(second)
        call(second)
        call(first)

    assert labels(trace.show(step=0)) == labels(trace.show(step=1)) == ["ReLU", "Tanh"]


def test_how_many_of_how_many_were_recorded_is_said():
    net = nn.ReLU()
    with nnmagic.tracing(net, every=10) as trace:
        for _ in range(25):
            net(X)

    assert "iteration 20 of 25 (3 recorded)" in heading(trace)
    assert "ReLU has no iteration 5: 0, 10, 20 were recorded, the last is shown" in str(
        trace.show(step=5)
    )


def test_one_call_says_nothing_of_iterations():
    net = nn.ReLU()
    with nnmagic.tracing(net) as trace:
        net(X)
        net(X)

    first, second = (call.place for call in trace)
    assert labels(trace) == [f"ReLU at {first}", f"ReLU at {second}"]
    assert "iteration" not in heading(trace)


def test_modes_of_one_place_are_told_apart_by_what_differs():
    net = nn.ReLU().eval()
    with nnmagic.tracing(net) as trace:
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                net(X)

    assert labels(trace) == ["ReLU (gradients)", "ReLU (no gradients)"]


def test_many_places_are_counted_not_named():
    nets = [nn.ReLU() for _ in range(5)]
    with nnmagic.tracing() as trace:
        for n, net in enumerate(nets):
            for _ in range(2 + n):
                net(X)

    assert "the last iteration of 5 places" in heading(trace)
    assert "iteration 5 of 5 places" not in heading(trace.show(step=5))
    notes = trace.show(step=4).table().notes
    assert "ReLU has no iteration 4: 0, 1 were recorded, it is left out" in notes


def test_places_that_lack_an_iteration_alike_are_told_of_together():
    first, second = nn.ReLU(), nn.Tanh()
    with nnmagic.tracing(every=2) as trace:
        for _ in range(4):
            second(first(X))

    notes = trace.show(step=1).table().notes
    assert "ReLU and Tanh have no iteration 1: 0, 2 were recorded, the last is shown" in notes


class Unrolled(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.ReLU(), nn.Tanh()

    def forward(self, x, times):
        return [self.head(self.cell(x)) for _ in range(times)]


@pytest.mark.parametrize("times", [2, 5, 6, 30])
def test_a_method_shows_all_its_calls_those_of_one_layer_folded_from_six_on(times):
    net = Unrolled()
    with nnmagic.tracing(net) as trace:
        for _ in range(2):
            net.forward(X, times)

    parts = ["Unrolled.cell", "Unrolled.head"]
    folded = [f"{part} × {times}" for part in parts]
    assert labels(trace) == (parts * times if times < 6 else folded)
    assert len(trace.table().rows) == (2 * times if times < 6 else 2 + 2 * times)
    assert len(trace.to_frame()) == 4 * times
    assert heading(trace).endswith(f" · {2 * times} calls")


def test_calls_of_two_places_are_not_folded_into_one_row():
    net = Unrolled()
    with nnmagic.tracing(net) as trace:
        net.forward(X, 4)
        net.forward(X, 3)

    assert sum("×" in label for label in labels(trace)) == 0
    assert len(labels(trace)) == 14
    assert len(set(labels(trace))) == 4


def test_runs_of_a_method_that_take_turns_are_told_apart():
    class Streaming(Unrolled):
        def stream(self, x):
            yield self.cell(x)
            yield self.head(x)

    net = Streaming()
    with nnmagic.tracing(net) as trace:
        for _ in zip(*[net.stream(torch.rand(n, 2)) for n in (1, 2, 3)], strict=True):
            pass

    assert "iteration 2 of 3" in heading(trace)
    assert shapes(trace) == [(3, 2), (3, 2)]
    assert shapes(trace.show(step=1)) == [(2, 2), (2, 2)]


def test_the_page_can_choose_among_the_iterations_of_the_longest_loop():
    net, other = nn.ReLU(), nn.Tanh()
    with nnmagic.tracing(every=2) as trace:
        other(X)
        for _ in range(7):
            net(X)

    content = trace.table().beside["steps"]
    assert content == {"iterations": [0, 2, 4, 6], "shown": 6}
    assert trace.show(step=2).table().beside["steps"]["shown"] == 2


def test_a_value_that_is_nan_in_another_iteration_says_in_which():
    net = nn.ReLU()
    with nnmagic.tracing(net) as trace:
        for value in (1.0, -1.0, 2.0):
            net(torch.tensor([value]).sqrt())
    assert "at iteration 1" in str(trace)
