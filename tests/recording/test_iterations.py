"""Iterations are counted by the place in the code that makes a call, and by mode."""

import copy
import gc
import importlib
import itertools
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import nnmagic
from nnmagic.display.table import State

X = torch.rand(1, 2)


class Parts(nn.Module):
    """Has methods that call parts of it, once or in a loop, and one that calls all of it."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(2, 2)
        self.dec = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])

    def forward(self, x):
        return self.decode(self.encode(x))

    def encode(self, x):
        return self.enc(x)

    def decode(self, x):
        for layer in self.dec:
            x = layer(x)
        return x

    def many(self, x, times):
        return [self.enc(x) for _ in range(times)]

    @torch.no_grad()
    def decorated(self, x):
        return self.decode(x)

    def stream(self, x):
        for layer in (self.enc, *self.dec):
            yield layer(x)

    def generate(self, x, times):
        for _ in range(times):
            x = self(x)
        return x


def roots(trace):
    """Return network, layer and iteration of each call that has no parent."""
    return [(c.network, c.layer, c.iteration) for c in trace if c.depth == 0]


def iterations(run, *networks, **how):
    with nnmagic.tracing(*networks, **how) as trace:
        run()
    return [(layer, iteration) for _, layer, iteration in roots(trace)]


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


PASS = [("enc", 0), ("dec.0", 0), ("dec.1", 0)]


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


LIBRARY = """
import functools
import torch
from torch import nn


def hooked(method):
    @functools.wraps(method)
    def wrapper(self, *args):
        return method(self, *args)

    return wrapper


class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(2, 2)
        self.dec = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])

    @hooked
    def encode(self, x):
        return self.enc(x)

    @torch.no_grad()
    def decode(self, x):
        for layer in self.dec:
            x = layer(x)
        return x

    def forward(self, x):
        return self.decode(self.encode(x))

    def generate(self, x, times):
        return [self(x) for _ in range(times)]


def fit(network, batches):
    for x in batches:
        network.training_step(x)


def train(network, batches):
    for x in batches:
        network(x)


def program(network, x):
    for _ in range(2):
        network(x), network(x)
        network.encode(x)


def helper(network, x):
    return network.enc(x), network.enc(x).relu().exp().relu()
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A package that the user did not write: a network, trainers that call the user's, a helper."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "installed_coder.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "installed_coder", raising=False)
    return importlib.import_module("installed_coder")


@pytest.mark.parametrize(
    ("method", "layers"), [("encode", ["enc"]), ("decode", ["dec.0", "dec.1"])]
)
def test_a_method_of_a_packages_network_is_one_iteration_at_the_users_line(library, method, layers):
    net = library.Coder()

    with nnmagic.tracing(net) as trace:
        for _ in range(2):
            getattr(net, method)(X)
        getattr(net, method)(X)

    assert [(c.layer, c.iteration) for c in trace] == [
        (layer, number) for number in (0, 1, 0) for layer in layers
    ]
    places = [row.label.partition(" at test_iterations.py:")[2] for row in trace.table().rows]
    first, second = dict.fromkeys(map(int, places))
    assert second == first + 1
    assert places == [str(line) for line in (first, second) for _ in layers]


def test_a_packages_loop_over_the_whole_network_counts_each_call_at_the_users_line(library):
    net = library.Coder()

    def run():
        net.generate(X, 2)
        library.train(net, [X, X, X])

    assert iterations(run, net) == [("", n) for n in (0, 1, 0, 1, 2)]


class Trained(Parts):
    """Its steps are called by a trainer that the user did not write."""

    def training_step(self, x):
        return self.decode(self.encode(x))


def test_the_steps_that_a_packages_trainer_makes_are_one_iteration_each(library):
    net = Trained()

    def run():
        for _ in range(2):
            library.fit(net, [X, X])

    assert iterations(run, net) == [(layer, n) for n in range(4) for layer, _ in PASS]
    few = iterations(run, net, every=3)
    assert few == [(layer, n) for n in (0, 3) for layer, _ in PASS]


def test_a_program_that_is_all_installed_is_counted_by_its_own_lines(library):
    net = library.Coder()

    def run():
        thread = threading.Thread(target=library.program, args=(net, X))
        thread.start()
        thread.join()

    one_pass = ("", "", "enc")
    assert iterations(run, net) == [(layer, n) for n in range(2) for layer in one_pass]


def test_a_packages_helper_that_calls_a_layer_twice_makes_two_iterations(library):
    net = library.Coder()

    assert iterations(lambda: library.helper(net, X), net) == [("enc", 0), ("enc", 1)]


def test_the_functions_that_a_packages_helper_calls_are_of_one_iteration(library):
    net = library.Coder()

    with nnmagic.tracing(ops=True) as trace:
        for _ in range(2):
            library.helper(net, X)

    functions = [(c.layer, c.iteration) for c in trace if c.network == "functions"]
    names = ["relu()", "exp()", "relu()"]
    assert functions == [(name, n) for n in (0, 1) for name in names]


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


def test_a_thread_goes_on_with_the_iteration_that_it_was_begun_in():
    class Threaded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(self.inner, x).result()

    net = Threaded()

    def run():
        for _ in range(3):
            net(X)

    assert iterations(run, net) == [(layer, n) for n in range(3) for layer in ("", "inner")]
    assert iterations(run, net, every=2) == [(layer, n) for n in (0, 2) for layer in ("", "inner")]


