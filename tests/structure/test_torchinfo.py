import gc
import re
import sys
import weakref
from pathlib import Path

import pytest
import torch
import torchinfo
import torchvision
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

import nnmagic
from nnmagic.structure.torchinfo import PeerError, compared, torchinfo_summary

PAGE = Path(__file__).parents[2] / "docs" / "torchinfo.md"


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 16)
        self.head = nn.Linear(16, 100, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(10, 20, batch_first=True)

    def forward(self, x):
        packed = pack_padded_sequence(x, [9, 6, 3], batch_first=True)
        return self.lstm(packed)[0].data


class Scores(nn.Module):
    def forward(self, x):
        return x @ x.transpose(1, 2)


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.auxiliary = nn.Linear(4, 3), nn.Linear(4, 7)

    def forward(self, x):
        return {"out": self.head(x), "aux": self.auxiliary(x)}


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.used(x)


class Owning(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.layer = nn.Linear(4, 5)

    def forward(self, x):
        return self.scale * self.layer(x)


def pruned():
    network = nn.Sequential(nn.Linear(10, 10))
    prune.l1_unstructured(network[0], "weight", amount=0.3)
    return network


def transformer():
    return nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)


PRODUCTS, PARAMETERS, BYTES = "multiply-adds", "parameters", "bytes of parameters"
ACTIVATIONS, SHAPE = "bytes of activations", "output shape"

CASES = {
    ("`Linear` with a bias", PRODUCTS): (
        lambda: (nnmagic.default_network(), torch.rand(1, 28, 28)),
        784 * 512 + 512 * 512 + 512 * 10,
    ),
    ("`Linear` on a sequence", PRODUCTS): (
        lambda: (nn.Linear(16, 8, bias=False), torch.rand(2, 5, 16)),
        2 * 5 * 16 * 8,
    ),
    ("`Embedding`", PRODUCTS): (
        lambda: (nn.Embedding(100, 16), torch.zeros(2, 5, dtype=torch.int64)),
        0,
    ),
    ("`BatchNorm2d`", PRODUCTS): (lambda: (nn.BatchNorm2d(8), torch.rand(2, 8, 4, 4)), 0),
    ("`ConvTranspose2d`", PRODUCTS): (
        lambda: (nn.ConvTranspose2d(4, 8, 2, stride=2, bias=False), torch.rand(1, 4, 5, 5)),
        4 * 5 * 5 * 8 * 2 * 2,
    ),
    ("`MultiheadAttention`", PRODUCTS): (
        lambda: (SelfAttention(), torch.rand(2, 5, 16)),
        2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16),
    ),
    ("`TransformerEncoderLayer`", PRODUCTS): (
        lambda: (transformer(), torch.rand(2, 5, 16)),
        2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16 + 2 * 5 * 16 * 32),
    ),
    ("`LSTM`", PRODUCTS): (
        lambda: (nn.LSTM(10, 20, batch_first=True), torch.rand(3, 9, 10)),
        3 * 9 * 4 * 20 * (10 + 20),
    ),
    ("packed `LSTM`", PRODUCTS): (
        lambda: (Packed(), torch.rand(3, 9, 10)),
        (9 + 6 + 3) * 4 * 20 * (10 + 20),
    ),
    ("a product in the forward itself", PRODUCTS): (
        lambda: (Scores(), torch.rand(2, 5, 16)),
        2 * 5 * 16 * 5,
    ),
    ("weight norm", PRODUCTS): (
        lambda: (weight_norm(nn.Linear(16, 8, bias=False)), torch.rand(2, 16)),
        2 * 16 * 8,
    ),
    ("ViT-B/16, two pictures", PRODUCTS): (
        lambda: (torchvision.models.vit_b_16().eval(), torch.rand(2, 3, 224, 224)),
        None,
    ),
    ("tied weights", PARAMETERS): (lambda: (Tied(), torch.zeros(2, 5).long()), 100 * 16),
    ("a layer that does not run", BYTES): (lambda: (Idle(), torch.rand(2, 4)), 2 * 4 * 20),
    ("pruned weights", PARAMETERS): (lambda: (pruned(), torch.rand(2, 10)), 110),
    ("tied weights", BYTES): (lambda: (Tied(), torch.zeros(2, 5).long()), 4 * 100 * 16),
    ("a parameter beside layers", BYTES): (lambda: (Owning(), torch.rand(2, 4)), 4 * (25 + 5)),
    ("`MultiheadAttention`", BYTES): (
        lambda: (SelfAttention(), torch.rand(2, 5, 16)),
        4 * 4 * (16 * 16 + 16),
    ),
    ("`ReLU` after `Linear`", ACTIVATIONS): (
        lambda: (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4)),
        2 * 4 * (2 * 4 + 2 * 4),
    ),
    ("a dict", SHAPE): (
        lambda: (Dictionary(), torch.rand(2, 4)),
        {"out": (2, 3), "aux": (2, 7)},
    ),
    ("a tuple", SHAPE): (
        lambda: (nn.LSTM(10, 20), torch.rand(9, 3, 10)),
        ((9, 3, 20), ((1, 3, 20), (1, 3, 20))),
    ),
}


def figure_of(summary, what):
    return {
        PRODUCTS: (summary.total_flops or 0) // 2,
        PARAMETERS: summary.total_params,
        BYTES: summary.param_bytes,
        ACTIVATIONS: 2 * summary.output_bytes,
        SHAPE: next(row for row in summary.rows if row.layer == "").output_shape,
    }[what]


def torchinfos_figure(found, what):
    root = next(layer for layer in found.summary_list if layer.depth == 0)
    return {
        PRODUCTS: found.total_mult_adds,
        PARAMETERS: found.total_params,
        BYTES: found.total_param_bytes,
        ACTIVATIONS: found.total_output_bytes,
        SHAPE: tuple(root.output_size),
    }[what]


def text(figure):
    return f"{figure:,}" if isinstance(figure, int) else f"`{figure}`"


def rows_of_page():
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\|(?! ?(-|case))", line)
    ]
    return {(row[0], row[1]): row[2:] for row in cells if len(row) == 5}


@pytest.mark.parametrize(
    "case",
    [pytest.param(each, marks=[pytest.mark.slow] * ("ViT" in each[0])) for each in CASES],
    ids=" ".join,
)
def test_the_page_has_the_figures_that_a_run_gives(case):
    make, truth = CASES[case]
    network, x = make()

    theirs = torchinfo.summary(
        network, input_data=x, verbose=0, mode="train" if network.training else "eval"
    )
    ours = figure_of(nnmagic.summary(network, x), case[1])
    shown = figure_of(torchinfo_summary(network, (x,), {}, title="it"), case[1])

    assert truth is None or ours == truth
    assert shown == torchinfos_figure(theirs, case[1])
    assert ours != shown
    own, other, reason = rows_of_page()[case]
    assert (own, other) == (text(ours), text(shown))
    assert reason


def test_the_page_has_every_case_and_no_other():
    assert set(rows_of_page()) == set(CASES)


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
