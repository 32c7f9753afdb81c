from contextlib import nullcontext

import pytest
import torch
import torchvision
from torch import nn
from torch._ops import OpOverloadPacket
from torch.ao.quantization import quantize_dynamic
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import nnmagic
from nnmagic.structure.flops import FORMULAS, ONLY_IN_TORCH, FlopCounter

aten = torch.ops.aten

BATCH, LENGTH, WIDTH, HIDDEN = 2, 5, 16, 32
ATTENTION = 4 * BATCH * LENGTH * WIDTH**2 + 2 * BATCH * LENGTH**2 * WIDTH
"""The multiply-adds of a layer of attention: four projections, the scores, their use."""

ENCODER = ATTENTION + 2 * BATCH * LENGTH * WIDTH * HIDDEN

MODES = [nullcontext, torch.no_grad, torch.inference_mode]


class Calling(nn.Module):
    """Calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(*args, **kwargs)


class Packing(nn.Module):
    """Packs its input, with lengths in any order, and pads the output."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, lengths = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return output, lengths


def recurrent(gates, steps, width, hidden, layers=1, directions=1, projected=0):
    """Return the multiply-adds of a recurrent network, by hand."""
    given = projected or hidden
    inside = [width] + [directions * given] * (layers - 1)
    step = sum(gates * hidden * (w + given) + hidden * projected for w in inside)
    return steps * directions * step


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.Linear(784, 512), (3, 784), 2 * 3 * 784 * 512),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 16, 16), 2 * 2 * 8 * 16 * 16 * 3 * 9),
        (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 10, 10), 2 * 8 * 64 * 2 * 9),
        (nn.ConvTranspose2d(4, 8, 2, stride=2), (1, 4, 5, 5), 2 * 4 * 25 * 8 * 4),
        (nn.Conv1d(2, 3, 5), (1, 2, 20), 2 * 3 * 16 * 2 * 5),
        (nn.ReLU(), (3, 4), 0),
        (nn.BatchNorm2d(3), (2, 3, 4, 4), 0),
        (nn.LSTM(8, 16, batch_first=True), (2, 5, 8), 2 * recurrent(4, 10, 8, 16)),
        (nn.GRU(8, 16), (5, 2, 8), 2 * recurrent(3, 10, 8, 16)),
        (nn.RNN(8, 16, nonlinearity="relu"), (5, 2, 8), 2 * recurrent(1, 10, 8, 16)),
        (nn.LSTM(8, 16, 2, bidirectional=True), (5, 2, 8), 2 * recurrent(4, 10, 8, 16, 2, 2)),
        (nn.LSTM(8, 16, 2, proj_size=3), (5, 2, 8), 2 * recurrent(4, 10, 8, 16, 2, 1, 3)),
        (nn.LSTMCell(8, 16), (2, 8), 2 * recurrent(4, 2, 8, 16)),
        (nn.GRUCell(8, 16), (2, 8), 2 * recurrent(3, 2, 8, 16)),
    ],
)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_flops_equal_the_hand_count(module, shape, flops, train, mode):
    with mode():
        summary = nnmagic.summary(module.train(train), torch.rand(shape))

    assert summary.total_flops == flops


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_attention_counts_its_products(train, mode):
    layer = nn.MultiheadAttention(WIDTH, 4, batch_first=True).train(train)
    other = nn.MultiheadAttention(WIDTH, 4, batch_first=True, kdim=6, vdim=7).train(train)
    x = torch.rand(BATCH, LENGTH, WIDTH)
    key, value = torch.rand(BATCH, 9, 6), torch.rand(BATCH, 9, 7)
    masked = {
        "attn_mask": torch.zeros(LENGTH, LENGTH, dtype=torch.bool),
        "key_padding_mask": torch.zeros(BATCH, LENGTH, dtype=torch.bool),
    }
    ways = [{}, {"need_weights": False}, masked, masked | {"need_weights": False}]

    with mode():
        counts = [nnmagic.summary(layer, x, x, x, **way).total_flops for way in ways]
        crossed = nnmagic.summary(other, x, key, value).total_flops

    projections = 2 * LENGTH * WIDTH**2 + 9 * 6 * WIDTH + 9 * 7 * WIDTH
    assert counts == [2 * ATTENTION] * 4
    assert crossed == 2 * BATCH * (projections + 2 * LENGTH * 9 * WIDTH)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_an_encoder_counts_the_same_in_both_modes(train, mode):
    layer = nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, batch_first=True).train(train)
    encoder = nn.TransformerEncoder(layer, 2).train(train)
    x = torch.rand(BATCH, LENGTH, WIDTH)
    padding = torch.tensor([[False] * LENGTH, [False] * 3 + [True] * 2])

    with mode():
        assert nnmagic.summary(layer, x).total_flops == 2 * ENCODER
        assert nnmagic.summary(encoder, x).total_flops == 4 * ENCODER
        assert nnmagic.summary(encoder, x, src_key_padding_mask=padding).total_flops == 4 * ENCODER
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("train", [True, False])
def test_a_packed_sequence_counts_its_real_steps(train):
    lstm = nn.LSTM(8, 16, 2, bidirectional=True).train(train)
    packed = pack_padded_sequence(torch.rand(5, 2, 8), [5, 3])

    summary = nnmagic.summary(lstm, packed)

    assert summary.total_flops == 2 * recurrent(4, 5 + 3, 8, 16, 2, 2)
    assert summary.rows[0].output_shape[0][0] == (8, 32)


