"""What a device computes is read once, and late; the CPU stands in for one, its reads counted."""

import pytest
import torch
from device_networks import NETWORKS, convolutions, pending_of
from exact_statistics import COMPLEX, FLOATS, INTEGERS
from torch import nn
from torch.autograd.profiler import profile

import nnmagic
from nnmagic.records.kept_slices import PICTURE_VALUES, WHOLE, step_of
from nnmagic.tensors import device_measure, devices

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


def test_tensors_of_the_host_that_are_measured_meanwhile_make_it_read_nothing(reads, on_a_device):
    on_a_device.setattr(devices, "on_accelerator", lambda tensor: tensor.dtype is torch.float16)
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

    assert 0 < max(waiting) < 5
    assert trace.to_frame()["mean"].tolist() == list(range(20))


def test_what_waits_takes_a_bounded_memory(on_a_device):
    on_a_device.setattr(devices, "MOST_BYTES", 50_000)
    waiting = []

    with nnmagic.tracing() as trace:
        for step in range(20):
            nn.ReLU()(torch.full((5000,), float(step)))
            waiting.append(pending_of(trace)._bytes)

    assert 0 < max(waiting) <= 50_000
    assert trace.to_frame()["mean"].tolist() == list(range(20))


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
