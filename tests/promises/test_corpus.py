"""What the corpus says is what the three magics say, and nothing is changed by asking."""

import gc
import pickle
import random
import sys
from functools import cached_property

import numpy as np
import pytest
import torch
from conftest import Session
from corpus import CASES, UNKNOWN
from corpus.calls import in_a_thread
from corpus.modules import nested
from held_state import bits, gradients_of, identity_of, parts, state_of, tensors
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

import nnmagic

TRACE_COLUMNS = [
    *("network", "iteration", "step", "call", "layer", "type", "depth"),
    *("input_shape", "output_shape", "dtype", "device"),
    *("min", "max", "mean", "std", "zeros", "nan", "inf", "failed"),
]

SUMMARY_COLUMNS = [
    *("network", "call", "layer", "type", "depth", "config", "input_shape", "output_shape"),
    *("params", "own_params", "trainable_params", "param_bytes", "output_bytes", "flops"),
]

PARAMS_COLUMNS = [
    *("name", "shape", "dtype", "device", "count", "percent", "bytes", "trainable", "tied_to"),
    *("min", "max", "mean", "std", "zeros", "nan", "inf"),
]


def corpus(wanted=lambda case: True):
    """Run a test once for each case, under the case's name."""
    found = [
        pytest.param(case, id=name, marks=[pytest.mark.slow] * case.slow)
        for name, case in CASES.items()
        if wanted(case)
    ]
    return pytest.mark.parametrize("case", found)


def process_state():
    return (
        nn.Module.__call__,
        nn.Module.__call__.__code__,
        sys.getrecursionlimit(),
        len(nn.modules.module._global_forward_hooks),
        len(nn.modules.module._global_forward_pre_hooks),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.mha.get_fastpath_enabled(),
        torch.overrides._get_current_function_mode_stack(),
        torch.utils._python_dispatch._get_current_dispatch_mode_stack(),
    )


@pytest.fixture(scope="module")
def session():
    """One shell for all cases: to reset it collects all garbage, which takes a second."""
    shell = InteractiveShell.instance()
    shell.reset(new_session=False)
    shell.display_formatter.active_types = shell.display_formatter.format_types
    session = Session(shell)
    publish = shell.display_pub.publish
    shell.display_pub.publish = lambda data, *args, **kwargs: None
    shell.run_line_magic("load_ext", "nnmagic")
    yield session
    shell.run_line_magic("unload_ext", "nnmagic")
    shell.display_pub.publish = publish


