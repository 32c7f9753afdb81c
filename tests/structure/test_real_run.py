import copy
import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import nnmagic
from nnmagic.display.sheet import sheet_of
from nnmagic.network.naming import Naming
from nnmagic.structure.real_run import describe_run


def real(run, *networks):
    naming = Naming(lambda: [(type(each).__name__, each) for each in networks])
    return describe_run(run, naming=naming, title="a run")


def summary_of(network, *args):
    return real(lambda: network(*args), network)[0]


class Packed(nn.Module):
    """Packs what it gets: 4 and 2 steps."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, num_layers=2, bidirectional=True)

    def forward(self, x):
        return self.lstm(pack_padded_sequence(x, [4, 2]))[0].data


class Attending(nn.Module):
    """Eight heads look at two: grouped-query attention."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(16, 64), nn.Linear(16, 16)

    def forward(self, x):
        query = self.query(x).unflatten(-1, (8, 8)).transpose(1, 2)
        key = self.key(x).unflatten(-1, (2, 8)).transpose(1, 2)
        return F.scaled_dot_product_attention(query, key, key, enable_gqa=True)


def networks():
    small = {"num_classes": 7}
    transformer = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, **small)
    return {
        "resnet18": (torchvision.models.resnet18(**small), torch.rand(2, 3, 64, 64)),
        "mobilenet": (torchvision.models.mobilenet_v3_small(**small), torch.rand(2, 3, 64, 64)),
        "vision transformer": (transformer, torch.rand(2, 3, 32, 32)),
        "lstm": (nn.LSTM(3, 5, batch_first=True, num_layers=2), torch.rand(2, 4, 3)),
        "projected lstm": (nn.LSTM(3, 5, proj_size=2), torch.rand(4, 2, 3)),
        "gru": (nn.GRU(3, 5, bidirectional=True), torch.rand(4, 2, 3)),
        "cell": (nn.LSTMCell(3, 5), torch.rand(2, 3)),
        "packed": (Packed(), torch.rand(4, 2, 3)),
        "grouped queries": (Attending(), torch.rand(2, 6, 16)),
        "encoder": (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), torch.rand(2, 5, 16)),
        "transposed": (nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3), torch.rand(2, 3, 8, 8)),
    }


NETWORKS = networks()

