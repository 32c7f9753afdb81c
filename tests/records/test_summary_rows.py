"""The rows of a summary."""

import pickle

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.records.summary_rows import LayerShape


def rows():
    return nnmagic.summary(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.rand(4, 3)).rows


def test_equal_rows_are_equal_and_survive_pickling():
    found = rows()

    assert isinstance(found, tuple)
    assert found == rows()
    assert hash(found) == hash(rows())
    assert found != found[1:]
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_row_names_its_values():
    linear = rows()[1]

    assert isinstance(linear, LayerShape)
    assert (linear.layer, linear.type, linear.depth) == ("0", "Linear", 1)
    assert (linear.input_shape, linear.output_shape) == ((4, 3), (4, 2))
    assert (linear.params, linear.output_bytes, linear.flops) == (3 * 2 + 2, 4 * 2 * 4, 2 * 4 * 6)


def test_a_row_cannot_be_changed():
    with pytest.raises(AttributeError):
        rows()[0].params = 1


class Named(nn.Module):
    """Takes a dictionary of tensors."""

    def forward(self, inputs):
        return inputs


def test_a_row_with_named_tensors_has_a_hash():
    summary = nnmagic.summary(Named(), {"a": torch.rand(2), "b": torch.rand(3)})

    assert summary.rows[0].input_shape == ({"a": (2,), "b": (3,)},)
    assert hash(summary) == hash(nnmagic.summary(Named(), {"a": torch.rand(2), "b": torch.rand(3)}))
