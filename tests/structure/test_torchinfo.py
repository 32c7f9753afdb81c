import gc
import sys
import weakref

import pytest
import torch
import torchinfo
from disputed_networks import Dictionary, Idle, Owning, SelfAttention, Tied
from torch import nn

import nnmagic
from nnmagic.structure.torchinfo import PeerError, compared, torchinfo_summary


def test_bytes_of_input_are_whole_storages_with_pythons_own_object():
    x = torch.rand(100, 4)[:2]

    theirs = torchinfo_summary(nn.Linear(4, 4), (x,), {}, title="it")

    assert theirs.input_bytes == sys.getsizeof(x.untyped_storage())
    assert theirs.input_bytes > 4 * 100 * 4


def test_the_rows_are_those_of_torchinfo_and_add_up():
    network = Owning()

    found = torchinfo_summary(network, (torch.rand(2, 4),), {}, title="it", label="net")

    rows = [
        (r.network, r.layer, r.type, r.depth, r.params, r.own_params, r.flops) for r in found.rows
    ]
    assert rows == [
        ("net", "", "Owning", 0, 30, 5, 2 * 2 * 25),
        ("net", "layer", "Linear", 1, 25, 25, 2 * 2 * 25),
    ]
    assert sum(row.own_params for row in found.rows) == found.total_params
    assert found.engine == f"torchinfo {torchinfo.__version__}"
    assert "own: scale" in str(found)
    assert "FLOPs, biases counted" in str(found)


def frozen():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    network[1].eval()
    return network


def modes(network):
    return [module.training for module in network.modules()]


def test_a_frozen_layer_stays_frozen():
    alone, ours = frozen(), frozen()

    torchinfo.summary(alone, input_data=torch.rand(3, 4), mode="train", verbose=0)
    torchinfo_summary(ours, (torch.rand(3, 4),), {}, title="it")

    assert modes(alone) == [True, True, True, True]
    assert modes(ours) == [True, True, False, True]


def test_buffers_random_state_and_arguments_are_put_back():
    network = nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm1d(4), nn.Dropout()).train()
    buffers = [buffer.clone() for buffer in network.buffers()]
    x = torch.tensor([[-1.0, 2.0, -3.0, 4.0]]).repeat(3, 1)
    values, random_state = x.clone(), torch.get_rng_state()

    torchinfo_summary(network, (x,), {}, title="it")

    assert torch.equal(x, values)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), buffers, strict=True))


def test_a_lazy_network_stays_lazy():
    network = nn.Sequential(nn.LazyLinear(4))

    found = torchinfo_summary(network, (torch.rand(2, 3),), {}, title="it")

    assert found.total_params == 16
    assert isinstance(network[0].weight, nn.UninitializedParameter)
    assert type(network[0]) is nn.LazyLinear
    assert network(torch.rand(2, 5)).shape == (2, 4)


def test_the_network_is_not_kept_alive():
    alone, ours = Idle(), Dictionary()
    kept, dropped = weakref.ref(alone), weakref.ref(ours)

    torchinfo.summary(alone, input_data=torch.rand(2, 4), verbose=0)
    record = torchinfo_summary(ours, (torch.rand(2, 4),), {}, title="it")
    del alone, ours
    gc.collect()

    assert kept() is not None
    assert dropped() is None
    assert record.total_params == 50


def test_a_failure_leaves_no_hook_and_names_the_networks_own_error():
    network = nn.Sequential(nn.Linear(4, 4))

    with pytest.raises(RuntimeError, match="Failed to run torchinfo"):
        torchinfo.summary(network, input_data=torch.rand(2, 5), verbose=0)
    with pytest.raises(PeerError, match=r"torchinfo \S+: RuntimeError: mat1 and mat2 shapes"):
        torchinfo_summary(network, (torch.rand(2, 5),), {}, title="it")

    assert not any(module._forward_hooks for module in network.modules())


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, *, mode=1.0, scale=1.0):
        return self.layer(x) * mode * scale


def test_keywords_go_to_the_network():
    x = torch.rand(2, 4)

    alone = torchinfo_summary(Keywords(), (), {"x": x, "mode": 2.0}, title="it")
    beside = torchinfo_summary(Keywords(), (x,), {"scale": torch.rand(4)}, title="it")

    assert alone.rows[0].output_shape == beside.rows[0].output_shape == (2, 4)
    with pytest.raises(PeerError, match="takes the keyword mode for itself"):
        torchinfo_summary(Keywords(), (x,), {"mode": 2.0}, title="it")


class Named(nn.Linear):
    def forward(self, *, values):
        return super().forward(values)


