import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nnmagic.network.calls import CallCounter, CallObserver, observed
from nnmagic.network.naming import Naming


class Log(CallObserver):
    """Writes down what it sees."""

    def __init__(self, naming=None):
        super().__init__(naming or Naming())
        self.events = []

    def began(self, call):
        self.events.append(("began", call.layer, call.depth, call.step))

    def ended(self, call, output):
        self.events.append(("ended", call.layer))

    def raised(self, call, error):
        self.events.append(("raised", call.layer, type(error).__name__))


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


class Catching(nn.Module):
    """Catches its layer's error and goes on."""

    def __init__(self, error):
        super().__init__()
        self.bad = Failing(error)
        self.good = nn.ReLU()

    def forward(self, x):
        try:
            return self.bad(x)
        except (Exception, KeyboardInterrupt):  # noqa: BLE001 - networks do such things
            return self.good(x)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before, limit = nn.Module.__call__.__code__, sys.getrecursionlimit()
    yield
    assert nn.Module.__call__.__code__ is before
    assert sys.getrecursionlimit() == limit


def test_a_parent_begins_before_its_children_and_ends_after_them():
    log = Log()
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))

    with observed(log):
        net(torch.ones(1))

    assert log.events == [
        ("began", "", 0, 0),
        ("began", "0", 1, 0),
        ("ended", "0"),
        ("began", "1", 1, 0),
        ("began", "1.0", 2, 0),
        ("ended", "1.0"),
        ("ended", "1"),
        ("ended", ""),
    ]


def test_each_outermost_call_is_a_step_of_its_network():
    log = Log()
    first, second = nn.ReLU(), nn.Tanh()

    with observed(log):
        for _ in range(2):
            first(torch.ones(1))
        second(torch.ones(1))

    assert [event[3] for event in log.events if event[0] == "began"] == [0, 1, 0]


def test_what_an_observer_skips_is_passed_over_with_all_that_it_calls():
    log = Log()
    log.skips = lambda call: call.step % 2 > 0
    net = nn.Sequential(nn.ReLU())

    with observed(log):
        for _ in range(4):
            net(torch.ones(1))

    began = [event[1:] for event in log.events if event[0] == "began"]
    assert began == [("", 0, 0), ("0", 1, 0), ("", 0, 2), ("0", 1, 2)]


def test_the_stack_is_right_after_an_error_that_the_network_catches():
    log = Log()

    with observed(log):
        Catching(ValueError())(torch.ones(1))

    assert log.events == [
        ("began", "", 0, 0),
        ("began", "bad", 1, 0),
        ("raised", "bad", "ValueError"),
        ("began", "good", 1, 0),
        ("ended", "good"),
        ("ended", ""),
    ]
    assert log.running == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration, ValueError])
def test_an_exception_goes_on_as_the_very_same_object(error):
    log, raised = Log(), error("why")

    with pytest.raises(error) as caught, observed(log):
        nn.Sequential(Failing(raised))(torch.ones(1))

    assert caught.value is raised
    assert [event[0] for event in log.events] == ["began", "began", "raised", "raised"]
    assert log.running == []


def test_a_thread_that_was_there_before_is_passed_through():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        log = Log()

        with observed(log):
            pool.submit(nn.ReLU(), torch.ones(1)).result()

    assert log.events == []


def test_a_thread_that_begins_in_the_run_is_seen_with_a_stack_of_its_own():
    log = Log()

    class Threaded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.ReLU())

        def forward(self, x):
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(self.inner, x).result()

    with observed(log):
        Threaded()(torch.ones(1))

    assert [event[:3] for event in log.events if event[0] == "began"] == [
        ("began", "", 0),
        ("began", "inner", 0),
        ("began", "inner.0", 1),
    ]


