"""What a thread calls, or a checkpoint calls again, is of the iteration that it was begun in."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from counted_calls import X, iterations
from torch import nn
from torch.utils.checkpoint import checkpoint

import nnmagic


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
