"""There is no GPU here: the CPU stands in for one, and the host's reads are counted."""

import copy

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from exact_statistics import COMPLEX, FLOATS, INTEGERS
from torch import nn
from torch.autograd.profiler import profile
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import nnmagic
from nnmagic.records.kept_slices import PICTURE_VALUES, WHOLE, step_of
from nnmagic.tensors import device_measure, devices
from nnmagic.tensors.device_statistics import sums_of

READS = ("item", "cpu", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__")
"""The methods of a tensor that give the host its values."""

WAITS = {
    f"aten::{name}"
    for name in (
        "_local_scalar_dense",
        "item",
        "equal",
        "is_nonzero",
        "nonzero",
        "masked_select",
        "_unique2",
        "bincount",
        "repeat_interleave",
    )
}
"""The operations for which the host waits for a device."""


@pytest.fixture
def on_a_device(monkeypatch):
    monkeypatch.setattr(devices, "on_accelerator", lambda tensor: not tensor.is_meta)
    return monkeypatch


@pytest.fixture
def reads(on_a_device):
    """The reads by the host, as they come."""
    found = []

    def counted(name):
        method = getattr(torch.Tensor, name)

        def read(*args, **kwargs):
            found.append(name)
            return method(*args, **kwargs)

        return read

    for name in READS:
        on_a_device.setattr(torch.Tensor, name, counted(name))
    return found


def pending_of(trace):
    """Return what waits on devices to be read."""
    return trace.log.tensors.read_pending.__self__


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 15 * 15, 10),
    ), torch.rand(8, 3, 32, 32)


def attention():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.rand(4, 40, 64)


NETWORKS = pytest.mark.parametrize("make", [convolutions, attention])


@NETWORKS
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("ops", [True, False])
def test_the_host_reads_nothing_while_the_network_runs(make, train, ops, reads):
    net, x = make()
    net.train(train)

    with nnmagic.tracing(net, ops=ops) as trace:
        with profile() as seen:
            net(x)
            net(x).sum().backward()
        inside = [*reads]

    assert trace[""].outputs[0].std > 0
    assert inside == []
    assert not WAITS & {event.name for event in seen.function_events}


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX, ids=str)
@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x[:, ::2], lambda x: x.t()])
def test_no_operation_depends_on_the_values(dtype, layout, reads):
    tensor = layout(torch.randint(0, 2, (100, 100)).to(dtype))

    with profile() as seen:
        for options in ({"picture_values": PICTURE_VALUES}, {"whole_rows": 3}, {"max_values": 256}):
            device_measure.begin(tensor, **options)

    assert reads == []
    assert not WAITS & {event.name for event in seen.function_events}


def test_an_interrupted_measurement_is_blank(on_a_device):
    def interrupt(values, wide):
        raise KeyboardInterrupt

    on_a_device.setattr(device_measure, "sums_of", interrupt)

    with pytest.raises(KeyboardInterrupt), nnmagic.tracing() as trace:
        nn.ReLU()(torch.randn(100, 100))

    assert trace.log.tensors.record(0).mean is None
    assert trace.log.tensors.record(0).values is None


def test_tensors_of_the_host_that_are_measured_meanwhile_make_it_read_nothing(reads):
    devices.on_accelerator = lambda tensor: tensor.dtype is torch.float16
    there, here = torch.randn(100, 100).half(), torch.randn(1000)

    with nnmagic.tracing() as trace:
        for _ in range(100):
            nn.ReLU()(here)
            nn.ReLU()(there)
        inside = [*reads]

    assert "cpu" not in inside
    assert trace.log.tensors.record(0).std == pytest.approx(here.std().item())
    assert trace.log.tensors.record(2).std == pytest.approx(there.double().std().item())


def test_all_is_read_by_one_copy_and_the_buffers_by_another(reads):
    net, x = convolutions()

    with nnmagic.tracing(net):
        net(x)
        net(x)
        reads.clear()

    assert reads.count("cpu") == 2


