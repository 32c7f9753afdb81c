import gc
import math
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.display.sheet import sheet_of


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.bias = nn.Parameter(torch.zeros(10), requires_grad=False)


def test_every_parameter_is_a_row_with_its_first_values(doubling):
    found = nnmagic.params(doubling)

    assert [row.name for row in found.rows] == [name for name, _ in doubling.named_parameters()]
    for name, parameter in doubling.named_parameters():
        row = found[name]
        assert row.values == parameter[:2].tolist()
        assert (row.count, row.shape) == (parameter.numel(), tuple(parameter.shape))
        assert row.mean == pytest.approx(parameter.double().mean().item())
        assert row.std == pytest.approx(parameter.double().std().item())


def test_a_tied_parameter_stands_twice_and_counts_once():
    found = nnmagic.params(Tied())

    assert [(row.name, row.tied_to, row.trainable) for row in found.rows] == [
        ("bias", None, False),
        ("embedding.weight", None, True),
        ("head.weight", "embedding.weight", True),
    ]
    assert (found.total, found.trainable, found.total_bytes) == (50, 40, 200)
    assert sum(row.percent for row in found.rows if row.tied_to is None) == pytest.approx(100)
    assert "= embedding.weight" in str(found)
    assert "frozen" in str(found)


def test_a_state_dict_is_shown_by_its_names():
    net = nn.BatchNorm1d(3)

    found = nnmagic.params(net.state_dict())

    assert [row.name for row in found.rows] == list(net.state_dict())
    assert found["num_batches_tracked"].values == 0
    with pytest.raises(TypeError, match="holds no tensors"):
        nnmagic.params({"a": 1})


def test_a_lazy_parameter_has_no_shape_and_says_so():
    net = nn.LazyLinear(3)

    found = nnmagic.params(net)

    row = found["weight"]
    assert (row.shape, row.count, row.percent, row.bytes) == (None, None, None, None)
    assert found.total == 0
    assert found.to_frame()["count"].isna().all()
    assert "not initialized yet" in str(found)
    assert isinstance(net.weight, nn.UninitializedParameter)


def test_the_frame_has_the_promised_columns():
    frame = nnmagic.params(nnmagic.default_network()).to_frame()

    assert list(frame.columns) == [
        "name",
        "shape",
        "dtype",
        "device",
        "count",
        "percent",
        "bytes",
        "trainable",
        "tied_to",
        "min",
        "max",
        "mean",
        "std",
        "zeros",
        "nan",
        "inf",
    ]
    assert frame["count"].sum() == 669_706
    assert frame.shape[0] == 6


def test_rows_can_be_sorted_cut_and_chosen():
    found = nnmagic.params(nnmagic.default_network())

    largest = str(found.show(sort="count", top=1))
    assert "linear_relu_stack.0.weight" in largest
    assert "linear_relu_stack.2.weight" not in largest
    assert "1 of 6 shown" in largest
    assert "0.weight" not in str(found.show(layers="*.bias"))
    assert "no parameter matches nothing" in str(found.show(layers="nothing"))


def test_a_missing_name_lists_those_that_there_are():
    with pytest.raises(KeyError, match="no parameter 'x'; there are weight, bias"):
        nnmagic.params(nn.Linear(2, 2))["x"]


def test_nan_and_zeros_are_flagged_in_words():
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight[0, 0] = float("nan")
        net.bias.zero_()

    text = str(nnmagic.params(net))

    assert "1 NaN" in text
    assert "all zeros" in text


def test_a_checkpoint_is_shown_by_its_dotted_names():
    net = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "layers": [torch.ones(2), {"a": torch.zeros(1)}, "text"],
    }
    checkpoint["itself"] = checkpoint
    kept = optimizer.state_dict()["state"][0]

    found = nnmagic.params(checkpoint)

    assert [row.name for row in found.rows] == [
        "model.weight",
        "model.bias",
        *(f"optimizer.state.{i}.{name}" for i in (0, 1) for name in kept),
        "layers.0",
        "layers.1.a",
    ]
    assert found.others == ("optimizer.param_groups", "epoch", "layers.2", "itself")
    assert "without a tensor: optimizer.param_groups, epoch, layers.2, itself" in str(found)


