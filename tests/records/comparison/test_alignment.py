"""Calls of two runs in pairs."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nnmagic
from nnmagic.records.comparison.alignment import aligned


class Named(nn.Module):
    """Calls its layers in their order, one of them twice; their names can be given anew."""

    def __init__(self, parts, *, residual=False, again=None):
        super().__init__()
        self.residual, self.again = residual, again
        for name, part in parts:
            self.add_module(name, part)

    def forward(self, x):
        y, parts = x, list(self.children())
        for part in parts + ([] if self.again is None else [parts[self.again % len(parts)]]):
            y = part(y)
        return x + y if self.residual else y


LEAVES = st.sampled_from(
    [
        *(lambda: nn.Linear(4, 4), lambda: nn.Linear(4, 4, bias=False), lambda: nn.LayerNorm(4)),
        *(nn.ReLU, nn.GELU, nn.Tanh, nn.Dropout, nn.Identity),
    ]
)
TREES = st.recursive(
    LEAVES,
    lambda inside: st.tuples(
        st.lists(inside, min_size=1, max_size=5), st.booleans(), st.none() | st.integers(0, 4)
    ),
    max_leaves=30,
)


def built(tree, prefix):
    """Return the network of a tree, its layers called by a prefix and their places from last."""
    if callable(tree):
        return tree()
    parts, residual, again = tree
    names = [f"{prefix}{len(parts) - i}" for i in range(len(parts))]
    layers = [built(part, prefix) for part in parts]
    return Named(zip(names, layers, strict=True), residual=residual, again=again)


@given(TREES.filter(lambda tree: not callable(tree)), st.integers(0, 1000))
def test_a_network_is_aligned_with_a_renamed_copy_of_itself(tree, seed):
    torch.manual_seed(seed)
    net, renamed = built(tree, "layer"), built(tree, "part")
    for mine, other in zip(net.parameters(), renamed.parameters(), strict=True):
        nn.init.normal_(mine)
        other.data = mine.data.clone()
    x = torch.randn(3, 4)

    pairs = aligned(nnmagic.trace(net.eval(), x).log, nnmagic.trace(renamed.eval(), x).log)

    assert [(a, b) for a, b, _ in pairs] == [(i, i) for i in range(len(pairs))]
    assert {how for *_, how in pairs[1:]} <= {"order"}


def pairs_of(mine, other, x, **options):
    one, two = (nnmagic.trace(net.eval(), x).log for net in (mine, other))
    return {
        (
            None if a is None else one.layer_of(a).name,
            None if b is None else two.layer_of(b).name,
        ): how
        for a, b, how in aligned(one, two, **options)
    }


class Heads(nn.Module):
    """Three layers of one shape, called in some order."""

    def __init__(self, names, order):
        super().__init__()
        self.order = order
        for name in names:
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, x):
        return sum(i * self.get_submodule(self.order[i])(x) for i in range(3))


def test_layers_of_one_shape_that_are_called_in_turns_are_told_by_their_values():
    mine, other = Heads("qkv", "qkv"), Heads(("wv", "wq", "wk"), ("wv", "wq", "wk"))
    for name in "qkv":
        other.get_submodule(f"w{name}").load_state_dict(mine.get_submodule(name).state_dict())

    found = pairs_of(mine, other, torch.randn(50, 4))

    assert found == {("", ""): "name"} | {(name, f"w{name}"): "order" for name in "qkv"}


def test_a_fused_layer_and_its_parts_are_rows_of_one_side_only():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.out = nn.Linear(8, 4)

        def forward(self, x):
            return self.out(torch.cat([self.a(x), self.b(x)], 1))

    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.ab, self.proj = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.proj(self.ab(x))

    first, second = (nn.Sequential(nn.LayerNorm(4), each(), nn.ReLU()) for each in (Parts, Fused))
    found = pairs_of(Named([("net", first)]), Named([("model", second)]), torch.randn(3, 4))

    assert found == {("", ""): "name", ("net", "model"): "order"} | {
        **{(f"net.{i}", f"model.{i}"): "order" for i in range(3)},
        ("net.1.out", "model.1.proj"): "order",
        **{(f"net.1.{name}", None): "" for name in "ab"},
        (None, "model.1.ab"): "",
    }


def test_a_shorter_port_is_aligned_with_the_first_layers_of_that_number():
    torch.manual_seed(0)

    def block():
        return nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))

    long = Named([(f"block{i}", block()) for i in range(4)])
    short = Named([(f"layer{i}", block()) for i in (0, 1)])  # of other weights

    found = pairs_of(short, long, torch.randn(3, 4))

    assert {(f"layer{i}", f"block{i}") for i in (0, 1)} < found.keys()


def test_the_first_pattern_that_leads_to_a_layer_counts():
    mine = Named([("a", nn.Linear(4, 4)), ("b", nn.Linear(4, 4))])
    other = Named([("x", nn.Linear(4, 4)), ("y", nn.Linear(4, 4))])
    rename = {"*": "nowhere.*", "a": "y", "b": "x"}

    found = pairs_of(mine, other, torch.randn(3, 4), rename=rename)

    assert found == {("", ""): "name", ("a", "y"): "rename", ("b", "x"): "rename"}


@pytest.mark.slow
def test_five_thousand_calls_are_aligned_in_seconds():
    torch.manual_seed(0)
    parts = [nn.LayerNorm(2) if i % 2 else nn.Linear(2, 2) for i in range(2500)]
    mine = Named([(f"a{i}", part) for i, part in enumerate(parts)])
    other = Named([(f"b{i}", part) for i, part in enumerate(parts) if i % 1000 < 990])
    x = torch.randn(1, 2)

    def run(net):
        with nnmagic.tracing(keep="none") as trace:
            net(net(x))
        return trace.log

    logs = run(mine), run(other)
    begin = time.process_time()
    pairs = aligned(*logs)

    assert time.process_time() - begin < 10  # where nothing else runs, less than one
    assert len(logs[0]) == 5002
    assert sum(pair.other is None for pair in pairs) == 40