@NETWORKS
@pytest.mark.parametrize("train", [True, False])
def test_results_gradients_and_random_state_are_as_without(make, train, on_a_device):
    torch.manual_seed(0)
    plain, x = make()
    traced = copy.deepcopy(plain.train(train))
    torch.manual_seed(1)
    expected = plain(x)
    expected.sum().backward()
    state = torch.get_rng_state()
    torch.manual_seed(1)

    torch.use_deterministic_algorithms(True)
    try:
        with nnmagic.tracing(traced, grad=True):
            found = traced(x)
            found.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)

    assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(plain.parameters(), traced.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@NETWORKS
def test_a_trace_says_the_same_as_one_of_the_host(make, monkeypatch):
    torch.manual_seed(0)
    net, x = make()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = nnmagic.trace(net.eval(), x)
        monkeypatch.setattr(devices, "on_accelerator", lambda tensor: True)
        found = nnmagic.trace(net, x)

    for one, other in zip(found, expected, strict=True):
        assert one.output_shape == other.output_shape
        for mine, theirs in zip(one.outputs, other.outputs, strict=True):
            assert (mine.min, mine.max, mine.zeros) == (theirs.min, theirs.max, theirs.zeros)
            assert mine.mean == pytest.approx(theirs.mean, rel=1e-5, abs=1e-5 * theirs.std)
            assert mine.std == pytest.approx(theirs.std, rel=1e-5)
            assert (mine.leading, mine.spread) == (theirs.leading, theirs.spread)
            assert mine.picture == theirs.picture
    assert str(found) == str(expected)


@pytest.mark.parametrize("side", [20, 100])
def test_a_later_change_in_place_rewrites_nothing(side, on_a_device):
    x = torch.randn(side, side)
    expected = x.min().item(), x[0, 0].item()

    with nnmagic.tracing() as trace:
        nn.ReLU(inplace=True)(x)
        x.fill_(7)

    given, returned = trace[""].inputs[0], trace[""].outputs[0]
    assert (given.min, given.leading.flat()[0]) == pytest.approx(expected)
    assert returned.min == 0
    assert returned.max < 7


@pytest.mark.parametrize("numel", [10, 3000, 10_000])
def test_a_trace_that_is_read_while_it_fills_has_values_and_numbers(numel, on_a_device):
    x = torch.randn(numel)

    with nnmagic.tracing() as trace:
        nn.Identity()(x)
        samples = trace.log.tensors.samples_of(0)
        mean = trace[""].mean

    assert samples.spread.flat() == x[:: step_of(numel, WHOLE)].tolist()
    assert mean == pytest.approx(x.double().mean().item(), abs=1e-6)


def test_what_waits_is_bounded(on_a_device):
    on_a_device.setattr(devices, "MOST", 5)
    waiting = []

    with nnmagic.tracing() as trace:
        for step in range(20):
            nn.ReLU()(torch.full((5000,), float(step)))
            waiting.append(len(pending_of(trace)._entries))

    assert max(waiting) < 5
    assert trace.to_frame()["mean"].tolist() == list(range(20))


def test_what_waits_takes_a_bounded_memory(on_a_device):
    on_a_device.setattr(devices, "MOST_BYTES", 50_000)
    waiting = []

    with nnmagic.tracing() as trace:
        for step in range(20):
            nn.ReLU()(torch.full((5000,), float(step)))
            waiting.append(pending_of(trace)._bytes)

    assert max(waiting) <= 50_000
    assert trace.to_frame()["mean"].tolist() == list(range(20))


@pytest.mark.parametrize("side", [50, 100])
def test_only_the_last_step_is_drawn(side, on_a_device):
    net = nn.Sequential(nn.ReLU(), nn.Tanh())

    with nnmagic.tracing(net) as trace:
        for _ in range(3):
            net(torch.randn(side, side))

    drawn = [call.outputs[0].picture is not None for call in trace]
    assert drawn == [False] * 6 + [True] * 3


class LackingError(RuntimeError):
    pass


def test_what_a_device_cannot_compute_is_blank_with_the_reason(on_a_device):
    def refuse(values, wide):
        if values.dtype is torch.float16:
            raise LackingError('"amin" not implemented for Half\nand more')
        return sums_of(values, wide)

    on_a_device.setattr(device_measure, "sums_of", refuse)

    with nnmagic.tracing() as trace:
        y = nn.ReLU()(torch.randn(100, 100).half())
        nn.Tanh()(y.float())

    relu, tanh = trace["ReLU:"].outputs[0], trace["Tanh:"].outputs[0]
    assert (relu.unknown, relu.mean) == ('"amin" not implemented for Half', None)
    assert tanh.mean > 0


def test_numbers_that_cannot_be_read_are_blank_with_the_reason(on_a_device):
    def refuse(tensors):
        raise RuntimeError("CUDA error: device-side assert triggered")

    on_a_device.setattr(devices, "read_together", refuse)

    net = nn.BatchNorm1d(100)

    with nnmagic.tracing() as trace:
        net(torch.randn(100, 100))

    assert trace[""].outputs[0].unknown == "CUDA error: device-side assert triggered"
    assert trace[""].mean is None
    assert trace.log.notes == []  # whether the network changed cannot be told


def test_in_the_capture_of_a_cuda_graph_nothing_is_computed(reads, on_a_device):
    on_a_device.setattr(devices, "is_capturing", lambda tensor: True)
    net, x = convolutions()

    with nnmagic.tracing(net) as trace:
        net(x)
        inside = [*reads]

    assert inside == []
    assert trace["0"].output_shape == (8, 16, 30, 30)
    assert trace["0"].outputs[0].unknown == "inside the capture of a CUDA graph"
    assert trace.log.notes == []


def test_a_constant_output_is_found(on_a_device):
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    nn.init.constant_(net[0].bias, -1000)

    with nnmagic.tracing(net) as trace:
        net(torch.rand(6, 20))
        net(torch.rand(1, 20).expand(6, -1))
        net(torch.rand(6, 20) + 2000)

    assert trace.log.constant == {0}


def test_an_ensemble_under_vmap_has_no_numbers_and_leaves_no_error(on_a_device):
    nets = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(nets)

    def run(parameters, buffers, x):
        return torch.func.functional_call(nets[0], (parameters, buffers), (x,))

    with nnmagic.tracing() as trace:
        torch.vmap(run, (0, 0, None))(parameters, buffers, torch.rand(2, 4))

    assert trace["0"].outputs[0].unknown == "inside a torch.func transform"
    assert trace.log.constant == set()


def test_what_spoiled_an_output_is_found(on_a_device):
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    net(torch.rand(6, 20))

    with torch.no_grad(), nnmagic.tracing(net) as trace:
        net(torch.rand(6, 20))
        net[2].weight[0, 0] = float("nan")
        net(torch.rand(6, 20))
        net(torch.rand(6, 20))

    assert trace.log.nonfinite_parameters == dict.fromkeys(
        (7, 11), ("parameter weight holds 1 NaN",)
    )


@pytest.mark.parametrize("called_again", [False, True])
def test_what_spoiled_an_output_is_not_told_once_the_network_has_changed(called_again, on_a_device):
    net = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 4))
    nn.init.constant_(net[0].weight, 3e38)

    with torch.no_grad(), nnmagic.tracing(net) as trace:
        net(torch.full((6, 20), 10.0))
        net[0].weight.fill_(float("nan"))
        if called_again:
            net(torch.full((6, 20), 10.0))

    assert trace.first_nonfinite.call == 1
    assert set(trace.log.nonfinite_parameters) == ({4} if called_again else set())


