import copy

import pytest
import torch
import torchinfo
import torchvision
from odd_layers import Owning
from torch import nn

import nnmagic
from nnmagic.tensors.metadata import storage_bytes


def test_the_frame_has_the_promised_columns():
    frame = nnmagic.summary(nnmagic.default_network(), nnmagic.default_input()).to_frame()

    expected = (
        "network call layer type depth config input_shape output_shape params own_params "
        "trainable_params param_bytes output_bytes flops"
    )
    assert list(frame.columns) == expected.split()
    assert frame.params.tolist() == [669_706, 0, 669_706, 401_920, 0, 262_656, 0, 5_130]
    assert frame.config[3] == "in_features=784, out_features=512, bias=True"


def test_every_parameter_is_in_one_row_as_its_own():
    net = Owning()

    summary = nnmagic.summary(net, torch.zeros(2, 3, dtype=torch.int64))

    frame = summary.to_frame()
    assert frame.layer.tolist() == ["", "embedding", "head", "unused"]
    assert frame.own_params.tolist() == [5, 40, 0, 12]
    assert frame.params.tolist() == [57, 40, 40, 12]
    assert (
        frame.own_params.sum() == summary.total_params == sum(p.numel() for p in net.parameters())
    )
    assert frame.call.isna().tolist() == [False, False, False, True]
    assert "own: scale" in str(summary)
    assert "not called" in str(summary)


def test_a_layer_that_runs_twice_counts_its_parameters_once(doubling):
    frame = nnmagic.summary(doubling, torch.rand(2, 4)).to_frame()

    assert frame.own_params.tolist() == [0, 20, 0, 0]
    assert frame.params.tolist() == [20, 20, 0, 20]
    assert frame.flops.tolist() == [128, 64, 0, 64]


def test_frozen_parameters_are_not_trainable():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[0].requires_grad_(False)

    summary = nnmagic.summary(net, torch.rand(1, 3))

    assert (summary.trainable_params, summary.non_trainable_params) == (12, 12)
    assert [row.trainable_params for row in summary.rows] == [12, 0, 12]


def test_buffers_and_shared_storages_are_counted_by_the_byte():
    net = nn.BatchNorm1d(4)
    half = nn.Linear(4, 4).half()

    assert nnmagic.summary(net, torch.rand(2, 4)).buffer_bytes == 4 * 8 + 8
    assert nnmagic.summary(half, torch.rand(2, 4).half()).param_bytes == 2 * 20
    assert nnmagic.summary(Owning(), torch.zeros(1, 1).long()).param_bytes == 4 * 57


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_shapes_and_totals_equal_torchinfos(name):
    net = getattr(torchvision.models, name)().eval()
    x = torch.rand(2, 3, 64, 64)
    theirs = torchinfo.summary(net, input_data=x, verbose=0, depth=99, cache_forward_pass=False)

    ours = nnmagic.summary(net, x)

    ran = [row for row in ours.rows if row.call is not None]
    called = [info for info in theirs.summary_list if info.executed]
    expected = {(info.class_name, tuple(info.output_size)) for info in called if info.output_size}
    assert ours.total_params == theirs.total_params
    assert {(row.type, row.output_shape) for row in ran} == expected
    assert len(ran) == len(called)


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    net[1].eval()
    before = copy.deepcopy(net)
    attributes = [dict(module.__dict__) for module in net.modules()]
    x = torch.rand(3, 4)
    random_state = torch.get_rng_state()

    nnmagic.summary(net)
    nnmagic.summary(net, x)

    assert [dict(module.__dict__) for module in net.modules()] == attributes
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_network_is_left_as_it_was_after_a_failure():
    net = nn.Sequential(nn.Linear(4, 4))
    call, weight = nn.Module.__call__.__code__, net[0].weight

    with pytest.raises(RuntimeError) as caught:
        nnmagic.summary(net, torch.rand(1, 5))

    assert nn.Module.__call__.__code__ is call
    assert net[0].weight is weight
    assert weight.device.type == "cpu"
    assert "nnmagic: raised in Sequential.0 (Linear)" in caught.value.__notes__[0]