def test_tied_weights_are_tied_in_a_state_dict_too():
    found = nnmagic.params(Tied().state_dict())

    assert found["head.weight"].tied_to == "embedding.weight"
    assert (found.total, found.total_bytes) == (50, 200)


def test_views_of_one_storage_are_not_tied_where_they_differ():
    whole = torch.rand(4, 4)

    found = nnmagic.params({"all": whole, "row": whole[0], "turned": whole.t(), "again": whole[:]})

    assert [row.tied_to for row in found.rows] == [None, None, None, "all"]
    assert found.total_bytes == 64


def test_the_packed_weights_of_a_state_dict_are_shown():
    net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})

    found = nnmagic.params(net.state_dict())

    weight, bias = net[0].weight(), net[0].bias()
    packed = "0._packed_params._packed_params"
    assert found[f"{packed}.0"].shape == (3, 4)
    assert found[f"{packed}.0"].values == weight.dequantize()[:2].tolist()
    assert found[f"{packed}.1"].values == bias[:2].tolist()
    assert found.others == ("0._packed_params.dtype",)


def test_a_network_without_parameters_has_an_empty_table_and_sheet():
    found = nnmagic.params(nn.ReLU())

    assert found.heading == "ReLU · 0 parameters · 0 values, 0 trainable · 0 B"
    assert sheet_of(found.table()).content["count"] == 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.zeros(0, 3),
        torch.empty(2, 3, device="meta"),
        torch.ones(2, dtype=torch.float8_e4m3fn),
        torch.ones(2, dtype=torch.complex32),
    ],
    ids=["sparse", "empty", "meta", "float8", "complex"],
)
def test_any_tensor_has_its_shape_and_its_share(tensor):
    found = nnmagic.params({"it": tensor, "one": torch.ones(1)})

    assert found["it"].shape == tuple(tensor.shape)
    assert found["it"].count == tensor.numel()
    assert found["it"].percent == pytest.approx(100 * tensor.numel() / (tensor.numel() + 1))
    assert found["it"].bytes == tensor.numel() * tensor.element_size()
    assert sheet_of(found.table()).content["count"] == 2


def test_complex_values_are_short(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    found = nnmagic.params({"c": torch.tensor([1 + 2j, 0.5 - 0.25j])})

    assert "[1.000+2.000j, 0.500-0.250j]" in str(found)


def trained():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.Linear(2, 2))
    net[0].bias.requires_grad_(False)
    net[:3](torch.rand(5, 4)).square().sum().backward()
    return net


def test_gradients_have_their_norms_and_those_without_are_named():
    net = trained()
    norms = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}

    found = nnmagic.params(net, grad=True)

    frame = found.to_frame().set_index("name").grad_norm
    assert list(found.to_frame().columns)[-1] == "grad_norm"
    for name, gradient in norms.items():
        assert frame[name] == pytest.approx(gradient.double().norm().item(), rel=1e-12)
    assert frame[["0.bias", "3.weight", "3.bias"]].isna().all()
    together = torch.nn.utils.get_total_norm(list(norms.values())).item()
    assert f"gradients: total norm {together:.3f} together" in str(found)
    assert "no gradient: 2 of 6 parameters: 3.weight, 3.bias" in str(found)
    assert found.flags(found["0.bias"]) == ["frozen"]
    assert found.flags(found["3.bias"]) == ["no gradient"]


def test_without_the_option_no_gradient_is_told():
    found = nnmagic.params(trained())

    assert "grad_norm" not in found.to_frame()
    assert "gradient" not in str(found)
    assert found["0.weight"].has_grad is None
    with pytest.raises(ValueError, match="the gradients are needed: --grad"):
        found.show(sort="grad_norm")


