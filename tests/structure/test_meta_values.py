import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.structure.meta import FakeTensors, networks_on_meta, on_meta
from nnmagic.structure.meta_values import MOST_VALUES, known_values


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
        lambda lengths: 2 if (lengths[:, None] == torch.ones(2, 2, dtype=torch.int64)).any() else 3,
        lambda lengths: 2 if bool((lengths.float() / 2).isfinite().all()) else 3,
    ],
)
def test_lengths_and_what_follows_from_them_are_known(function):
    x, lengths = torch.rand(2, 6), torch.tensor([3, 5])

    summary = nnmagic.summary(Using(function), x, lengths)

    assert summary.rows[0].output_shape == tuple(x.new_zeros(function(lengths)).shape)
    assert lengths.tolist() == [3, 5]


@pytest.mark.parametrize(
    "value", [torch.rand(2), torch.ones(MOST_VALUES + 1).long(), torch.ones(2).to_sparse()]
)
def test_other_values_are_unknown(value):
    summary = nnmagic.summary(Using(lambda lengths: int(lengths.sum())), torch.rand(2, 6), value)

    assert summary.engine == "real run"


def test_what_is_overwritten_with_unknown_values_is_unknown():
    def overwritten(lengths):
        return int(lengths.clone().copy_(torch.rand(2)).sum())

    summary = nnmagic.summary(Using(overwritten), torch.rand(2, 6), torch.tensor([3, 5]))

    assert summary.engine == "real run"


@pytest.mark.parametrize("fakes", [None, FakeTensors(torch.device("cpu"))])
def test_ids_and_masks_are_known_in_either_kind_of_run(fakes):
    ids, mask = torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.ones(2, 3, dtype=torch.bool)
    net = Using(lambda lengths: 1)

    with networks_on_meta(net, fakes):
        given = on_meta((ids, mask), fakes)
        with known_values(net.modules(), (ids, mask), given, all_small=True):
            padded, all_kept = 0 in given[0], bool(given[1].all())
            expanded = given[1][:, None, None, :].expand(2, 1, 3, 3)

    assert (padded, all_kept) == (True, True)
    assert expanded.stride() == mask[:, None, None, :].expand(2, 1, 3, 3).stride()
