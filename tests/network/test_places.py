"""Each call knows the file and line of the code that made it."""

import concurrent.futures
import sys
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nnmagic

X = torch.rand(1, 2)


def net():
    return nn.Sequential(nn.ReLU(), nn.Linear(2, 2))


def here(offset=0):
    return f"test_places.py:{sys._getframe(1).f_lineno + offset}"


def places(run, *, recomputed=False):
    """Return the places of all calls of a run."""
    with nnmagic.tracing() as trace:
        run()
    return {call.place for call in trace if call.recomputed is recomputed}


def test_a_generators_own_line_is_the_place():
    model = net()

    def generate():
        yield model(X)

    line = here(-2)

    assert places(lambda: list(generate())) == {line}


def test_lambdas_comprehensions_and_maps_are_where_they_stand():
    model = net()

    assert places(lambda: [model(each) for each in [X]]) == {here()}
    assert places(lambda: list(map(model, [X]))) == {here()}
    assert places(lambda: (lambda: model(X))()) == {here()}


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant):
        super().__init__()
        self.net, self.reentrant = net(), reentrant

    def inner(self, x):
        return self.net(x)

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


INNER = f"test_places.py:{Checkpointed.inner.__code__.co_firstlineno + 1}"


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoints_layers_and_their_recomputation_are_called_at_the_same_line(reentrant):
    model = Checkpointed(reentrant=reentrant)

    def run():
        model(X.clone().requires_grad_()).sum().backward()

    assert INNER in places(run)
    assert places(run, recomputed=True) == {INNER}


def test_transforms_and_functional_calls_are_passed_through():
    model = net()
    weights = dict(model.named_parameters())

    assert places(lambda: torch.func.vmap(model)(torch.rand(3, 2))) == {here()}
    assert places(lambda: torch.func.functional_call(model, weights, (X,))) == {here()}

    def loss(weights):
        return torch.func.functional_call(model, weights, (X,)).sum()

    line = here(-2)
    assert places(lambda: torch.func.grad(loss)(weights)) == {line}


def test_a_forward_in_a_decorator_is_its_own_place():
    class Decorated(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        @torch.no_grad()
        def forward(self, x):
            return self.net(x)

    line = here(-2)

    assert line in places(lambda: Decorated()(X))


def test_a_layer_that_a_thread_calls_at_once_is_where_the_thread_belongs():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            thread = threading.Thread(target=self.net, args=(x,))
            thread.start()
            thread.join()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                return pool.submit(self.net, x).result()

    assert places(lambda: Parallel()(X)) == {here()}


def test_a_graph_modules_layers_are_told_by_the_line_of_its_code():
    model = torch.fx.symbolic_trace(net())

    found = places(lambda: model(X))

    assert found == {here(-2), *[each for each in found if each.startswith("“_")]}
    assert len(found) == 3


def test_a_cells_own_code_is_the_place(session):
    session.shell.user_ns.update(net=net(), X=X)

    session.run("%%nntrace -o t\ny = [net(each) for each in [X]]")
    session.run("def f():\n    return net(X)")
    trace = session.run("%nntrace f()")

    assert {call.place for call in session["t"]} == {"“y = [net(each) for each in [X]]”"}
    assert {call.place for call in trace} == {"“return net(X)”"}


def test_a_line_that_a_cell_has_twice_is_told_by_its_number(session):
    session.shell.user_ns.update(net=net(), X=X)

    session.run("%%nntrace -o t\nnet(X)\ny = net(X)\nnet(X)\n0")

    places = [call.place for call in session["t"].calls("")]
    assert places == ["“net(X)” (line 2)", "“y = net(X)”", "“net(X)” (line 4)"]


def test_a_call_that_a_magic_makes_itself_has_no_place(session):
    session.shell.user_ns["net"] = net()

    assert {call.place for call in session.run("%nntrace net")} == {""}


def test_a_run_from_python_is_placed_at_the_line_that_asked_for_it():
    assert {call.place for call in nnmagic.trace(net(), X)} == {here()}
