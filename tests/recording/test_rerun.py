import copy

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.recording.rerun import Rerun
from nnmagic.recording.root_calls import GoneError


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10), nn.Dropout(0.5))


def state_of(net):
    return {
        "values": copy.deepcopy(net.state_dict()),
        "modes": [module.training for module in net.modules()],
        "hooks": [len(module._forward_hooks) for module in net.modules()],
    }


def same(a, b):
    values = all(torch.equal(x, b["values"][k]) for k, x in a["values"].items())
    return values and a["modes"] == b["modes"] and a["hooks"] == b["hooks"]


def expected(net, x):
    twin = copy.deepcopy(net).eval()
    with torch.no_grad():
        return twin(x)


def test_a_run_on_noise_is_that_of_its_seed_in_eval_mode_and_changes_nothing(net):
    rerun = Rerun(nnmagic.trace(net, torch.rand(3, 28, 28)))
    before, random = state_of(net), torch.get_rng_state()

    trace = rerun.run({"on": "noise", "seed": 7})

    noise = torch.rand(3, 28, 28, generator=torch.Generator().manual_seed(7))
    assert torch.equal(trace.output, expected(net, noise))
    assert same(before, state_of(net))
    assert torch.equal(random, torch.get_rng_state())
    assert not trace.output.requires_grad


def test_a_run_on_the_same_input_gives_the_same_values(net):
    net.eval()
    x = torch.rand(3, 28, 28)
    trace = nnmagic.trace(net, x)

    again = Rerun(trace).run({"on": "same"})

    assert torch.equal(again.output, trace.output)


def test_a_run_is_under_the_autocast_that_the_recorded_one_had(net):
    with torch.autocast("cpu", torch.bfloat16):
        trace = nnmagic.trace(net, torch.rand(3, 28, 28).bfloat16())

    again = Rerun(trace).run({"on": "noise"})

    assert again.log.raised is None
    assert again["1"].dtype == "bfloat16"


def test_an_input_that_was_worked_out_can_be_made_again():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    trace = nnmagic.trace(net)

    again = Rerun(trace).run({"on": "same"})

    assert torch.equal(again.output, trace.output)
    assert net is again.root()


def test_a_picture_goes_in_as_the_tutorial_loads_it(net, pictures):
    rerun = Rerun(nnmagic.trace(net, torch.rand(3, 28, 28)))

    trace = rerun.run({"on": "picture", "index": 3})

    data = nnmagic.fashion_mnist()
    picture, label = data[3]
    assert torch.equal(trace.output, expected(net, picture))
    assert data.classes[label] in trace.log.title
    assert trace.view.classes == tuple(data.classes)
    assert rerun.offer()["sources"] == ["same", "noise", "picture"]


def test_thumbnails_are_the_data_sets_own(net, pictures):
    labels, points = Rerun(nnmagic.trace(net, torch.rand(2, 28, 28))).thumbnails()

    data = nnmagic.fashion_mnist()
    assert len(points) == len(labels) * 784
    assert points[:784] == data.data[0].numpy().tobytes()
    assert labels[0] == data.classes[data.targets[0]]


def test_a_variable_goes_in_by_its_name(net):
    x = torch.rand(2, 28, 28)
    rerun = Rerun(nnmagic.trace(net, torch.rand(1, 28, 28).repeat(2, 1, 1)), {"x": x}.get)

    assert torch.equal(rerun.run({"on": "variable", "name": "x"}).output, expected(net, x))
    with pytest.raises(GoneError, match="'y' is no variable; type the name of a tensor"):
        rerun.run({"on": "variable", "name": "y"})


def test_a_run_that_fails_is_a_failed_trace(net):
    x = torch.rand(2, 5)
    rerun = Rerun(nnmagic.trace(net, torch.rand(2, 28, 28)), {"x": x}.get)

    trace = rerun.run({"on": "variable", "name": "x"})

    assert trace.failed.layer == "1"
    assert "784" in trace.failed.failure.mismatch


def test_integers_are_drawn_within_what_the_call_got():
    net = nn.Embedding(10, 4)
    rerun = Rerun(nnmagic.trace(net, torch.tensor([[1, 9, 3]])))

    trace = rerun.run({"on": "noise", "seed": 0})

    ids = trace[""].inputs[0]
    assert ids.shape == (1, 3)
    assert 1 <= ids.min <= ids.max <= 9


def test_layers_that_ran_one_after_the_other_are_not_run_again():
    with nnmagic.tracing() as trace:
        layers = nn.Linear(4, 4), nn.ReLU()
        layers[1](layers[0](torch.rand(1, 4)))

    assert "run the cell again" in Rerun(trace).offer()["reason"]