class Padded(nn.Module):
    """Looks for padding at both ends of its sequences, as transformers do."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)

    def forward(self, ids):
        width = 2 if 0 in ids[:, [-1, 0]] else 3
        scale = torch.tensor([1.0, 2.0]).max().item()
        return self.embedding(ids)[..., :width] * scale


def test_a_network_may_read_what_it_makes_of_numbers_and_of_small_integers():
    net, ids = Padded(), torch.tensor([[1, 2, 3], [4, 5, 0]])

    summary = nnmagic.summary(net, ids)

    assert summary.rows[0].output_shape == net(ids).shape == (2, 3, 2)
    assert nnmagic.summary(net, ids + 1).rows[0].output_shape == (2, 3, 3)


def test_arguments_may_be_on_meta_and_of_any_size():
    summary = nnmagic.summary(nn.Linear(4, 2), torch.empty(10**9, 4, device="meta"))

    assert summary.rows[0].output_shape == (10**9, 2)
    assert summary.input_bytes == 16 * 10**9


def test_rows_can_be_sorted_and_cut():
    summary = nnmagic.summary(nnmagic.default_network(), nnmagic.default_input())

    shown = summary.show(sort="flops", top=3).drawn(text=True)

    assert [row.label for row in shown.rows] == [
        "NeuralNetwork",
        "linear_relu_stack",
        "linear_relu_stack.0",
    ]


def test_an_lstm_and_an_encoder_need_no_input():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2)

    assert nnmagic.summary(nn.LSTM(3, 4)).rows[0].output_shape == (
        (16, 1, 4),
        ((1, 1, 4), (1, 1, 4)),
    )
    assert nnmagic.summary(encoder).rows[0].output_shape == (1, 16, 8)


def test_a_lazy_network_is_shown_and_stays_lazy():
    net = nn.Sequential(nn.LazyLinear(4), nn.ReLU())

    summary = nnmagic.summary(net, torch.rand(2, 7))

    assert summary.rows[0].output_shape == (2, 4)
    assert isinstance(net[0].weight, nn.UninitializedParameter)


def test_an_extra_repr_that_raises_has_nothing_to_say():
    class Shy(nn.Module):
        def extra_repr(self):
            raise RuntimeError

        def forward(self, x):
            return x

    assert nnmagic.summary(Shy(), torch.ones(1)).rows[0].config == ""


def test_a_summary_is_a_value():
    net, x = nn.Linear(4, 2), torch.rand(1, 4)

    assert nnmagic.summary(net, x) == nnmagic.summary(net, x)
    assert hash(nnmagic.summary(net, x)) == hash(nnmagic.summary(net, x))


def test_a_tied_weight_is_shown_at_both_places_and_counted_at_the_first():
    summary = nnmagic.summary(Owning(), torch.zeros(2, 3, dtype=torch.int64))

    rows = {row.layer: row for row in summary.rows}
    assert (rows["embedding"].own_params, rows["head"].own_params) == (40, 0)
    assert (rows["embedding"].weights, rows["head"].weights) == ("", "weight = embedding.weight")


def test_a_second_call_is_no_tie(doubling):
    assert {row.weights for row in nnmagic.summary(doubling, torch.rand(2, 4)).rows} == {""}


class Holding(nn.Module):
    """Holds parameters in every way that torch has."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3), requires_grad=False)
        self.several = nn.ParameterList([torch.ones(2), torch.ones(4)])
        self.named = nn.ParameterDict({"a": torch.ones(5), "b": self.scale})
        self.layers = nn.ModuleList([nn.Linear(3, 3)])
        self.same = self.layers[0]
        self.register_buffer("table", torch.ones(7, dtype=torch.float64))
        self.register_parameter("absent", None)

    def forward(self, x):
        made = nn.Linear(3, 3)
        return made(self.same(self.layers[0](x))) + self.scale


def test_every_parameter_is_counted_once_however_it_is_held():
    net = Holding()

    summary = nnmagic.summary(net, torch.rand(2, 3))

    frame = summary.to_frame()
    assert summary.total_params == sum(p.numel() for p in net.parameters()) == 3 + 6 + 5 + 12
    assert frame.own_params.sum() == summary.total_params
    assert (summary.trainable_params, summary.non_trainable_params) == (23, 3)
    assert summary.buffer_bytes == 7 * 8
    own = {row.layer: row.own_params for row in summary.rows if row.own_params}
    assert own == {"": 3, "layers.0": 12, "several": 6, "named": 5}
    assert [row.weights for row in summary.rows if row.layer == "named"] == ["b = scale"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_takes_half_the_bytes(dtype):
    net, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.rand(2, 4)

    whole, half = nnmagic.summary(net, x), nnmagic.summary(net.to(dtype), x.to(dtype))

    for name in ("param_bytes", "input_bytes", "output_bytes"):
        assert 2 * getattr(half, name) == getattr(whole, name)
    assert half.total_flops == whole.total_flops


def test_a_layer_whose_error_is_caught_fails_and_the_network_does_not():
    class Forgiving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(5, 2)
            self.second = nn.Linear(4, 2)

        def forward(self, x):
            try:
                return self.first(x)
            except RuntimeError:
                return self.second(x)

    summary = nnmagic.summary(Forgiving(), torch.rand(1, 4))

    assert [row.failed for row in summary.rows] == [False, True, False]
    assert summary.failure == ""


def test_outputs_under_autocast_have_the_bytes_of_its_dtype():
    net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.MSELoss())
    x, target = torch.rand(2, 4), torch.rand(2, 8)
    net.forward = lambda x, target: net[2](net[1](net[0](x)), target)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        summary = nnmagic.summary(net, x, target)
        real = [net[0](x), net[1](net[0](x)), net(x, target)]

    assert [each.dtype for each in real] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert [row.output_bytes for row in summary.rows[1:]] == [2 * 16, 2 * 16, 4]
    assert summary.output_bytes == 2 * 16 + 2 * 16 + 4