@pytest.fixture(autouse=True)
def nothing_left_behind(monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setenv("LINES", "50")
    before = process_state()
    yield
    assert process_state() == before


def random_states():
    kind, key, *rest = np.random.get_state()
    return bits(torch.get_rng_state()), random.getstate(), (kind, key.tobytes(), *rest)


def named(case):
    """The names that the expression is about, the same each time."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    found = case.make()
    torch.manual_seed(1)
    return found


def give(session, names):
    """Let the session have these names and those of Python and IPython."""
    shell = session.shell
    for name in shell.user_ns.keys() - shell.user_ns_hidden.keys() - {"_", "__", "___"}:
        if not name.startswith("_"):
            del shell.user_ns[name]
    shell.user_ns.update(names, torch=torch, nn=nn)


def plainly(case):
    """Evaluate the expression alone: the names, the value, the exception, what is left."""
    found = named(case)
    value = error = None
    with case.context():
        try:
            value = eval(case.expression, {"torch": torch, "nn": nn, **found})
        except BaseException as caught:  # noqa: BLE001 - an interrupt is a case too
            error = caught
    return found, value, error, random_states()


def by_magic(session, case, line, look=lambda names: None):
    """Run a line of a magic on the case: the names, the record, the exception, what is left.

    `look` is called with the names before and after.
    """
    found = named(case)
    give(session, found)
    look(found)
    error = None
    with case.context():
        try:
            session.run(line)
        except BaseException as caught:  # noqa: BLE001 - an interrupt is a case too
            error = caught
    look(found)
    return found, session.shell.user_ns.get("record"), error, random_states()


def about(value):
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


def lines(rows):
    return tuple(
        "  " * row.depth + f"{row.layer} {row.type}".strip() + "!" * bool(row.failed)
        for row in rows
    )


class Visit:
    """A case, and what its expression gives plainly and by each magic: asked once, by all tests."""

    def __init__(self, session, case):
        self.session, self.case = session, case

    @cached_property
    def plain(self):
        return plainly(self.case)

    @cached_property
    def traced(self):
        return by_magic(self.session, self.case, f"%nntrace -o record {self.case.expression}")

    @cached_property
    def summarised(self):
        """What `by_magic` returns, and what the network was before and after."""
        states = []

        def look(names):
            net = names["net"]
            states.append((state_of(net), identity_of(net), random_states()))

        line = f"%nnsummary -o record {self.case.summary or self.case.expression}"
        return *by_magic(self.session, self.case, line, look), states


@pytest.fixture(scope="module")
def visits(session):
    return {id(case): Visit(session, case) for case in CASES.values()}


@pytest.fixture
def visit(visits, case):
    gc.freeze()  # a search for what was left behind looks through all objects that are not frozen
    return visits[id(case)]


@corpus()
def test_a_trace_changes_nothing(visit, case):
    plain, expected, raised, after = visit.plain

    traced, trace, error, after_trace = visit.traced

    assert type(error) is type(raised)
    assert str(error) == str(raised)
    if raised is None:
        assert parts(trace.output) == parts(expected)
    assert state_of(traced["net"]) == state_of(plain["net"])
    assert after_trace == after


@corpus(lambda case: case.backward)
def test_a_trace_leaves_the_gradients_as_they_are(visit, case):
    plain, expected, _, _ = visit.plain
    traced, trace, _, _ = visit.traced

    for value in (expected, trace.output):
        sum(each.sum() for each in tensors(value) if each.requires_grad).backward()

    assert gradients_of(traced["net"]) == gradients_of(plain["net"])
    assert any(gradient is not None for gradient in gradients_of(traced["net"]).values())


@corpus()
def test_a_trace_tells_what_ran(visit, case):
    _, trace, error, _ = visit.traced

    frame = trace.to_frame()
    calls = list(trace)
    assert list(frame.columns[: len(TRACE_COLUMNS)]) == TRACE_COLUMNS
    assert frame.call.tolist() == list(range(len(frame)))
    assert len(frame) == (case.calls or len(case.layers))
    if case.layers is not None:
        assert lines(calls) == case.layers
    assert tuple(frame.network.unique()) == case.networks
    assert tuple(frame.step) == (case.steps or (0,) * len(frame))
    assert tuple(frame.layer[frame.recomputed]) == case.recomputed
    if case.input != "?":
        assert calls[0].input_shape == case.input
    if case.output != "?":
        assert calls[0].output_shape == case.output
    for layer, stats in case.stats.items():
        told = {name: getattr(trace[layer], name) for name in stats}
        assert told == {name: about(value) for name, value in stats.items()}
    origin = trace.first_nonfinite
    assert (None if origin is None else origin.layer) == case.nonfinite
    if case.blamed:
        failed = trace.failed
        name = " ".join(filter(None, (failed.layer, f"({failed.type})")))
        assert name == case.blamed or failed.type == case.blamed
        notes = "".join(getattr(error, "__notes__", ()))
        assert case.blamed in notes or not hasattr(error, "__notes__")
    else:
        assert trace.failed is None
    text = str(trace)
    assert [each for each in (*case.said, case.why) if each not in text] == []
    assert pickle.loads(pickle.dumps(trace)) == trace
    html = trace._repr_html_()
    assert "<script" not in html
    assert "<img" not in html


@corpus(lambda case: not case.runs)  # else the expression was evaluated, once and for real
def test_a_summary_changes_nothing(visit, case):
    *_, (before, after) = visit.summarised

    assert after == before


@corpus()
def test_a_summary_tells_what_would_run(visit, case):
    _, summary, error, *_ = visit.summarised

    expected_error = case.error if case.summary_error is None else case.summary_error or None
    assert error is None if expected_error is None else type(error) is expected_error
    if expected_error is not None and not issubclass(expected_error, Exception):
        return  # an interrupt leaves no table
    frame = summary.to_frame()
    assert list(frame.columns) == SUMMARY_COLUMNS
    ran = [row for row in summary.rows if row.call is not None]
    assert [row.call for row in ran] == list(range(len(ran)))
    expected = case.summary_layers or case.layers
    if expected is not None:
        survives = case.error is not None and expected_error is None
        assert lines(ran) == tuple(each.rstrip("!" * survives) for each in expected)
    else:
        assert len(ran) == case.calls
    assert {row.layer for row in summary.rows if row.call is None} == set(case.never_ran)
    params = case.params if case.summary_params is None else case.summary_params
    trainable = params if case.trainable is None else case.trainable
    assert summary.total_params == params
    assert summary.trainable_params == trainable
    assert sum(row.own_params for row in summary.rows) == params
    if case.input != "?":
        assert ran[0].input_shape == case.input
    if case.output != "?" and case.error is None:
        assert ran[0].output_shape == case.output
    if case.flops is not None:
        assert summary.total_flops == (None if case.flops == UNKNOWN else case.flops)
    text = str(summary)
    assert [each for each in case.summary_said if each not in text] == []
    assert pickle.loads(pickle.dumps(summary)) == summary


@corpus(lambda case: not case.runs and case.error is None and case.summary is None)
def test_the_shapes_on_meta_are_those_of_a_real_run(visit, case):
    _, trace, _, _ = visit.traced
    _, summary, *_ = visit.summarised

    real, found = {}, {}
    for call in trace:
        real.setdefault(call.layer, []).append((call.input_shape, call.output_shape))
    for row in summary.rows:
        if row.call is not None:
            found.setdefault(row.layer, []).append((row.input_shape, row.output_shape))
    assert {layer: found.get(layer) for layer in real} == real


@corpus()
def test_the_parameters_are_those_of_the_network(session, case):
    found = named(case)
    give(session, found)
    net = found["net"]
    before = state_of(net), identity_of(net), random_states()

    with case.context():
        params = session.run("%nnparams net")

    assert (state_of(net), identity_of(net), random_states()) == before
    frame = params.to_frame()
    assert list(frame.columns) == PARAMS_COLUMNS
    expected = dict(net.named_parameters(remove_duplicate=False))
    assert frame.name.tolist() == list(expected)
    assert params.total == case.params
    assert params.trainable == (case.params if case.trainable is None else case.trainable)
    if case.params:
        assert frame.percent[frame.tied_to.isna()].sum() == pytest.approx(100)
    for row in params.rows:
        tensor = expected[row.name]
        if isinstance(tensor, nn.UninitializedParameter):
            assert (row.shape, row.count, row.mean) == (None, None, None)
            continue
        values = tensor.detach().double()
        finite = values[values.isfinite()]
        assert (row.shape, row.count) == (tuple(tensor.shape), tensor.numel())
        assert row.trainable == tensor.requires_grad
        assert row.mean == pytest.approx(finite.mean().item(), rel=1e-5, abs=1e-9)
        assert (row.min, row.max) == (finite.min().item(), finite.max().item())
        assert row.nan == int(values.isnan().sum())
        assert repr(row.values) == repr(tensor[:2].tolist())


@pytest.mark.parametrize(("levels", "limit"), [(240, 1_000), (500, 3_000)])
def test_nesting_goes_as_deep_as_without_a_trace(levels, limit):
    net, x, before = nested(levels), torch.rand(1, 2), sys.getrecursionlimit()

    sys.setrecursionlimit(limit)
    try:  # a thread begins with no frames of anybody's
        expected, trace = in_a_thread(lambda: (net(x), nnmagic.trace(net, x)))
        summary = in_a_thread(nnmagic.summary, net, x)
        assert sys.getrecursionlimit() == limit
    finally:
        sys.setrecursionlimit(before)

    assert torch.equal(trace.output, expected)
    assert [call.depth for call in trace] == list(range(levels))
    assert [row.depth for row in summary.rows] == list(range(levels))


def test_the_corpus_has_at_least_80_cases():
    assert len(CASES) >= 80