def differences(network, x):
    theirs = torchinfo_summary(network, (x,), {}, title="it")
    notes = compared(theirs, nnmagic.summary(network, x)).notes
    return [note for note in notes if "bytes of" not in note]


def test_each_total_that_differs_has_a_line_with_the_reason():
    assert differences(Tied(), torch.zeros(2, 5).long()) == [
        "nnmagic counts 1,600 parameters, torchinfo 3,200: "
        "it counts a tied weight in every layer that has it",
        "nnmagic counts 1,600 trainable parameters, torchinfo 3,200: "
        "it counts a tied weight in every layer that has it",
        "nnmagic counts 16,000 multiply-adds, torchinfo 6,400: "
        "it counts a part of those of Linear; it takes the weights of Embedding for products",
    ]
    assert differences(SelfAttention(), torch.rand(2, 5, 16)) == [
        "nnmagic counts 11,840 multiply-adds, torchinfo 0: "
        "it leaves out the products of MultiheadAttention"
    ]
    assert differences(nn.Linear(4, 4), torch.rand(2, 4)) == [
        "nnmagic counts 32 multiply-adds, torchinfo 40: it counts biases or padding in Linear"
    ]
    assert differences(nn.Linear(4, 4, bias=False), torch.rand(2, 4)) == []


def test_a_line_on_bytes_tells_what_is_left_out():
    x = torch.rand(5, 2, 3)
    recurrent = nn.LSTM(3, 4)
    several = torchinfo_summary(recurrent, (x,), {}, title="it")
    named, values = Named(4, 4), torch.rand(2, 4)
    keyword = torchinfo_summary(named, (), {"values": values}, title="it")

    lines = compared(several, nnmagic.summary(recurrent, x)).notes
    others = compared(keyword, nnmagic.summary(named, values=values)).notes

    of_outputs = 2 * 4 * (5 * 2 * 4 + 2 * 2 * 4), 2 * 4 * (5 * 2 * 4)
    assert (
        "nnmagic counts {} bytes of the forward/backward pass, torchinfo {}: "
        "of several tensors it counts one".format(*of_outputs)
        in lines
    )
    assert (
        "nnmagic counts 32 bytes of input, torchinfo 0: it leaves out keyword arguments" in others
    )


def test_operations_without_a_formula_make_ours_a_least():
    class Transformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return torch.fft.fft(self.layer(x)).real

    (line,) = differences(Transformed(), torch.rand(2, 4))

    assert line.startswith("nnmagic counts at least 32 multiply-adds, torchinfo 40")


@pytest.fixture
def net(session):
    session.run("net = nn.Sequential(nn.Linear(4, 4), nn.ReLU()); x = torch.rand(2, 4)")
    return session["net"]


def test_the_magic_shows_torchinfos_figures_and_what_differs(session, net):
    given = session.run("%nnsummary net(x) --engine torchinfo")
    alone = session.run("%nnsummary --engine torchinfo net")
    default = session.run("%nnsummary --engine torchinfo")

    heading = f"net(x) · torchinfo {torchinfo.__version__} · 20 parameters"
    assert given.heading == heading
    assert given.rows[1].network == "net"
    assert "nnmagic counts 32 multiply-adds, torchinfo 40" in str(given)
    assert alone.title == "net on torch.rand(1, 4)"
    assert default.total_flops == 2 * 669_706
    assert net.training


def test_a_network_that_reads_values_is_compared_with_a_real_run(session):
    session.run(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer, self.count = nn.Linear(4, 4), 0\n"
        "    def forward(self, x):\n"
        "        self.count += 1\n"
        "        return self.layer(x) if x.sum() > 0 else x\n"
        "net = Net()"
    )

    found = session.run("%nnsummary net(torch.ones(2, 4)) --engine torchinfo")

    assert "nnmagic counts 32 multiply-adds, torchinfo 40" in str(found)
    assert session["net"].count == 0


def test_what_torchinfo_cannot_do_is_one_line(session, net):
    assert "torchinfo always runs the network; leave out --real" in session.refusal(
        "%nnsummary net --real --engine torchinfo"
    )
    session.run("class Net(nn.ReLU):\n    def twice(self, x):\n        return self(self(x))")
    assert "torchinfo can call a network, not one of its methods" in session.refusal(
        "%nnsummary --engine torchinfo Net().twice(x)"
    )
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in session.refusal(
        "%nnsummary --engine torchinfo net(torch.rand(2, 5))"
    )
    assert "argument --engine: invalid choice: 'thop'" in session.refusal(
        "%nnsummary --engine thop"
    )