class Checkpointed(nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        self.how = how

    def forward(self, x):
        return checkpoint(self.inner, x, **self.how)


@pytest.mark.parametrize("how", [{"use_reentrant": True}, {"use_reentrant": False}])
def test_what_a_checkpoint_recomputes_is_no_step_and_no_failure(how):
    log = Log()
    net = Checkpointed(**how)
    recomputed = []
    log.began = lambda call: recomputed.append((call.layer, call.step, call.recomputed))
    log.raised = lambda call, error: recomputed.append("raised")

    with observed(log):
        net(torch.ones(1, 2, requires_grad=True)).sum().backward()
        net(torch.ones(1, 2))

    assert recomputed == [
        ("", 0, False),
        ("inner", 0, False),
        ("inner.0", 0, False),
        ("inner.1", 0, False),
        ("inner", 0, True),
        ("inner.0", 0, True),
        ("inner.1", 0, True),
        ("", 1, False),
        ("inner", 1, False),
        ("inner.0", 1, False),
        ("inner.1", 1, False),
    ]


def test_a_whole_network_that_is_recomputed_is_no_step():
    log = Log()
    net = nn.Sequential(nn.Linear(2, 2))

    with observed(log):
        y = checkpoint(net, torch.ones(1, 2), use_reentrant=False)
        y.sum().backward()

    assert [event[3] for event in log.events if event[0] == "began"] == [0, 0, 0, 0]


def test_blocks_may_be_nested():
    outer, inner = Log(), Log()

    with observed(outer):
        with observed(inner):
            nn.ReLU()(torch.ones(1))
        nn.Tanh()(torch.ones(1))

    assert len(outer.events) == 4
    assert len(inner.events) == 2


def test_a_network_runs_as_deep_as_it_does_unobserved():
    net, levels = nn.Identity(), 1
    while True:
        deeper = nn.Sequential(net)
        try:
            deeper(torch.ones(1))
        except RecursionError:
            break
        net, levels = deeper, levels + 1
    log = Log()

    with observed(log):
        net(torch.ones(1))

    assert levels > 100
    assert len(log.events) == 2 * levels


def test_a_networks_own_change_of_the_recursion_limit_stays():
    limit = sys.getrecursionlimit()
    try:
        with observed(Log()):
            sys.setrecursionlimit(4321)
        assert sys.getrecursionlimit() == 4321
    finally:
        sys.setrecursionlimit(limit)


def test_the_layers_of_a_compiled_network_are_seen():
    log = Log()
    net = torch.compile(nn.Sequential(nn.ReLU(), nn.Tanh()))

    with observed(log):
        net(torch.ones(2))

    assert {event[1].split(".")[-1] for event in log.events} >= {"0", "1"}


def test_a_network_compiled_under_an_observer_does_not_hold_on_to_it():
    class Net(nn.Module):  # of a layer of torch's own dynamo takes the forward alone
        def forward(self, x):
            return x + 1

    net = Net()
    observer = Log()
    with observed(observer):
        compiled = torch.compile(net, backend="eager")
    gone = weakref.ref(observer)

    del observer
    gc.collect()

    assert gone() is None
    assert compiled(torch.rand(1, 2)).shape == (1, 2)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_compiled_networks_are_as_before_in_whatever_order_observers_end(order):
    net = torch.compile(nn.Sequential(nn.Linear(2, 2)), backend="eager")
    stance = torch._dynamo.eval_frame._stance.stance
    blocks = [observed(Log()), observed(Log())]
    for block in blocks:
        block.__enter__()
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"

    for i in order:
        blocks[i].__exit__(None, None, None)

    assert torch._dynamo.eval_frame._stance.stance == stance
    assert net(torch.rand(1, 2)).shape == (1, 2)


def test_a_counter_counts_the_calls_of_its_own_thread_and_of_new_ones():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    counter = CallCounter()

    with observed(counter):
        net(torch.rand(1, 2))
        thread = threading.Thread(target=net, args=(torch.rand(1, 2),))
        thread.start()
        thread.join()
    net(torch.rand(1, 2))

    assert counter.calls == 6