def test_no_gradient_at_all_says_what_to_do(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    alone = nnmagic.params(nn.Linear(2, 2), grad=True)
    state = nnmagic.params(nn.Linear(2, 2).state_dict(), grad=True)

    assert (
        "no parameter has a gradient: run a backward first, such as loss_fn(net(x), y).backward()"
        in str(alone)
    )
    assert "no tensor has a gradient: a state dict holds none" in str(state)


def test_gradients_can_be_sorted_by_nan_first():
    net = trained()
    net[2].bias.grad[0] = math.nan

    found = nnmagic.params(net, grad=True).show(sort="grad_norm", top=3)

    assert found.drawn(text=True).rows[0].label == "2.bias"
    assert found.flags(found["2.bias"]) == ["NaN in the gradient"]
    second, third = found.table().cells("grad_norm")[1:]
    assert second > third


def test_the_widgets_sheet_has_the_norms():
    found = nnmagic.params(trained(), grad=True)

    sheet = sheet_of(found.table())

    (column,) = [each for each in sheet.content["columns"] if each["key"] == "grad_norm"]
    shown = np.frombuffer(column["values"], dtype="f8")
    expected = [
        math.nan if row.record is None or row.record.grad_norm is None else row.record.grad_norm
        for row in sheet.subjects
    ]
    assert np.array_equal(shown, expected, equal_nan=True)
    assert set(found.notes) <= set(sheet.content["notes"])


def test_a_tied_gradient_counts_once_in_the_norm_of_all():
    net = Tied()
    net.head(net.embedding(torch.tensor([[1, 2]]))).sum().backward()

    found = nnmagic.params(net, grad=True)

    assert found["head.weight"].grad_norm == found["embedding.weight"].grad_norm
    assert f"norm {net.embedding.weight.grad.norm().item():.3f} together" in str(found)


def test_a_tensor_that_is_no_leaf_is_asked_for_no_gradient():
    made = torch.ones(2, requires_grad=True) * 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nnmagic.params({"made": made}, grad=True)

    assert found["made"].has_grad is False


@pytest.mark.parametrize(
    ("gradient", "norm"),
    [
        (torch.full((10_000,), 60_000.0, dtype=torch.float16), 100 * 60_000.0),
        (torch.full((4,), 2.0**-24, dtype=torch.float16), 2.0**-23),
        (torch.full((4,), 2.0**127), 2.0**128),
        (torch.full((4,), 1e-44), 2 * float(torch.tensor(1e-44))),
        (torch.tensor([3e200, 4e200], dtype=torch.float64), 5e200),
        (torch.tensor([3e-200, 4e-200], dtype=torch.float64), 5e-200),
        (torch.tensor([3 + 4j, 12j]), 13.0),
        (torch.tensor([3.0, 4.0]).to(torch.float8_e5m2), 5.0),
        (torch.tensor([3.0, 4.0], dtype=torch.bfloat16), 5.0),
        (torch.sparse_coo_tensor([[0, 0, 2]], [1.0, 2.0, 4.0], (4,)), 5.0),
        (torch.tensor([[3.0, 0.0], [0.0, 4.0]]).to_sparse_csr(), 5.0),
        (torch.zeros(3), 0.0),
        (torch.zeros(0), 0.0),
        (torch.tensor([math.inf, 1.0]), math.inf),
        (torch.tensor([math.nan, 1.0]), math.nan),
        (torch.tensor([math.nan, math.inf]), math.nan),
    ],
)
def test_a_norm_is_exact_for_every_dtype_and_range(gradient, norm):
    found = nnmagic.params({"gradient": gradient})["gradient"].tensor.norm

    assert found == pytest.approx(norm, rel=1e-12, abs=0, nan_ok=True)


def test_a_gradient_without_values_has_no_norm():
    net = nn.Linear(2, 2, device="meta")
    net(torch.rand(1, 2, device="meta")).sum().backward()

    found = nnmagic.params(net, grad=True)

    assert found["weight"].has_grad
    assert found["weight"].grad_norm is None
    assert "unknown" in str(found)


def test_a_sparse_gradient_adds_up_what_stands_twice():
    net = nn.Embedding(4, 2, sparse=True)
    net(torch.tensor([1, 1, 3])).sum().backward()

    found = nnmagic.params(net, grad=True)

    assert found["weight"].grad_norm == pytest.approx(math.sqrt(4 + 4 + 1 + 1))
    assert not net.weight.grad.is_coalesced()


def test_a_record_of_parameters_is_pickled_without_them_and_keeps_none_alive():
    net = nn.Linear(3, 3)
    params, gone = nnmagic.params(net), weakref.ref(net.weight)

    again = pickle.loads(pickle.dumps(params))
    del net
    gc.collect()

    assert again == params
    assert gone() is None
    with pytest.raises(ValueError, match="not at hand"):
        again.load(again["weight"], 9)