@pytest.mark.parametrize("lengths", [[3, 5], torch.tensor([3, 5])])
def test_a_network_packs_its_own_sequences(lengths):
    net, x = Packing(), torch.rand(2, 5, 8)

    summary = nnmagic.summary(net, x, lengths)

    real = net(x, lengths)
    assert summary.total_flops == 2 * recurrent(4, 3 + 5, 8, 16)
    assert summary.rows[0].output_shape == tuple(each.shape for each in real)


def test_grouped_queries_and_causal_attention_count_as_attention():
    query, few = torch.rand(2, 8, 5, 4), torch.rand(2, 2, 7, 4)
    attend = Calling(scaled_dot_product_attention)

    grouped = nnmagic.summary(attend, query, few, few, enable_gqa=True)
    causal = nnmagic.summary(attend, query, query, query, is_causal=True)

    assert grouped.total_flops == 2 * 2 * (2 * 8 * 5 * 7 * 4)
    assert causal.total_flops == 2 * 2 * (2 * 8 * 5 * 5 * 4)


def test_products_that_torch_passes_over_count():
    bilinear = nn.Bilinear(3, 4, 5)
    left, right = torch.rand(2, 40, 3), torch.rand(2, 60, 3)

    found = nnmagic.summary(bilinear, torch.rand(2, 7, 3), torch.rand(2, 7, 4)).total_flops
    distances = nnmagic.summary(Calling(torch.cdist), left, right).total_flops

    assert found == 2 * (2 * 7) * (3 * 4 * 5)
    assert distances == 2 * 2 * 40 * 60 * (3 + 2)  # both norms are columns of the product