def test_autocast_is_not_followed_in_recurrent_networks_and_a_line_says_so():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        summary = nnmagic.summary(nn.LSTM(4, 5), torch.rand(3, 2, 4))

    assert "autocast is ignored for recurrent, quantised and lazy layers" in str(summary)


@pytest.mark.slow
def test_autocast_counts_the_same_flops_in_real_networks():
    net, x = torchvision.models.mobilenet_v3_small(), torch.rand(2, 3, 64, 64)
    plain = nnmagic.summary(net, x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = nnmagic.summary(net, x)

    assert cast.total_flops == plain.total_flops
    assert [row.output_shape for row in cast.rows] == [row.output_shape for row in plain.rows]
    assert cast.output_bytes < plain.output_bytes


def test_a_script_is_one_row_and_is_left_as_it_was():
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    net = nn.Sequential(torch.jit.script(inner), nn.ReLU())
    before = copy.deepcopy(net.state_dict())

    summary = nnmagic.summary(net, torch.rand(2, 3, 8, 8))

    parameters = 3 * 4 * 9 + 4 + 2 * 4
    assert [(row.layer, row.own_params) for row in summary.rows] == [
        ("", 0),
        ("0", parameters),
        ("1", 0),
    ]
    assert summary.total_params == parameters
    assert summary.total_flops == 2 * 2 * 4 * 6 * 6 * 3 * 9
    assert "a ScriptModule is one row: what runs inside it cannot be seen" in summary.notes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_lazy_parameters_are_counted_as_the_input_would_make_them():
    def lazy():
        convolved = nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten()
        return nn.Sequential(*convolved, nn.LazyLinear(5), nn.Linear(5, 2))

    net, made = lazy(), lazy()
    x = torch.rand(2, 3, 6, 6)
    made(x)

    summary, known = nnmagic.summary(net, x), nnmagic.summary(made, x)

    for name in ("total_params", "trainable_params", "param_bytes", "buffer_bytes", "total_flops"):
        assert getattr(summary, name) == getattr(known, name)
    assert [(row.params, row.own_params) for row in summary.rows] == [
        (row.params, row.own_params) for row in known.rows
    ]
    assert "lazy parameters are counted as this input would make them" in str(summary)
    assert isinstance(net[0].weight, nn.UninitializedParameter)


class Shared(nn.Module):
    """Holds one layer in two others, a tied weight, and two weights in one storage."""

    def __init__(self):
        super().__init__()
        layer = nn.Linear(4, 4)
        self.first = nn.Sequential(layer, nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU()))
        self.second = nn.Sequential(layer, nn.LayerNorm(4))
        self.first[1][0].weight = layer.weight
        both = torch.rand(2, 4, 4)
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)
        self.left.weight, self.right.weight = nn.Parameter(both[0]), nn.Parameter(both[1])
        self.whole = nn.Parameter(both.view(8, 4))

    def forward(self, x):
        return self.right(self.left(self.second(self.first(x))))


@pytest.mark.parametrize("make", [Shared, torchvision.models.resnet18, nnmagic.NeuralNetwork])
def test_what_is_below_a_layer_is_counted_once_whoever_shares_it(make):
    net = make()
    x = torch.rand(1, 28, 28) if make is nnmagic.NeuralNetwork else torch.rand(2, 3, 64, 64)
    modules = dict(net.named_modules())

    rows = nnmagic.summary(net, torch.rand(2, 4) if make is Shared else x).rows

    for row in rows:
        parameters = list(modules[row.layer].parameters())
        assert row.params == sum(p.numel() for p in parameters)
        assert row.trainable_params == sum(p.numel() for p in parameters if p.requires_grad)
        assert row.param_bytes == storage_bytes(parameters)
    assert {row.layer for row in rows} == set(modules)
