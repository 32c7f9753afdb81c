import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.known_values import MOST_VALUES
from nnmagic.meta import ValuesNeededError


class Using(nn.Module):
    """Makes its output's shape from the values of its second argument."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, lengths):
        return x.new_zeros(self.function(lengths))


@pytest.mark.parametrize(
    "function",
    [
        lambda lengths: lengths.tolist(),
        lambda lengths: int(lengths.max()),
        lambda lengths: (lengths.cpu() + 1).tolist(),
        lambda lengths: lengths.sort(descending=True).values.tolist(),
        lambda lengths: lengths.clone().add_(2)[1:].tolist(),
        lambda lengths: [int(each) for each in lengths.cumsum(0)],
        lambda lengths: (torch.arange(6) < lengths[:, None]).sum(1).tolist(),
        lambda lengths: 4 if lengths.sum() > 7 else 5,
        lambda lengths: torch.nonzero(lengths > 3).shape,
    ],
)
def test_lengths_and_what_follows_from_them_are_known(function):
    x, lengths = torch.rand(2, 6), torch.tensor([3, 5])

    summary = nnmagic.summary(Using(function), x, lengths)

    assert summary.rows[0].output_shape == tuple(x.new_zeros(function(lengths)).shape)
    assert lengths.tolist() == [3, 5]


@pytest.mark.parametrize(
    "value", [torch.rand(2), torch.ones(2, 2).long(), torch.ones(MOST_VALUES + 1).long()]
)
def test_other_values_are_unknown(value):
    with pytest.raises(ValuesNeededError):
        nnmagic.summary(Using(lambda lengths: int(lengths.sum())), torch.rand(2, 6), value)


def test_what_is_overwritten_with_unknown_values_is_unknown():
    def overwritten(lengths):
        return int(lengths.clone().copy_(torch.rand(2)).sum())

    with pytest.raises(ValuesNeededError):
        nnmagic.summary(Using(overwritten), torch.rand(2, 6), torch.tensor([3, 5]))
