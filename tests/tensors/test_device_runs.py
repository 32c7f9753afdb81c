"""What a trace says of a network on a device: as on the host, and changing as little."""

import copy

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from device_networks import NETWORKS, convolutions, pending_of
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import nnmagic
from nnmagic.tensors import device_measure, devices
from nnmagic.tensors.device_statistics import sums_of


def test_an_interrupted_measurement_is_blank(on_a_device):
    def interrupt(values, wide):
        raise KeyboardInterrupt

    on_a_device.setattr(device_measure, "sums_of", interrupt)

    with pytest.raises(KeyboardInterrupt), nnmagic.tracing() as trace:
        nn.ReLU()(torch.randn(100, 100))

    assert trace.log.tensors.record(0).mean is None
    assert trace.log.tensors.record(0).values is None


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


def test_the_item_of_which_an_attention_map_is_made_is_read_at_the_end(reads):
    layer, x = nn.MultiheadAttention(64, 2, batch_first=True), torch.randn(3, 300, 64)
    mask, first = torch.zeros(300, 300).bool(), x[:1].clone()

    with torch.no_grad(), nnmagic.tracing() as trace:
        layer(x, x, x, attn_mask=mask)
        x.zero_()
        during, before = [*reads], dict(trace.log.first_items)

    (item,) = trace.log.first_items.values()
    assert (during, before) == ([], {})
    assert item.arguments == {"query": 0, "key": 0, "value": 0, "attn_mask": 1}
    assert item.values[0].array().tolist() == first.tolist()
    assert (item.values[1].shape, item.dtypes[1]) == ((300, 300), "bool")


def test_items_that_wait_on_a_device_are_let_go_with_their_iteration(on_a_device):
    layer, x = nn.MultiheadAttention(64, 2, batch_first=True), torch.randn(3, 300, 64)

    with torch.no_grad(), nnmagic.tracing() as trace:
        for number in range(3):
            layer(*[x + number] * 3)

    assert list(trace.log.first_items) == [len(trace.log) - 1]
    (item,) = trace.log.first_items.values()
    assert item.values[0].array().tolist() == (x[:1] + 2).tolist()
