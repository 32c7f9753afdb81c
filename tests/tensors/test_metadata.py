import pytest
import torch
from odd_layers import Scaled, scaled
from torch import nn

from nnmagic.tensors.metadata import (
    bytes_of,
    is_lazy,
    metadata_of,
    shape_of,
    storage_bytes,
    version_of,
)


def test_a_tensor_says_its_form():
    tensor = torch.zeros(2, 3, dtype=torch.bfloat16)

    assert metadata_of(tensor)[:4] == ((2, 3), "bfloat16", "cpu", 6)
    assert metadata_of(torch.empty(4, device="meta"))[:4] == ((4,), "float32", "meta", 4)
    assert metadata_of(torch.tensor(True))[:4] == ((), "bool", "cpu", 1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_the_ragged_axis_of_a_nested_tensor_has_no_size(layout):
    parts = [torch.ones(2, 5), torch.ones(3, 5)]

    found = metadata_of(torch.nested.nested_tensor(parts, layout=layout))

    assert found[:4] == ((2, None, 5), "float32", "cpu", 25)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_nested_tensor_of_equal_parts_has_all_its_sizes():
    one = torch.ones(2, 5)

    assert shape_of(torch.nested.nested_tensor([one, one])) == (2, 2, 5)
    assert shape_of(torch.nested.nested_tensor([])) == (0,)


class Hostile(torch.Tensor):
    @property
    def shape(self):
        raise RuntimeError("no shape")


def test_a_tensor_that_does_not_tell_is_unknown():
    assert metadata_of(torch.ones(2).as_subclass(Hostile))[:4] == ((), "unknown", "unknown", 0)
    assert shape_of(nn.LazyLinear(3).weight) == ()


def test_a_tensor_has_a_version_unless_it_is_of_inference_mode():
    tensor = torch.zeros(2)
    tensor += 1
    with torch.inference_mode():
        other = torch.zeros(2)

    assert version_of(tensor) == 1
    assert version_of(other) == -1


def test_a_tensor_of_a_lazy_layer_is_lazy_until_it_has_run():
    layer = nn.LazyLinear(3)

    before = is_lazy(layer.weight)
    layer(torch.ones(1, 2))

    assert (before, is_lazy(layer.weight)) == (True, False)


def test_bytes_are_the_number_of_values_by_their_size():
    assert bytes_of(torch.zeros(3, 5, dtype=torch.float16)) == 30
    assert bytes_of(torch.zeros(1).expand(100)) == 400


def test_a_storage_counts_once_and_no_more_than_it_holds():
    whole = torch.zeros(10)
    row = torch.zeros(1)

    assert storage_bytes([whole, whole.view(2, 5)]) == 40
    assert storage_bytes([whole[:4], whole[4:6]]) == 24
    assert storage_bytes([row.expand(100)]) == 4
    assert storage_bytes([whole, row, nn.LazyLinear(3).weight]) == 44


def test_the_bytes_of_a_subclass_are_those_of_the_tensors_it_keeps():
    weight = scaled(3, 4)
    within = Scaled(scaled(3, 4), torch.ones(1))

    assert bytes_of(weight) == 3 * 4 + 3 * 4
    assert bytes_of(within) == bytes_of(weight) + 4
    assert storage_bytes([weight, weight]) == bytes_of(weight)
    assert storage_bytes([weight, torch.ones(2)]) == bytes_of(weight) + 8


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_bytes_of_a_nested_tensor_are_those_of_its_values():
    ragged = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged)

    assert bytes_of(ragged) == (2 + 3) * 4 * 4
