"""Random programs: nested loops of calls, in which every place is counted by hand."""

import itertools
from collections import Counter

import torch
from counted_calls import Parts, X, roots
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nnmagic
from nnmagic.display.table import State

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