def quantized(module):
    return quantize_dynamic(nn.Sequential(module), {type(module)}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("module", "shape", "products", "output"),
    [
        (nn.Linear(4, 5), (3, 2, 4), 6 * 20, (3, 2, 5)),
        (
            nn.LSTM(8, 16, 2, bidirectional=True),
            (5, 2, 8),
            recurrent(4, 10, 8, 16, 2, 2),
            ((5, 2, 32), ((4, 2, 16), (4, 2, 16))),
        ),
        (nn.GRU(8, 16), (5, 2, 8), recurrent(3, 10, 8, 16), ((5, 2, 16), (1, 2, 16))),
        (nn.LSTMCell(8, 16), (2, 8), recurrent(4, 2, 8, 16), ((2, 16), (2, 16))),
        (nn.GRUCell(8, 16), (2, 8), recurrent(3, 2, 8, 16), (2, 16)),
    ],
)
def test_a_dynamically_quantized_layer_counts_as_the_layer_that_it_was(
    module, shape, products, output
):
    net = quantized(module)

    summary = nnmagic.summary(net, torch.rand(shape))

    assert summary.total_flops == 2 * products
    assert summary.rows[0].output_shape == output


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_real_run_counts_what_the_run_for_shapes_does(train, mode):
    x = torch.rand(BATCH, LENGTH, WIDTH)
    attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
    query = torch.rand(2, 8, 5, 4)
    calls = [
        (nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, batch_first=True), (x,), ENCODER),
        (attention, (x, x, x), ATTENTION),
        (nn.LSTM(WIDTH, 8, 2), (x,), recurrent(4, BATCH * LENGTH, WIDTH, 8, 2)),
        (nn.GRU(WIDTH, 8), (x,), recurrent(3, BATCH * LENGTH, WIDTH, 8)),
        (Calling(scaled_dot_product_attention), (query,) * 3, 2 * 2 * 8 * 5 * 5 * 4),
    ]

    for module, args, products in calls:
        with mode(), FlopCounter() as counter:
            module.train(train)(*args)

        assert (counter.total, dict(counter.uncounted)) == (2 * products, {}), module


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenet_v3_small",
        "squeezenet1_1",
        pytest.param("vit_b_32", marks=pytest.mark.slow),
    ],
)
def test_flops_equal_torchs_counter_on_real_networks(name):
    net = getattr(torchvision.models, name)().train()
    x = torch.rand(2, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        net.to("meta")(x.to("meta"))

    assert nnmagic.summary(net, x).total_flops == counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "googlenet",
        "inception_v3",
        "maxvit_t",
        "mnasnet1_0",
        "mobilenet_v2",
        "regnet_y_400mf",
        "resnet50",
        "resnext50_32x4d",
        "shufflenet_v2_x1_0",
        "swin_t",
        "swin_v2_t",
        "vgg11_bn",
        "vit_b_16",
        "wide_resnet50_2",
    ],
)
def test_flops_equal_those_of_a_real_training_run(name):
    start = (
        {"init_weights": False, "aux_logits": False}
        if name in ("googlenet", "inception_v3")
        else {}
    )
    net = torchvision.models.get_model(name, weights=None, **start).to("meta")
    size = {"inception_v3": 299, "maxvit_t": 224, "vit_b_16": 224}.get(name, 64)
    x = torch.empty(2, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter:
        net.train()(x)

    assert nnmagic.summary(net, x).total_flops == counter.get_total_flops()
    assert nnmagic.summary(net.eval(), x).total_flops == counter.get_total_flops()


def test_a_product_without_a_formula_is_named_and_the_rest_is_told():
    net = nn.Sequential(nn.Linear(3, 3), Calling(torch.fft.fft))

    summary = nnmagic.summary(net, torch.rand(4, 3))

    by_layer = summary.to_frame().set_index("layer").flops
    assert by_layer["0"] == 2 * 4 * 9
    assert by_layer.isna()[["", "1"]].all()
    assert summary.total_flops is None
    assert summary.least_flops == 72
    assert "at least 36 (72 FLOPs" in str(summary)
    assert "FLOPs unknown of: _fft_r2c × 1" in str(summary)


def test_distances_that_are_no_product_are_named():
    summary = nnmagic.summary(Calling(torch.cdist), torch.rand(4, 3), torch.rand(4, 3))

    assert summary.uncounted == (("_cdist_forward", 1),)


SOLVERS = {
    "solve": lambda x: torch.linalg.solve(x, x),
    "tensorsolve": lambda x: torch.linalg.tensorsolve(x[0].view(2, 2, 4), x[0, :, 0].view(2, 2)),
    "svd": torch.linalg.svd,
    "svdvals": torch.linalg.svdvals,
    "pinv": torch.linalg.pinv,
    "det": torch.linalg.det,
    "slogdet": torch.linalg.slogdet,
    "logdet": torch.logdet,
    "eigh": lambda x: torch.linalg.eigh(x + x.mT),
    "eigvalsh": lambda x: torch.linalg.eigvalsh(x + x.mT),
    "matrix_rank": torch.linalg.matrix_rank,
    "cond": torch.linalg.cond,
    "nuclear norm": lambda x: torch.linalg.matrix_norm(x, "nuc"),
    "geqrf": lambda x: torch.geqrf(x)[0],
    "inv": torch.linalg.inv,
    "qr": torch.linalg.qr,
}


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_and_decompositions_are_unknown_and_named(name):
    x = torch.rand(2, 4, 4) + 4 * torch.eye(4)
    net = nn.Sequential(nn.Linear(4, 4), Calling(SOLVERS[name]))

    summary = nnmagic.summary(net, x)

    assert [row.flops for row in summary.rows] == [None, 2 * 8 * 16, None]
    assert summary.total_flops is None
    assert len(summary.uncounted) == 1


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="torch has no grouped products")
@pytest.mark.parametrize(
    ("left", "right", "flops"),
    [
        ((12, 16), (3, 16, 8), 2 * 12 * 16 * 8),  # experts that share the rows
        ((3, 4, 16), (16, 12), 2 * 4 * 16 * 12),
        ((4, 12), (12, 8), 2 * 4 * 12 * 8),
        ((3, 4, 16), (3, 16, 8), 2 * 3 * 4 * 16 * 8),
    ],
)
def test_a_grouped_product_in_single_precision_runs_for_shapes_as_on_the_cpu(left, right, flops):
    batched = len(left) == len(right) == 3
    groups = None if batched else torch.tensor([4, 8, 12], dtype=torch.int32)
    net, args = Calling(torch._grouped_mm), (torch.rand(left), torch.rand(right), groups)
    with FlopCounter() as counter:
        real = net(*args)

    summary = nnmagic.summary(net, *args)

    assert summary.rows[0].output_shape == real.shape
    assert summary.total_flops == counter.total == flops


