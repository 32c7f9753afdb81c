"""Iterations are counted by the place in the code that makes a call, and by mode."""

import gc
import pickle
import subprocess
import sys
import textwrap
import weakref
from collections import Counter

import pytest
import torch
from counted_calls import PASS, Parts, X, iterations, roots
from torch import nn

import nnmagic


def test_two_calls_on_one_line_are_two_places():
    net = Parts()

    with nnmagic.tracing(net) as trace:
        for _ in range(2):
            net(X), net(X)

    assert [c.iteration for c in trace if c.depth == 0] == [0, 0, 1, 1]
    assert [c.step for c in trace if c.depth == 0] == [0, 1, 2, 3]


def test_modes_are_counted_apart():
    net = nn.Linear(2, 2)

    def epoch():
        return net(X)

    def run():
        for _ in range(2):
            epoch()
        net.eval()
        epoch()
        with torch.no_grad():
            epoch()
        with torch.inference_mode():
            epoch()
        net.train()
        epoch()

    assert iterations(run, net) == [("", n) for n in (0, 1, 0, 0, 1, 2)]


@pytest.mark.parametrize("value", [[], None, 1 / 3, torch.ones(2)], ids=repr)
def test_a_network_that_keeps_something_else_as_its_mode_is_counted(value):
    net = nn.Linear(2, 2)
    net.training = value

    def run():
        for _ in range(2):
            net(X)

    assert iterations(run, net) == [("", 0), ("", 1)]


def test_a_network_whose_mode_cannot_be_asked_for_is_counted():
    class Moody(nn.Linear):
        @property
        def training(self):
            raise RuntimeError("not now")

        @training.setter
        def training(self, value):
            pass

    net = Moody(2, 2)

    with nnmagic.tracing(net) as trace:
        for _ in range(2):
            net(X)

    assert [call.iteration for call in trace] == [0, 1]
    assert "iteration 1 of 2" in str(trace)


def test_inner_calls_are_of_the_iteration_of_their_root():
    net = Parts()

    with nnmagic.tracing(net) as trace:
        for _ in range(3):
            net(X)

    assert trace.to_frame().iteration.tolist() == [n for n in range(3) for _ in range(4)]
    assert trace["enc"].iteration == 2
    assert [call.iteration for call in trace.calls("dec.1")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (lambda net: net.forward(X), PASS),
        (lambda net: net.decode(X), PASS[1:]),
        (lambda net: net.decorated(X), PASS[1:]),
        (lambda net: net.many(X, 3), [("enc", 0)] * 3),
        (lambda net: list(net.stream(X)), PASS),
        (lambda net: [*map(net.forward, [X])], PASS),
    ],
)
def test_the_layers_that_a_method_calls_are_of_one_iteration(method, expected):
    net = Parts()

    def run():
        for _ in range(3):
            method(net)

    assert iterations(run, net) == [(layer, n) for n in range(3) for layer, _ in expected]


def test_the_layers_of_a_container_that_is_run_by_its_forward_are_of_one_iteration():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def run():
        for _ in range(2):
            net.forward(X)

    assert iterations(run, net) == [("0", 0), ("1", 0), ("0", 1), ("1", 1)]


def test_layers_that_the_user_calls_one_by_one_are_counted_each():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def run():
        for _ in range(2):
            x = X
            for layer in net:
                x = layer(x)

    assert iterations(run, net) == [("0", 0), ("1", 0), ("0", 1), ("1", 1)]


def test_a_method_that_calls_the_whole_network_makes_an_iteration_of_each_call():
    net = Parts()

    assert iterations(lambda: net.generate(X, 3), net) == [("", 0), ("", 1), ("", 2)]


def test_a_method_that_fails_and_is_called_again_begins_another_iteration():
    net = Parts()

    def run():
        for shape in ((1, 3), (1, 2)):
            try:
                net.forward(torch.rand(shape))
            except RuntimeError as error:
                kept.append(error)

    kept = []
    assert iterations(run, net) == [("enc", 0), ("enc", 1), ("dec.0", 1), ("dec.1", 1)]


def test_a_function_that_calls_itself_counts_at_its_one_place():
    net = nn.Linear(2, 2)

    def down(times):
        if times:
            net(X)
            down(times - 1)

    assert iterations(lambda: down(3), net) == [("", 0), ("", 1), ("", 2)]


