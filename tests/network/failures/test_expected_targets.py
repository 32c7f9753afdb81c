import pytest
import torch
from refusals import refusal, zeros
from torch import nn, rand

scores = rand(4, 10)

LOSSES = [
    (
        nn.CrossEntropyLoss(),
        (scores, zeros(4, 1)),
        "got scores (4, 10) and targets (4, 1): the targets must be (4,), one class id for each "
        "item; type targets.squeeze(-1)",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, zeros(3)),
        "got scores (4, 10) and targets (3,): the targets must be (4,), one class id for each item",
    ),
    (
        nn.CrossEntropyLoss(),
        (rand(2, 5, 10), zeros(2, 5)),
        "got scores (2, 5, 10) and targets (2, 5): the targets must be (2, 10), one class id for "
        "each item; the classes stand last, move them with scores.movedim(-1, 1)",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, rand(4)),
        "got targets float32: class ids are int64, type targets.long()",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, zeros(4, 10)),
        "got scores (4, 10) and targets (4, 10) int64: make them class ids with .argmax(1)",
    ),
    *(
        (
            nn.CrossEntropyLoss(),
            (given, zeros(4)),
            f"got scores {tuple(given.shape)} int64: class ids, as .argmax gives them; "
            "the loss takes the scores themselves, type loss_fn(net(x), y)",
        )
        for given in (scores.argmax(1), scores.argmax(1, keepdim=True), scores.long())
    ),
    (
        nn.NLLLoss(),
        (scores.argmax(1), zeros(4)),
        "got scores (4,) int64: class ids, as .argmax gives them; "
        "the loss takes the scores themselves, type loss_fn(net(x), y)",
    ),
    (
        nn.CrossEntropyLoss(),
        (scores, torch.tensor([1, 2, 3, 10])),
        "got targets 1 … 10: the scores are of 10 classes, 0 … 9; type targets - 1, "
        "or give the network 11 outputs",
    ),
    (
        nn.NLLLoss(),
        (scores, torch.tensor([1, 2, 3, -1])),
        "got targets -1 … 3: the scores are of 10 classes, 0 … 9",
    ),
    (
        nn.BCELoss(),
        (torch.tensor([0.5, 3.0], requires_grad=True), rand(2)),
        "got 0.5 … 3: it takes probabilities in 0 … 1; nn.BCEWithLogitsLoss takes scores",
    ),
    (
        nn.BCEWithLogitsLoss(),
        (rand(4, 1), rand(4)),
        "got (4, 1) and targets (4,): they must have one shape; type targets.unsqueeze(-1)",
    ),
    (
        nn.BCEWithLogitsLoss(),
        (rand(4), zeros(4)),
        "got targets int64: they must be numbers, type targets.float()",
    ),
    (
        nn.MSELoss(),
        (rand(4, 3), rand(4)),
        "got (4, 3) and targets (4,): they must have one shape; for one value an item give the "
        "network 1 output, and .squeeze(-1) it",
    ),
    (
        nn.BCEWithLogitsLoss(),
        (rand(4, 3), zeros(4)),
        "got (4, 3) and targets (4,): they must have one shape; "
        "class ids go into nn.CrossEntropyLoss",
    ),
    (
        nn.CrossEntropyLoss(weight=rand(9)),
        (scores, zeros(4)),
        "its weight is (9,): the scores are of 10 classes, one each",
    ),
    (
        nn.CrossEntropyLoss(),
        (zeros(4), scores),
        "got scores (4,) and targets (4, 10): they are exchanged, the scores come first",
    ),
    (
        nn.NLLLoss(),
        (scores, rand(4, 10)),
        "got scores (4, 10) and targets (4, 10): the targets must be (4,), one class id for each "
        "item; type targets.argmax(1)",
    ),
    (
        nn.CrossEntropyLoss(),
        (rand(2, 5, 8, 8), zeros(2, 1, 8, 8)),
        "got scores (2, 5, 8, 8) and targets (2, 1, 8, 8): the targets must be (2, 8, 8), one "
        "class id for each item; type targets.squeeze(1)",
    ),
]


@pytest.mark.parametrize(("loss", "args", "says"), LOSSES)
def test_a_losss_refusal_is_explained(loss, args, says):
    with pytest.raises(Exception):  # noqa: B017, PT011 - what torch raises is its own affair
        loss(*args)

    assert refusal(loss, *args) == says


def test_a_list_that_a_loss_takes_is_not_blamed():
    loss = nn.CTCLoss()

    assert refusal(loss, rand(5, 2, 4), torch.ones(2, 3).long(), [5, 5], [3, 4]) == ""