@pytest.mark.parametrize("every", [1, 2])
def test_copies_that_threads_call_are_of_the_iteration_of_the_call_around_them(every):
    class Replicated(nn.Module):
        """Runs two copies of its layer at once, as DataParallel does."""

        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            copies = [copy.deepcopy(self.inner) for _ in range(2)]
            with ThreadPoolExecutor(2) as pool:
                return sum(pool.map(lambda layer: layer(x), copies))

    net = Replicated()

    with nnmagic.tracing(every=every) as trace:
        for _ in range(5):
            net(X)

    assert trace.to_frame().iteration.tolist() == [n for n in range(0, 5, every) for _ in range(3)]
    assert [row.subject.call for row in trace.table().rows] == [len(trace) - n for n in (3, 2, 1)]


def test_threads_of_the_users_are_counted_by_their_own_code():
    net = nn.Linear(2, 2)
    lock = threading.Lock()

    def work():
        with lock:
            net(X)

    def run():
        for _ in range(3):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    assert iterations(run, net) == [("", 0), ("", 1), ("", 2)]


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_recomputed_is_of_the_iteration_of_its_forward(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=reentrant)

    net = Checkpointed()
    x = X.clone().requires_grad_()

    with nnmagic.tracing(net, every=2) as trace:
        for _ in range(3):
            net(x).sum().backward()

    again = [(c.layer, c.iteration) for c in trace if c.recomputed]
    assert again == [("inner", 0), ("inner", 2)]


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


# Random programs: nested loops of calls, in which every place is counted by hand.

CALLS = ("net(x)", "other(x)", "net(x), net(x)", "net.forward(x)", "net.many(x, 2)", "helper()")
MODES = ("net.eval()", "net.train()", "torch.set_grad_enabled(True)")

statements = st.recursive(
    st.sampled_from(CALLS) | st.sampled_from(MODES),
    lambda inner: st.tuples(st.integers(0, 3), st.lists(inner, min_size=1, max_size=4)),
    max_leaves=12,
)


class ByHand:
    """Writes a program down, and counts what each of its places calls."""

    def __init__(self):
        self.places = itertools.count()
        self.counts = Counter()
        self.expected = []
        self.keys = []  # of each of those, what it was counted of
        self.training = {"Parts": True, "Linear": True}

    def source(self, program, indent=0):
        """Return the program's text, and the same with a number for each place."""
        lines, numbered = [], []
        for each in program:
            if isinstance(each, tuple):
                times, body = each
                text, inside = self.source(body, indent + 4)
                lines += [f"{' ' * indent}for _ in range({times}):", *text]
                numbered.append((times, inside))
            else:
                lines.append(" " * indent + each)
                numbered.append((each, [next(self.places) for _ in range(2)]))
        return lines, numbered

    def run(self, numbered):
        for what, rest in numbered:
            if isinstance(what, int):
                for _ in range(what):
                    self.run(rest)
            else:
                self.call(what, rest)

    def call(self, text, places):
        if text in MODES:
            if text != MODES[2]:
                self.training["Parts"] = text == "net.train()"
            return
        helper = ("helper",)  # its own line is the place, wherever it is called
        networks = {"other(x)": "Linear"}
        parts = {"net.forward(x)": ["enc", "dec.0", "dec.1"], "net.many(x, 2)": ["enc", "enc"]}
        for place in [helper] if text == "helper()" else places[: 1 + text.count(", net")]:
            network = networks.get(text, "Parts")
            key = network, place, self.training[network]
            number = self.counts[key]
            self.counts[key] += 1
            for layer in parts.get(text, [""]):
                self.expected.append((network, layer, number))
                self.keys.append(key)


@given(st.lists(statements, min_size=1, max_size=5), st.integers(1, 3))
def test_random_loops_are_counted_as_by_hand(program, every):
    by_hand = ByHand()
    lines, numbered = by_hand.source(program)
    by_hand.run(numbered)
    net, other = Parts(), nn.Linear(2, 2)
    names = {"net": net, "other": other, "x": X, "torch": torch, "helper": lambda: net(X)}
    code = compile("\n".join(lines), "program.py", "exec")

    with nnmagic.tracing(net, other, every=every) as trace:
        exec(code, names)

    kept = [
        (root, key)
        for root, key in zip(by_hand.expected, by_hand.keys, strict=True)
        if root[2] % every == 0
    ]
    assert roots(trace) == [root for root, _ in kept]

    last = {key: number for (_, _, number), key in kept}
    shown = [index for index, ((_, _, number), key) in enumerate(kept) if number == last[key]]
    assert sorted(shown_roots(trace)) == shown
    wanted = every  # the second that was recorded, where there is one
    has_it = [index for index, ((_, _, number), _) in enumerate(kept) if number == wanted]
    assert sorted(shown_roots(trace.show(step=wanted))) == (has_it or shown)


def shown_roots(trace):
    """Return the places among the root calls of those that a display shows, folded or not."""
    order = [call.call for call in trace if call.depth == 0]
    rows = [row for row in trace.table().rows if not row.state & State.MANY_CALLS]
    return [order.index(row.subject.call) for row in rows if row.subject.call in order]