def test_generators_that_take_turns_are_counted_at_their_own_place():
    net = Parts()

    def run():
        for _ in zip(net.stream(X), net.stream(X), strict=True):
            pass

    both = [("enc", 0), ("enc", 0), ("dec.0", 0), ("dec.0", 0), ("dec.1", 0), ("dec.1", 0)]
    found = iterations(run, net)
    assert [layer for layer, _ in found] == [layer for layer, _ in both]
    assert Counter(number for _, number in found) == {0: 3, 1: 3}


def test_every_is_of_each_place():
    net, critic = nn.ReLU(), nn.Tanh()

    with nnmagic.tracing(net, critic, every=4) as trace:
        for _ in range(9):
            critic(X)
            critic(net(X))
        for _ in range(5):
            critic(net(X))

    counted = Counter((c.network, c.iteration) for c in trace)
    first, second = {0: 2, 4: 2, 8: 1}, {0: 3, 4: 3, 8: 2}  # of each loop; the second has five
    networks = [("ReLU", first), ("Tanh", second)]
    assert counted == {(name, n): times for name, each in networks for n, times in each.items()}


def test_functions_outside_count_at_their_own_place():
    net = nn.Linear(2, 2)

    with nnmagic.tracing(ops=True, every=2) as trace:
        for _ in range(3):
            net(X).relu().exp()

    functions = [(c.layer, c.iteration) for c in trace if c.network == "functions"]
    assert functions == [(name, n) for n in (0, 2) for name in ("relu()", "exp()")]


def test_nested_recordings_count_for_themselves():
    net = Parts()

    with nnmagic.tracing(net) as outer:
        for _ in range(2):
            with nnmagic.tracing(net) as inner:
                net.forward(X)
            assert [n for *_, n in roots(inner)] == [0, 0, 0]

    assert [n for *_, n in roots(outer)] == [0, 0, 0, 1, 1, 1]


def test_a_debugger_that_is_on_changes_no_count():
    net = Parts()
    seen = Counter()

    def follow(frame, event, argument):
        seen[event] += 1
        return follow

    def run():
        for _ in range(3):
            net.forward(X)

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        found = iterations(run, net)
    finally:
        sys.settrace(before)

    assert found == [(layer, n) for n in range(3) for layer, _ in PASS]
    assert seen["line"]


def test_a_debugger_that_comes_later_follows_a_method_that_was_counted():
    events = []

    class Stopping(Parts):
        def forward(self, x):
            x = self.enc(x)
            sys.settrace(lambda frame, event, argument: None)
            x = self.enc(x)
            return x

    net = Stopping()

    def run():
        net.forward(X)
        events.append("went on")

    before = sys.gettrace()
    try:
        assert iterations(run, net) == [("enc", 0), ("enc", 0)]
    finally:
        sys.settrace(before)
    assert events == ["went on"]


def test_a_methods_values_live_no_longer_than_untraced():
    class Holding(Parts):
        def encode(self, x):
            self.alive = [each() is not None for each in seen]
            h = self.enc(x)
            seen.append(weakref.ref(h))
            return h.sum()

    net, seen = Holding(), []
    gc.disable()
    try:
        with nnmagic.tracing(net):
            for _ in range(3):
                net.encode(X)
                assert not any(each() is not None for each in seen)
    finally:
        gc.enable()


def test_code_that_is_compiled_anew_in_a_loop_is_one_place():
    net = nn.Linear(2, 2)
    names = {"net": net, "x": X}

    def run():
        for _ in range(3):
            exec("y = net(x)", names)

    assert iterations(run, net) == [("", 0), ("", 1), ("", 2)]


@pytest.mark.slow
def test_code_without_columns_is_counted_by_its_instructions():
    script = textwrap.dedent("""
        import torch, nnmagic
        net = torch.nn.Linear(2, 2)
        with nnmagic.tracing(net) as t:
            for _ in range(2):
                net(torch.rand(1, 2)), net(torch.rand(1, 2))
        print([call.iteration for call in t], "iteration 1 of 2" in str(t))
    """)
    command = [sys.executable, "-X", "no_debug_ranges", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[0, 0, 1, 1] True"


def test_equal_runs_compare_equal_and_survive_pickling():
    net = Parts().eval()

    traces = []
    for _ in range(2):
        with nnmagic.tracing(net) as trace:
            for _ in range(2):
                net.forward(X)
                net(X)
        traces.append(trace)

    again = pickle.loads(pickle.dumps(traces[0]))
    assert traces[0] == traces[1] == again
    assert again.to_frame().iteration.tolist() == traces[0].to_frame().iteration.tolist()
    assert str(again) == str(traces[0])
