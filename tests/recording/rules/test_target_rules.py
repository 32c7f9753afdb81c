"""Batches that hold one class each are found, and no others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nnmagic


def found(batches, loss=F.cross_entropy):
    """Return the findings of a loop over targets, and their levels."""
    torch.manual_seed(0)
    net = nn.Linear(8, 3)
    with nnmagic.tracing() as trace:
        for targets in batches:
            loss(net(torch.rand(len(targets), 8)), torch.tensor(targets)).backward()
    return [(each.rule, each.level, each.number) for each in trace.findings]


MIXED = [0, 1, 2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss()])
def test_sorted_targets_are_found(loss):
    batches = [[0] * 8, [0] * 8, [0] * 4 + [1] * 4, [1] * 8]

    assert found(batches, loss) == [("batches of one class", "finding", 3)]


def test_one_class_in_all_batches_is_worth_a_note():
    assert found([[0] * 8] * 5) == [("batches of one class", "note", 5)]


@pytest.mark.parametrize(
    "batches",
    [
        [MIXED, [0] * 8, [1] * 8, [2] * 8],
        [[0] * 8, [1] * 8],
        [[0] * 7, [1] * 7, [2] * 7, [0] * 7],
        [[0] * 8, MIXED, [1] * 8, MIXED, MIXED, [0] * 8],
    ],
    ids=["the first is mixed", "two batches", "small batches", "as many are mixed"],
)
def test_a_batch_of_one_class_may_be_an_accident(batches):
    assert found(batches) == []
