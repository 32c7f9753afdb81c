"""What fails between the calls of layers: in a loss, a backward, a line of the user's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn, rand

import nnmagic


def outside(function, *args):
    """Return the note on what fails outside all layers, after a call of a network."""
    net = nn.Linear(3, 2)
    with pytest.raises(Exception) as caught, nnmagic.tracing():  # noqa: PT011
        function(net(rand(4, 3)), *args)
    return caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda h: h.backward(), "with h (4, 2): it starts from one number: a loss, or .sum()"),
        (
            lambda h: F.cross_entropy(h, torch.zeros(5).long()),
            "got scores (4, 2) and targets (5,): the targets must be (4,)",
        ),
        (
            lambda h: F.nll_loss(h, torch.zeros(4).long() + 7),
            "torch.zeros(4).long() + 7 (4,) int64",
        ),
        (lambda h: nn.MSELoss(h, h), "nn.MSELoss(…) makes a layer; F.mse_loss(…) or"),
        (lambda h: h @ rand(3, 4), "axis -1 of h is 2, axis -2 of rand(3, 4) is 3"),
        (lambda h: h[:, 2], "in “h[:, 2]” with h (4, 2)"),
    ],
)
def test_what_fails_outside_the_layers_is_told_too(run, says):
    assert says in outside(run)
    assert outside(run).startswith("nnmagic: raised outside the layers, in “")


def test_the_range_of_targets_is_told_outside_the_layers():
    y = torch.tensor([0, 1, 2, 5])

    assert "got targets 0 … 5: the scores are of 2 classes, 0 … 1" in outside(
        lambda h: F.cross_entropy(h, y)
    )


def test_a_real_summary_tells_what_fails_outside_the_layers_too(session):
    session.shell.user_ns.update(net=nn.Linear(3, 2), x=rand(4, 3), F=F)
    with pytest.raises(ValueError, match="batch_size") as caught:
        session.run("%nnsummary --real F.cross_entropy(net(x), torch.zeros(5).long())")

    assert "raised outside the layers, in “F.cross_entropy(net(x)" in caught.value.__notes__[0]