class Logging(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


class LoggingOperations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Logging, LoggingOperations])
def test_modes_of_the_users_see_no_more_than_of_a_trace_on_the_host(mode, monkeypatch):
    net, x = convolutions()

    def seen():
        with mode() as log, nnmagic.tracing(net) as trace:
            log.seen = []
            net(x)
        assert trace["0"].std > 0
        return set(log.seen)

    expected = seen()
    monkeypatch.setattr(devices, "on_accelerator", lambda tensor: True)
    assert seen() <= expected


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_numbers_are_taken_in_every_grad_mode_and_leave_no_graph(mode, on_a_device):
    with nnmagic.tracing() as trace:
        with mode():
            y = nn.Linear(100, 100)(torch.randn(100, 100))
        waiting = [*pending_of(trace)._entries.values()]

    assert trace[""].std == pytest.approx(y.std().item(), rel=1e-5)
    assert not any(tensor.requires_grad for tensors, _ in waiting for tensor in tensors)


def test_a_tangent_is_no_part_of_the_numbers(on_a_device):
    x, tangent = torch.randn(100, 100), torch.ones(100, 100)

    with fwAD.dual_level(), nnmagic.tracing() as trace:
        y = nn.Tanh()(fwAD.make_dual(x, tangent))
        waiting = [*pending_of(trace)._entries.values()]
        tangents = [fwAD.unpack_dual(each).tangent for tensors, _ in waiting for each in tensors]

    assert set(tangents) == {None}
    assert trace[""].max == y.max().item()


@pytest.mark.parametrize("keep", ["none", "sample", "all"])
def test_what_is_exotic_is_read_as_ever(keep, on_a_device):
    sparse = torch.eye(200).to_sparse()

    with nnmagic.tracing(keep=keep) as trace:
        nn.Identity()(sparse)

    assert (trace[""].max, trace[""].zeros) == (1, 0.995)


def test_gradients_are_measured_there_too(on_a_device):
    net = nn.Linear(100, 100)

    with nnmagic.tracing(net, grad=True) as trace:
        net(torch.randn(50, 100)).square().sum().backward()

    gradient = trace[""].parameter_gradients["weight"]
    assert gradient.std == pytest.approx(net.weight.grad.std().item(), rel=1e-5)
    assert trace[""].grad_norm > 0


def test_a_live_widget_shows_the_numbers(on_a_device):
    net, x = convolutions()

    with nnmagic.watch(net) as widget:
        net(x)
        first = widget.watcher.last["0"].outputs[0]
        y = net(x)
        trace = widget.watcher.last

    assert first.measured is None
    assert first.std > 0
    assert trace["0"].outputs[0].measured == 256
    assert trace[""].outputs[0].values == y.tolist()


def test_a_live_widget_says_what_spoiled_an_output(on_a_device):
    net = nn.Sequential(nn.Linear(20, 30))
    nn.init.constant_(net[0].bias, float("nan"))

    with nnmagic.watch(net) as widget:
        net(torch.rand(6, 20))
        log = widget.watcher.last.log

    assert log.nonfinite_parameters == {1: ("parameter bias holds 30 NaN",)}


def test_nothing_waits_after_the_run(on_a_device):
    net, x = convolutions()

    with nnmagic.tracing(net) as trace:
        net(x)
        pending = pending_of(trace)

    assert trace.log.tensors.read_pending is None
    assert not pending._entries


def test_tensors_are_read_as_they_are():
    tensors = [
        torch.tensor(True),
        torch.randn(3, 4).t(),
        torch.randn(5).half(),
        torch.empty(0, 3),
        torch.tensor([1 + 2j]),
        torch.tensor([2**62]),
    ]

    found = devices.read_together(tensors)

    assert all(map(torch.equal, found, tensors))
    assert [each.dtype for each in found] == [each.dtype for each in tensors]
