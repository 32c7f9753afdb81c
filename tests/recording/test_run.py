import pickle
import sys
import threading

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.inputs.search import InputError


def test_a_shared_layer_has_one_record_per_call(doubling):
    found = nnmagic.trace(doubling, torch.rand(2, 4), scale=torch.tensor(2.0))

    assert [(call.layer, call.depth, call.call) for call in found] == [
        ("", 0, 0),
        ("shared", 1, 1),
        ("act", 1, 2),
        ("shared", 1, 3),
    ]
    assert found[""].input_shape == ((2, 4), {"scale": ()})
    assert found[""].output_shape == {"out": (2, 4), "rest": ((2, 4),)}
    assert len(found.calls("shared")) == 2
    assert found["shared"].call == 3


def test_several_networks_and_loops_have_steps_of_their_own():
    net, loss_fn = nn.Linear(4, 2), nn.MSELoss()

    with nnmagic.tracing() as found:
        for _ in range(3):
            loss_fn(net(torch.rand(5, 4)), torch.zeros(5, 2))

    frame = found.to_frame()
    assert frame.network.tolist() == ["Linear", "MSELoss"] * 3
    assert frame.step.tolist() == [0, 0, 1, 1, 2, 2]
    assert frame.depth.tolist() == [0] * 6
    assert frame.input_shape[1] == ((5, 2), (5, 2))


def test_only_the_given_networks_are_recorded():
    net, other = nn.Linear(4, 2), nn.ReLU()

    with nnmagic.tracing(net, every=2) as found:
        for _ in range(4):
            other(net(torch.rand(1, 4)))

    assert [(call.type, call.step) for call in found] == [("Linear", 0), ("Linear", 2)]


def test_a_trace_fills_as_the_block_runs_and_survives_an_exception():
    with pytest.raises(ZeroDivisionError), nnmagic.tracing() as found:
        nn.ReLU()(torch.ones(2))
        assert len(found) == 1
        raise ZeroDivisionError

    assert [call.type for call in found] == ["ReLU"]
    assert found.failed is None


def test_a_failing_layer_is_marked_and_named_on_the_users_own_exception():
    net = nnmagic.NeuralNetwork()

    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught, nnmagic.tracing() as found:
        net(torch.rand(1, 20))

    assert [(call.layer, call.failed) for call in found] == [
        ("", True),
        ("flatten", False),
        ("linear_relu_stack", True),
        ("linear_relu_stack.0", True),
    ]
    assert found.failed.layer == "linear_relu_stack.0"
    mismatch = "got (1, 20), weight is (512, 784): the last axis must be 784, it is 20; "
    mismatch += "make the layer with in_features=20"
    assert found.failed.failure.mismatch == mismatch
    (note,) = caught.value.__notes__
    assert note.startswith(
        "nnmagic: raised in linear_relu_stack.0 (Linear), called at tutorial.py:"
    )
    assert note.endswith(mismatch)


def test_an_error_that_the_network_catches_is_marked_and_blamed_on_nobody():
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.good = nn.Linear(3, 3), nn.ReLU()

        def forward(self, x):
            try:
                return self.bad(x)
            except RuntimeError:
                return self.good(x)

    found = nnmagic.trace(Catching(), torch.rand(1, 4))

    assert [(call.layer, call.failed) for call in found] == [
        ("", False),
        ("bad", True),
        ("good", False),
    ]
    assert found.failed is None
    assert "FAILED, caught: RuntimeError" in str(found)


def test_no_input_to_be_found_is_an_error_that_says_so():
    with pytest.raises(InputError, match="no input found"):
        nnmagic.trace(nn.Sequential(nn.Linear(6, 5), nn.Linear(4, 2)))


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="every must be at least 1"), nnmagic.tracing(every=0):
        pass
    with (
        pytest.raises(ValueError, match="keep must be one of none, sample, all"),
        nnmagic.tracing(keep="x"),
    ):
        pass


def test_a_trace_is_a_value():
    net, x = nn.Linear(4, 4), torch.rand(2, 4)
    first, second = nnmagic.trace(net, x), nnmagic.trace(net, x)

    assert first == second
    assert hash(first) == hash(second)
    copied = pickle.loads(pickle.dumps(first))
    assert copied == first
    assert str(copied) == str(first)
    assert copied.output is None
    assert first != nnmagic.trace(net, x + 1)


def test_another_thread_sees_whole_calls_only():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    seen, errors = [], []
    reads = threading.Event()

    def read(trace):
        reads.set()
        while len(seen) < 5000:
            try:
                with trace.log.lock:
                    if len(trace):
                        seen.append(trace.call_at(len(trace) - 1))
                if len(seen) % 1000 == 1:
                    str(trace)
            except Exception as error:  # noqa: BLE001 - the assertion shows it
                errors.append(error)
                return

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with nnmagic.tracing() as trace:
            reader = threading.Thread(target=read, args=[trace])
            reader.start()
            reads.wait(10)
            while reader.is_alive():
                net(torch.ones(1, 2))
    finally:
        sys.setswitchinterval(before)
    reader.join(30)

    assert errors == []
    assert {(call.layer, call.input_shape) for call in seen} <= {
        ("", (1, 2)),
        ("0", (1, 2)),
        ("1", (1, 2)),
    }
    assert len(seen) == 5000
