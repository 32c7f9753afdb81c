"""Calls that installed code makes are of the iteration of the user's line that asked for them."""

import importlib
import sys
import threading
from pathlib import Path

import pytest
from counted_calls import PASS, Parts, X, iterations

import nnmagic

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
    places = [row.label.partition(f" at {Path(__file__).name}:")[2] for row in trace.table().rows]
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
