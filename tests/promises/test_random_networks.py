"""The magics against networks at random, each beside a twin that nothing looks at.

`NNMAGIC_EXAMPLES=10000 pytest tests/promises/test_random_networks.py` tries so many.
"""

from contextlib import contextmanager, suppress

import torch
from conftest import valueless
from hypothesis import given
from hypothesis import strategies as st
from random_networks import DRAWINGS, OUTSIDE, built, causal, names_in
from torch import nn

import nnmagic
from nnmagic.inputs.search import InputError

CALLS = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "length": st.integers(1, 4),
        "train": st.booleans(),
        "graph": st.booleans(),
        "ops": st.booleans(),
        "keep": st.sampled_from(["none", "sample", "all"]),
    }
)


def bits(value):
    """A value, its tensors by their bits."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(each) for key, each in value.items()}
    return [bits(each) for each in value] if isinstance(value, list | tuple) else value


def state_of(net):
    """Parameters, buffers, modes and plain attributes of every module, and what is outside."""
    state = {
        name: {
            key: bits(value)
            for key, value in (*vars(m).items(), *m._parameters.items(), *m._buffers.items())
            if isinstance(value, torch.Tensor | bool | int | dict | list) and key[0] != "_"
            if not (isinstance(value, list) and value and isinstance(value[0], nn.Module))
        }
        for name, m in net.named_modules()
    }
    return state, bits(OUTSIDE), causal.cache_info().currsize > 0, bits(torch.get_rng_state())


def calls_of(net, x):
    """The type and the output's shape of each call, in the order in which they end."""
    seen = []

    def note(module, args, output):
        first = output
        while isinstance(first, tuple):
            first = first[0]
        seen.append((type(module).__name__, tuple(first.shape)))

    with nn.modules.module.register_module_forward_hook(note):
        output = net(x)
    return output, seen


@contextmanager
def unfused():
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def ended(calls, shape_of):
    """The calls of a record, which stand in the order in which they began, as they end."""
    found, running = [], []
    for call in calls:
        while running and running[-1].depth >= call.depth:
            found.append(running.pop())
        running.append(call)
    found += reversed(running)
    return [(call.type, shape_of(call)) for call in found]


def first_shape(call):
    shape = call.output_shape
    while shape and isinstance(shape[0], tuple):
        shape = shape[0]
    return shape


def fresh(drawing, call):
    """A network, its input, and nothing outside yet."""
    OUTSIDE.clear()
    causal.cache_clear()
    net = built(drawing).train(call["train"])
    torch.manual_seed(1)
    return net, torch.randn(call["batch"], call["length"], 8, requires_grad=call["graph"])


def gradients_of(output, net):
    if output.requires_grad:
        output.sum().backward()
    return {name: bits(p.grad) for name, p in net.named_parameters() if p.grad is not None}


def more_than_one_value(call):
    return not call["train"] or call["batch"] * call["length"] > 1


@given(DRAWINGS, CALLS)
def test_a_network_at_random_is_shown_as_it_is_and_left_as_it_was(drawing, call):
    if not more_than_one_value(call) and "conv" in names_in(drawing):
        call = call | {"train": False}  # torch refuses a batch norm of one value
    with torch.set_grad_enabled(call["graph"]):
        net, x = fresh(drawing, call)
        expected, ran = calls_of(net, x)
        after = state_of(net)
        gradients = gradients_of(expected, net)

        net, x = fresh(drawing, call)
        with nnmagic.tracing(ops=call["ops"], keep=call["keep"]) as trace:
            output = net(x)
        layers = [each for each in trace if not each.layer.endswith("()")]

        assert bits(output) == bits(expected)
        assert state_of(net) == after
        assert gradients_of(output, net) == gradients
        assert ended(layers, first_shape) == ran

        net, x = fresh(drawing, call)
        with unfused():  # as a run for shapes sees an encoder
            _, ran = calls_of(net, x)
        net, x = fresh(drawing, call)
        OUTSIDE["before"] = torch.ones(1)
        before = state_of(net)
        summary = nnmagic.summary(net, x)

        now = state_of(net)
        if "by value" in names_in(drawing):  # it ran for real, and left outside what that leaves
            now = (now[0], before[1], before[2], now[3])
        assert now == before
        rows = [row for row in summary.rows if row.call is not None]
        assert ended(rows, first_shape) == ran
        assert summary.total_params == sum(p.numel() for p in net.parameters())

        params = nnmagic.params(net)
        assert [row.count for row in params.rows if not row.tied_to] == [
            p.numel() for p in net.parameters()
        ]


@given(DRAWINGS)
def test_an_input_is_found_and_nothing_is_left_of_the_search(drawing):
    net, _ = fresh(drawing, {"train": True, "graph": False, "batch": 1, "length": 1})
    if not list(net.parameters()):
        return
    before = state_of(net)
    existing = valueless(collected=False)

    for ask in (nnmagic.summary, nnmagic.trace):
        ran_for_real = True  # as an input does that shapes alone refuse
        with suppress(InputError):
            record = ask(net)
            assert record.to_frame().output_shape[0] is not None
            ran_for_real = ask is nnmagic.trace or "run for real" in str(record)
        (modules, outside, *random_state) = state_of(net)
        assert modules == before[0]
        assert random_state[-1] == before[-1]
        assert ran_for_real or outside == before[1]

    del net
    new = valueless(collected=False).keys() - existing.keys()
    assert not new or not valueless().keys() - existing.keys()  # else it was garbage
