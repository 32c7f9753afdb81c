import gc

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.recording.root_calls import GoneError
from nnmagic.widget.live_network import LiveNetwork, first_sentence
from nnmagic.widget.loading import Loader


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10), nn.Dropout(0.5))


def test_the_network_is_not_kept_alive():
    net = nn.Sequential(nn.Linear(4, 4))
    live = LiveNetwork(nnmagic.trace(net, torch.rand(1, 4)))

    del net
    gc.collect()

    assert live.offer() == {"enabled": False, "reason": "the network is gone", "sources": []}
    assert live.counts() is None
    assert "gone" in live.details("Sequential", "0").reason
    with pytest.raises(GoneError, match="the network is gone"):
        live.run({"on": "noise"})


def test_of_a_trace_that_was_loaded_no_run_is_offered_and_no_network_said_to_be_gone(net, tmp_path):
    trace = nnmagic.trace(net, torch.rand(2, 1, 28, 28))
    trace.save(tmp_path / "run.nnmagic")
    loaded = nnmagic.load(tmp_path / "run.nnmagic")
    live = LiveNetwork(loaded)

    assert live.offer() is None
    assert "not in this session" in live.details("net", "1").reason
    assert "not in this session" in Loader(loaded).of(next(iter(loaded))).reason


def test_details_are_the_layers_own():
    net = nn.Sequential(nn.Linear(4, 2))
    live = LiveNetwork(nnmagic.trace(net, torch.rand(1, 4)))

    details = live.details("Sequential", "0")

    assert details.arguments == "in_features=4, out_features=2, bias=True"
    assert "linear transformation" in details.doc
    assert [p.name for p in details.parameters] == ["weight", "bias"]
    assert live.counts() == {("Sequential", ""): 10, ("Sequential", "0"): 10}


def test_a_layer_that_a_forward_makes_is_not_said_to_be_gone_with_the_network():
    class Making(nn.Module):
        def forward(self, x):
            return nn.Linear(4, 2)(x)

    net = Making()
    trace = nnmagic.trace(net, torch.rand(1, 4))
    made = [call.layer for call in trace][-1]

    assert "created inside a forward" in LiveNetwork(trace).details("Making", made).reason


def test_a_large_layers_details_are_measured_by_a_sample():
    net = nn.Sequential(nn.Linear(1000, 500))
    live = LiveNetwork(nnmagic.trace(net, torch.rand(1, 1000)))

    weight, bias = live.details("Sequential", "0").parameters

    assert weight.tensor.measured == 1 << 18
    assert weight.mean == pytest.approx(net[0].weight.mean().item(), abs=1e-4)
    assert weight.values == net[0].weight[:2].tolist()
    assert bias.tensor.measured is None


def test_a_function_between_the_layers_has_no_parameters_and_runs_again_with_the_network():
    class Sum(nn.Module):
        def forward(self, x):
            return x + 1

    net, x = Sum(), torch.rand(2, 3)
    with nnmagic.tracing(net, ops=True) as t:
        net(x)
    live = LiveNetwork(t)

    again = live.run({"on": "same"})

    assert live.details("Sum", "add()").reason == "a function holds no parameters"
    assert again["add()"].outputs == t["add()"].outputs


def test_a_class_has_its_own_sentence_or_none():
    class Written(nn.Linear):
        """Doubles. Then :class:`~torch.nn.Linear`."""

    class Linked(nn.Linear):
        """Does as `"A Paper" <https://a.paper/1>`_ says. Then more."""

    class Silent(nn.Linear):
        pass

    assert first_sentence(Written) == "Doubles."
    assert first_sentence(Silent) == ""
    assert first_sentence(Linked) == 'Does as "A Paper" says.'
    assert first_sentence(nn.LSTM).startswith("Apply a multi-layer long short-term memory")
    assert first_sentence(nn.ReLU) == "Applies the rectified linear unit function element-wise."