def test_gathering_is_no_product():
    bag = nn.EmbeddingBag(10, 4)

    assert nnmagic.summary(bag, torch.tensor([[1, 2], [3, 4]])).total_flops == 0


def products():
    def empty(*shape):
        return torch.empty(shape, device="meta")

    steps = [2, 1], [1, 0], [1, 2]
    yield aten.mm.default, (empty(2, 3), empty(3, 4))
    yield aten.bmm.default, (empty(5, 2, 3), empty(5, 3, 4))
    yield aten.addmm.default, (empty(4), empty(2, 3), empty(3, 4))
    yield aten.baddbmm.default, (empty(5, 2, 4), empty(5, 2, 3), empty(5, 3, 4))
    convolved = empty(2, 6, 7, 8), empty(4, 3, 3, 2), empty(4), *steps, False, [0, 0], 2
    yield aten.convolution.default, convolved
    transposed = empty(2, 6, 7, 8), empty(6, 4, 3, 2), empty(8), *steps, True, [1, 0], 2
    yield aten.convolution.default, transposed


@pytest.mark.parametrize(("op", "args"), [*products()], ids=lambda value: str(value)[:24])
def test_a_quick_formula_gives_what_torchs_gives(op, args):
    output = op(*args)

    found = FORMULAS[op._schema.name](*args, out_val=output)

    assert found == flop_registry[op._overloadpacket](*args, out_val=output) > 0


def test_every_formula_of_torchs_is_found():
    names = {op.default._schema.name for op in flop_registry if isinstance(op, OpOverloadPacket)}

    assert {name for name in names - FORMULAS.keys() if not ONLY_IN_TORCH.search(name)} == set()
