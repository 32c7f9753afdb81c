"""Nothing is left behind: no tensor, no module, no hook, however often a magic ran."""

import dataclasses
import gc
import weakref
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

import nnmagic
from nnmagic import params, summary, trace

RUNS = 200


class Mixed(nn.Module):
    """Has a bit of everything: buffers, a layer used twice, dicts, an in-place layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x))).mean((-1, -2))
        return {"out": self.fc(self.fc(x)), "rest": (x, None)}


class Failing(nn.Sequential):
    """Its second layer raises."""

    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.Linear(3, 3))


def living(*kinds):
    """How many objects of each kind there are, after all garbage is collected."""
    gc.collect()
    found = Counter()
    for each in gc.get_objects():
        for kind in kinds:
            if issubclass(type(each), kind):
                found[kind] += 1
    return found


def with_grad(net, x):
    with nnmagic.tracing(grad=True) as record:
        net(x)["out"].sum().backward()
    return record


def with_functions(net, x):
    with nnmagic.tracing(ops=True, keep="all") as record:
        net(x)
    return record


def that_fails(net, x):
    with pytest.raises(RuntimeError):
        trace(Failing(), x[0, 0, :, :4])


def that_fails_on_meta(net, x):
    with pytest.raises(RuntimeError):
        summary(Failing(), x[0, 0, :, :4])


ASKING = {
    "trace": trace,
    "trace_on_an_input_of_its_own": lambda net, x: trace(net),
    "trace_that_fails": that_fails,
    "trace_with_gradients": with_grad,
    "trace_with_functions": with_functions,
    "summary": summary,
    "summary_on_an_input_of_its_own": lambda net, x: summary(net),
    "summary_that_fails": that_fails_on_meta,
    "params": lambda net, x: params(net),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKING)
def test_200_in_a_row_leave_no_tensor_module_or_hook(name):
    ask, kinds = ASKING[name], (torch.Tensor, nn.Module, RemovableHandle)
    net, x = Mixed(), torch.rand(2, 1, 8, 8)
    ask(net, x)
    net.zero_grad()
    before = living(*kinds)

    for _ in range(RUNS):
        ask(net, x)
    net.zero_grad()

    assert living(*kinds) == before


@pytest.mark.parametrize("name", [name for name in ASKING if "fails" not in name])
def test_a_kept_record_keeps_nothing_of_the_users(name):
    net, x = Mixed(), torch.rand(2, 1, 8, 8)
    references = [weakref.ref(each) for each in (net, x, *net.modules(), *net.parameters())]
    record = ASKING[name](net, x)
    if isinstance(record, nnmagic.Trace):
        record = dataclasses.replace(record, output=None)  # which a trace keeps by its contract

    del net, x
    gc.collect()

    assert [each() for each in references if each() is not None] == []
    assert len(record.to_frame()) > 0


def test_an_exception_that_was_seen_keeps_the_network_alive_no_longer_than_itself():
    net = Failing()
    reference = weakref.ref(net)
    with pytest.raises(RuntimeError) as caught:
        trace(net, torch.rand(2, 4))

    del net, caught
    gc.collect()

    assert reference() is None
