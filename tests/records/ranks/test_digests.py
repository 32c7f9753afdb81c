from array import array

import numpy as np
import pytest
import torch
from rank_traces import on_rank
from torch import nn

import nnmagic
from nnmagic.records.ranks.digests import CallDigests, CallTensors


def test_the_order_of_the_tensors_of_a_call_counts():
    digests = np.array([5, 9, 5], np.uint64)

    found = CallTensors([(0, 1), (1, 0), (), (2, 1), (0,)]).digests(digests)

    assert found[0] == found[3]
    assert len({*found.tolist()}) == 4
    assert found[2] == 0


@pytest.mark.parametrize("noted", [True, False])
def test_another_value_dtype_or_shape_is_another_digest(noted):
    x = torch.arange(6.0)
    others = [x, x.clone(), x + 1, x.double(), x.reshape(2, 3), -x, torch.full((6,), float("nan"))]
    logs = [on_rank(nnmagic.trace(nn.Identity(), each), 0, 1).log for each in others]

    made = [int(CallDigests(noted=noted).of(log)[1][0]) for log in logs]

    assert made[0] == made[1]
    assert len({*made}) == len(made) - 1


def test_noted_digests_count_though_statistics_and_kept_values_are_equal():
    log = on_rank(nnmagic.trace(nn.Identity(), torch.ones(3)), 0, 1).log
    before = [CallDigests(noted=noted).of(log)[1] for noted in (True, False)]
    log.tensors.digests = array("q", [each + 1 for each in log.tensors.digests])

    after = [CallDigests(noted=noted).of(log)[1] for noted in (True, False)]

    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]
