import pytest
import torch
from torch import nn

import nnmagic


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
