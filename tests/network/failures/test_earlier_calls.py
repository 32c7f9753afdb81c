import pytest
import torch
from corpus.case import Net
from refusals import refusal
from torch import nn

rand, loss_fn = torch.rand, nn.CrossEntropyLoss()


def zeros(items):
    return torch.zeros(items, dtype=torch.int64)


@pytest.mark.parametrize(
    ("view", "width", "made"),
    [
        (lambda x: x.view(-1, 4), 4, 25),
        (lambda x: x.reshape(-1, 20), 20, 5),
        (lambda x: x.flatten(0, 1), 5, 20),
        (lambda x: x.mT.reshape(10, 10), 10, 10),
    ],
)
def test_a_view_that_mixes_items_is_told_at_the_loss(view, width, made):
    net = Net(lambda net, x: net.fc(view(net.act(x))), act=nn.ReLU(), fc=nn.Linear(width, 3))

    assert refusal(lambda: loss_fn(net(rand(4, 5, 5)), zeros(4))) == (
        f"got scores ({made}, 3) and targets (4,): Net made {made} items of 4, before fc (Linear); "
        "a view or a reshape mixes items there, keep the first axis, as x.flatten(1) does"
    )


def test_so_is_one_at_the_end_of_a_network():
    net = Net(lambda net, x: net.fc(x).view(-1, 3), fc=nn.Linear(5, 6))

    assert refusal(lambda: loss_fn(net(rand(4, 5)), zeros(4))).startswith(
        "got scores (8, 3) and targets (4,): Net made 8 items of 4; a view"
    )


def test_targets_of_another_batch_are_not_blamed_on_the_network():
    net = nn.Linear(5, 3)

    assert refusal(lambda: loss_fn(net(rand(4, 5)), zeros(6))) == (
        "got scores (4, 3) and targets (6,): the targets must be (4,), one class id for each item"
    )
