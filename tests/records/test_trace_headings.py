"""How the table of a run is headed that an exception ended."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic


def ended(run, error, **options):
    """Return the trace of a block that an exception ends."""
    with pytest.raises(error), nnmagic.tracing(**options) as trace:
        run()
    return trace


def twice(net, x):
    loss = net(x).sum()
    loss.backward()
    loss.backward()


OUTSIDE = {
    "a loss": (
        lambda net, x: F.cross_entropy(net(x), torch.tensor([0, 1, 2, 5])),
        IndexError,
        "F.cross_entropy(net(x), torch.tensor([0, 1, 2, 5]))",
    ),
    "a backward": (twice, RuntimeError, "loss.backward()"),
    "a check between the layers": (lambda net, x: int(net(x) > 0), ValueError, "int(net(x) > 0)"),
    "an index": (lambda net, x: net(x)[7], IndexError, "net(x)[7]"),
    "a name": (lambda net, x: net(x) + forgotten, NameError, "forgotten"),  # noqa: F821
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_run_that_failed_outside_the_layers_is_headed_so_with_what_raised(name, grad):
    run, error, code = OUTSIDE[name]
    net = nn.Sequential(nn.Linear(8, 3))

    trace = ended(lambda: run(net, torch.rand(4, 8)), error, grad=grad)

    table = trace.table()
    assert table.heading.startswith("tracing failed outside the layers · 2 calls finished")
    assert (table.noun, table.total) == ("row", None)  # the page counts other things than calls
    assert code in "".join(table.notes)
    assert any(note.startswith(error.__name__) for note in table.notes)
    assert "call .backward() inside" not in str(trace)
    assert trace.failed is None
    assert pickle.loads(pickle.dumps(trace)).table().heading == table.heading


def test_an_interrupt_is_headed_with_the_iterations_that_came_before_it():
    net = nn.Sequential(nn.Linear(8, 3))

    def loop():
        for step in range(30):
            net(torch.rand(4, 8))
            if step == 24:
                raise KeyboardInterrupt

    trace = ended(loop, KeyboardInterrupt)

    assert "interrupted after 25 iterations · 50 calls finished" in trace.table().heading
    assert "KeyboardInterrupt" in trace.table().notes


def test_an_interrupt_in_a_layer_is_headed_with_the_layer():
    class Interrupted(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    trace = ended(lambda: nn.Sequential(Interrupted())(torch.rand(3)), KeyboardInterrupt)

    assert "interrupted in Sequential.0 · 0 calls finished" in trace.table().heading


def test_an_error_that_is_raised_from_a_layers_names_both():
    def run():
        try:
            nn.Linear(8, 3)(torch.rand(4, 7))
        except RuntimeError as error:
            raise ValueError("mine") from error

    trace = ended(run, ValueError)

    assert "failed outside the layers" in trace.table().heading
    (note,) = [each for each in trace.table().notes if each.startswith("ValueError: mine; after")]
    assert "the last axis must be 8, it is 7" in note


def test_a_run_that_went_on_after_an_error_is_not_headed_as_failed():
    with nnmagic.tracing() as trace:
        try:
            nn.Linear(8, 3)(torch.rand(4, 7))
        except RuntimeError:
            nn.Linear(8, 3)(torch.rand(4, 8))

    assert "failed" not in trace.table().heading
    assert "interrupted" not in trace.table().heading