MODES = {
    "train": (True, nullcontext),
    "eval": (False, nullcontext),
    "no_grad": (False, torch.no_grad),
    "inference_mode": (False, torch.inference_mode),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_real_run_counts_what_the_run_for_shapes_counts(name, mode):
    network, x = NETWORKS[name]
    train, grad = MODES[mode]
    network.train(train)

    with grad():
        found = summary_of(network, x)
        expected = nnmagic.summary(network, x)

    fused = name == "encoder" and mode in ("no_grad", "inference_mode")
    assert found.total_flops == expected.total_flops
    assert found.uncounted == ()
    if not fused:  # torch calls none of the layers inside
        plain = replace(found, title=expected.title, engine="", notes=())
        assert plain == replace(expected, notes=())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_real_run_is_the_run_that_it_would_have_been(name, mode):
    network, x = NETWORKS[name]
    train, grad = MODES[mode]
    observed, plain = copy.deepcopy(network).train(train), copy.deepcopy(network).train(train)

    def results(module, run):
        torch.manual_seed(1)
        with grad():
            output = run(lambda: module(x))
        tensors = [output] if isinstance(output, torch.Tensor) else list(output)
        if tensors[0].requires_grad:
            tensors[0].double().square().sum().backward()
        flat = [t for each in tensors for t in (each if isinstance(each, tuple) else (each,))]
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        return [*flat, *gradients, *module.state_dict().values(), torch.get_rng_state()]

    ours = results(observed, lambda run: real(run, observed)[1])
    theirs = results(plain, lambda run: run())

    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_backward_in_the_run_is_counted_and_bit_identical():
    network, x = NETWORKS["resnet18"]
    ours, theirs = copy.deepcopy(network).train(), copy.deepcopy(network).train()
    with FlopCounterMode(display=False) as counter:
        theirs(x).square().sum().backward()

    found, _ = real(lambda: ours(x).square().sum().backward(), ours)

    assert found.total_flops == counter.get_total_flops()
    inside = found.rows[0].flops
    assert f"outside the layers: {found.total_flops - inside:,} FLOPs" in str(found)
    assert all(
        torch.equal(a.grad, b.grad)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_a_nested_batch_counts_its_real_steps(grad):
    width, hidden = 16, 32
    layer = nn.TransformerEncoderLayer(width, 4, hidden, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1).eval()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    with grad():
        found, _ = real(
            lambda: encoder(torch.rand(2, 5, width), src_key_padding_mask=padding), encoder
        )

    steps = [5, 3]
    matrices = 4 * width * width + 2 * width * hidden
    products = sum(n * matrices + 2 * n * n * width for n in steps)
    assert found.total_flops == 2 * products


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_a_linear_layer_on_a_nested_batch_counts_its_real_rows(grad, layout):
    layer = nn.Linear(4, 3)

    with grad():
        x = torch.nested.nested_tensor([torch.rand(2, 4), torch.rand(5, 4)], layout=layout)
        found, output = real(lambda: layer(x), layer)

    assert found.total_flops == 2 * (2 + 5) * 4 * 3
    assert [each.shape for each in output.unbind()] == [(2, 3), (5, 3)]


def test_several_networks_are_several_trees_whose_parameters_add_up():
    encoder, decoder = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), nn.Linear(3, 4)
    decoder.weight = nn.Parameter(encoder[0].weight.t().contiguous())
    head = nn.Linear(4, 3)
    head.weight = encoder[0].weight
    unused = nn.ModuleDict({"used": head, "idle": nn.Linear(2, 2)})
    naming = Naming(lambda: [("encoder", encoder), ("decoder", decoder), ("heads", unused)])
    x = torch.rand(2, 4)

    found, value = describe_run(
        lambda: unused["used"](decoder(encoder(x))), naming=naming, title="all"
    )

    rows = [(row.network, row.layer, row.call, row.own_params) for row in found.rows]
    assert rows == [
        ("encoder", "", 0, 0),
        ("encoder", "0", 1, 15),
        ("encoder", "1", 2, 0),
        ("decoder", "", 3, 16),
        ("heads", "used", 4, 3),
        ("heads", "idle", None, 6),
    ]
    assert found.total_params == 15 + 16 + 3 + 6
    assert found.total_flops == 3 * 2 * 2 * 12
    assert found.input_bytes == 4 * (2 * 4 + 2 * 3 + 2 * 4)
    sheet = sheet_of(found.table()).content
    assert "heads:idle" in str(found)
    assert "heads:idle" in sheet["labels"]
    assert "from real run" in str(sheet["columns"][1]["meaning"])
    assert "networks unchanged" in str(found)
    assert value.shape == (2, 3)


def test_a_layer_that_the_run_makes_and_drops_keeps_its_own_figures():
    class Making(nn.Module):
        def forward(self, x):
            for width in (3, 5, 7):
                x = nn.Linear(x.shape[1], width)(x)
            return x

    found = summary_of(Making(), torch.rand(2, 2))

    assert [row.params for row in found.rows] == [0, 9, 20, 42]
    assert [row.flops for row in found.rows] == [4 * (6 + 15 + 35), 4 * 6, 4 * 15, 4 * 35]
    assert found.total_params == 0


def test_a_lazy_network_is_counted_as_the_run_made_it():
    network = nn.Sequential(nn.LazyLinear(3), nn.ReLU())

    found = summary_of(network, torch.rand(2, 5))

    assert found.total_params == 18
    assert [row.params for row in found.rows] == [18, 18, 0]
    assert "the run made 2 parameters that had no values: 0.weight, 0.bias" in str(found)


def test_what_a_checkpoint_computes_again_is_no_second_call():
    inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    outer = nn.Linear(4, 4)
    x = torch.rand(2, 4)

    found, _ = real(
        lambda: checkpoint(inner, outer(x), use_reentrant=False).sum().backward(), inner, outer
    )

    assert [(row.network, row.layer) for row in found.rows] == [
        ("Linear", ""),
        ("Sequential", ""),
        ("Sequential", "0"),
        ("Sequential", "1"),
    ]
    product = 2 * 2 * 16  # one forward; the backward has one for the weight and one for the input
    assert found.total_flops == product * (2 + 1 + 2 + 1)


def test_a_run_that_is_only_a_backward_has_rows_of_what_is_called_anew():
    inner, outer = nn.Linear(4, 4), nn.Linear(4, 4)
    loss = checkpoint(inner, torch.rand(2, 4, requires_grad=True), use_reentrant=False).sum()

    found, _ = real(lambda: (loss.backward(), outer(torch.rand(2, 4))), inner, outer)

    assert [row.layer for row in found.rows] == [""]
    assert found.total_params == 20
    assert found.rows[0].flops == 2 * 2 * 16


def test_operations_in_another_thread_are_unknown_and_said_to_be():
    network = nn.Linear(4, 4)

    def run():
        thread = threading.Thread(target=network, args=(torch.rand(2, 4),))
        thread.start()
        thread.join()

    found, _ = real(run, network)

    assert [(row.output_shape, row.flops) for row in found.rows] == [((2, 4), None)]
    assert found.total_flops is None
    assert "FLOPs unknown of: Linear in a thread × 1" in str(found)


def test_a_compiled_network_runs_eagerly_and_a_line_says_so():
    network, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 4)
    compiled = torch.compile(network, backend="eager")
    expected = compiled(x)

    found, output = real(lambda: compiled(x), compiled)

    assert [row.layer for row in found.rows] == ["", "_orig_mod", "_orig_mod.0", "_orig_mod.1"]
    assert found.total_flops == 2 * 2 * 16
    assert "compiled networks run eagerly in a real run" in str(found)
    assert torch.equal(output, expected)


def test_a_script_is_one_row_with_all_that_is_in_it():
    script = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))

    found = summary_of(script, torch.rand(2, 4))

    rows = [(row.layer, row.own_params, row.flops) for row in found.rows]
    assert rows == [("", 20, 2 * 2 * 16)]
    assert "a ScriptModule is one row" in str(found)


def test_a_run_without_layers_has_no_rows():
    found, value = real(lambda: torch.ones(2) + 1)

    assert found.rows == ()
    assert value.tolist() == [2, 2]
