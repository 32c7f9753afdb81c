"""What a rank holds: noted where there is a process group, and only there."""

from contextlib import contextmanager

import pytest
import torch
from torch import distributed, nn

import nnmagic
from nnmagic.tensors.digest import digest_of


@contextmanager
def process_group():
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.fixture
def alone():
    with process_group():
        yield


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.linear(x))


NAMES = {
    "parameter": ["linear.weight", "linear.bias", "norm.weight", "norm.bias"],
    "buffer": ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"],
}


def by_kind(held):
    return {kind: [each.name for each in held if each.kind == kind] for kind in NAMES}


def digests(held, kind):
    return {each.name: each.digest for each in held if each.kind == kind}


def test_outside_a_process_group_no_rank_and_no_digest_is_noted():
    trace = nnmagic.trace(Net(), torch.randn(5, 4))

    assert (trace.rank, trace.world_size, trace.held, trace.held_before) == (None, None, [], [])
    assert all(each.digest is None for call in trace for each in call.outputs)
    assert not trace.log.tensors.digests


def test_a_rank_notes_its_state_before_and_after_a_run(alone):
    net, x = Net(), torch.randn(5, 4)
    before = {name: digest_of(each) for name, each in net.state_dict().items()}

    trace = nnmagic.trace(net, x)

    after = {name: digest_of(each) for name, each in net.state_dict().items()}
    assert (trace.rank, trace.world_size) == (0, 1)
    assert by_kind(trace.held) == by_kind(trace.held_before) == NAMES
    for held, state in ((trace.held_before, before), (trace.held, after)):
        assert digests(held, "parameter") | digests(held, "buffer") == state
    assert before != after
    norms = {each.name: each.norm for each in trace.held}
    assert norms["linear.weight"] == pytest.approx(net.linear.weight.norm().item())
    constant = [each.name for each in trace.held_before if each.is_constant]
    assert constant == ["norm.weight", "norm.bias", *NAMES["buffer"]]


def test_each_tensor_of_a_call_has_the_digest_of_its_values(alone):
    x = torch.randn(300, 40)
    trace = nnmagic.trace(nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)), x.clone())

    call = trace["1"]
    assert call.inputs[0].digest == digest_of(x)
    assert call.outputs[0].digest == digest_of(x.relu())


@pytest.mark.parametrize("cleared", ["before", "after", "to zero"])
def test_the_gradients_are_those_that_the_last_step_got(alone, cleared):
    net = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with nnmagic.tracing(net) as trace:
        for _ in range(3):
            if cleared == "before":
                optimizer.zero_grad()
            net(torch.randn(5, 4)).sum().backward()
            for each in net.parameters():
                each.grad *= 2  # as a reduction does
            expected = {n: digest_of(each.grad) for n, each in net.named_parameters()}
            optimizer.step()
            if cleared != "before":
                optimizer.zero_grad(set_to_none=cleared == "after")

    assert digests(trace.held, "gradient") == expected


def test_a_backward_that_no_step_follows_has_the_gradients_that_it_left(alone):
    net = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with nnmagic.tracing(net) as trace:
        net(torch.randn(5, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        net.bias.requires_grad_(False)
        net(torch.randn(5, 4)).sum().backward()

    assert digests(trace.held, "gradient") == {"weight": digest_of(net.weight.grad)}


def test_what_a_rank_holds_is_saved_with_it(alone, tmp_path):
    net = Net()
    with nnmagic.tracing(net) as trace:
        net(torch.randn(5, 4)).sum().backward()
    trace.save(tmp_path / "rank0.safetensors")

    loaded = nnmagic.load(tmp_path / "rank0.safetensors")

    assert loaded == trace
    assert (loaded.rank, loaded.world_size) == (0, 1)
    assert loaded.held == trace.held
    assert loaded.held_before == trace.held_before
    assert loaded["linear"].outputs[0].digest == trace["linear"].outputs[0].digest


def test_digests_keep_their_tensors_where_a_long_run_is_thinned(alone):
    net, x = nn.Identity(), torch.randn(4)
    with nnmagic.tracing(net) as trace:
        for i in range(1100):
            net(x + i)

    assert len(trace) < 1100
    for call in list(trace)[-3:]:
        assert call.outputs[0].digest == digest_of(x + call.iteration)
