import pytest
import torch
import torch.nn.functional as F
from corpus.case import Net
from refusals import refusal
from torch import nn

rand = torch.rand


class Positions(nn.Module):
    """Adds positions, as attributes and by calls."""

    def __init__(self, run):
        super().__init__()
        self.run = run
        self.pos_embedding = nn.Parameter(torch.zeros(1, 16, 8))
        self.register_buffer("table", torch.zeros(16, 8))
        self.settings = {"scale": torch.ones(16, 1)}
        self.proj = nn.ModuleList([nn.Linear(8, 6)])
        self.calls = 0

    def forward(self, x):
        return self.run(self, x)

    @property
    def counted(self):
        self.calls += 1
        return rand(5)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (
            lambda self, x: x + self.pos_embedding,
            "in “x + self.pos_embedding” with x (2, 25, 8), self.pos_embedding (1, 16, 8): "
            "axis 1 is 25 in x and 16 in self.pos_embedding: it must be the same; "
            "self.pos_embedding was made for inputs of another size",
        ),
        (
            lambda self, x: x + self.table[: x.shape[1]],
            "in “x + self.table[: x.shape[1]]” with x (2, 25, 8), self.table[:x.shape[1]] (16, 8): "
            "axis -2 is 25 in x and 16 in self.table[:x.shape[1]]: it must be the same; "
            "self.table[:x.shape[1]] was made for inputs of another size",
        ),
        (
            lambda self, x: x[:, :9] + self.pos_embedding,
            "axis 1 is 9 in x[:, :9] and 16 in self.pos_embedding: it must be the same; "
            "self.pos_embedding was made for 16: take as much of it as there is, "
            "self.pos_embedding[:, :9]",
        ),
        (
            lambda self, x: x + self.proj[0](x),
            "in “x + self.proj[0](x)” with x (2, 25, 8), self.proj[0](x) (2, 25, 6): "
            "axis 2 is 8 in x and 6 in self.proj[0](x): it must be the same; "
            "x becomes so by nn.Linear(8, 6)",
        ),
        (
            lambda self, x: torch.cat([x, self.proj[0](x)], dim=1),
            "with x (2, 25, 8), self.proj[0](x) (2, 25, 6): "
            "axis 2 is 8 in x and 6 in self.proj[0](x): only axis 1 may differ",
        ),
        (
            lambda self, x: torch.stack((x, x[:, 1:])),
            "axis 1 is 25 in x and 24 in x[:, 1:]: it must be the same; torch.cat joins",
        ),
        (
            lambda self, x: x.flatten(1) @ self.table,
            "axis -1 of x.flatten(1) is 200, axis -2 of self.table is 16: they must be the same",
        ),
        (
            lambda self, x: torch.matmul(x, self.table),
            "axis -1 of x is 8, axis -2 of self.table is 16: they must be the same; "
            "turn it, self.table.mT",
        ),
        (
            lambda self, x: F.relu(x).view(-1, 30),
            "in “F.relu(x).view(-1, 30)” with F.relu(x) (2, 25, 8): "
            "F.relu(x) holds 400 values, (-1, 30) takes a multiple of 30",
        ),
        (
            lambda self, x: x.reshape(x.size(0), 4, 8),
            "x holds 400 values, (2, 4, 8) takes 64",
        ),
        (
            lambda self, x: x * self.settings["scale"],
            "with x (2, 25, 8), self.settings['scale'] (16, 1): axis -2 is 25 in x and 16 in",
        ),
        (
            lambda self, x: x.softmax(dim=3),
            "in “x.softmax(dim=3)” with x (2, 25, 8): x has the axes 0 … 2",
        ),
        (
            lambda self, x: (x @ x.mT).masked_fill(torch.ones(2, 25).bool(), 0),
            "torch.ones(2, 25).bool().unsqueeze(1) fits",
        ),
        (
            lambda self, x: x.chunk(3, dim=-1).split(2),
            "in “x.chunk(3, dim=-1).split”, x.chunk(3, dim=-1) is a tuple of tensors",
        ),
        (
            lambda self, x: F.cross_entropy(x.mean(1), torch.zeros(3).long()),
            "got scores (2, 8) and targets (3,): the targets must be (2,), one class id for each",
        ),
    ],
)
def test_every_operand_is_shown_with_its_shape(run, says):
    assert says in refusal(Positions(run), rand(2, 25, 8))


def test_names_are_unpacked_from_a_shape():
    def run(self, x):
        _, channels, height, width = x.shape
        return x.flatten(1), channels * height * width

    says = (
        "in “_, channels, height, width = x.shape” with x (2, 25, 8): x has 3 axes for 4 names; "
        "one item becomes a batch with .unsqueeze(0)"
    )

    assert refusal(Positions(run), rand(2, 25, 8)) == says


def test_a_property_of_the_users_is_not_asked_again():
    net = Positions(lambda self, x: x + self.counted)

    says = refusal(net, rand(2, 25, 8))

    assert says == "in “x + self.counted” with x (2, 25, 8)"
    assert net.calls == 1


def test_a_function_of_the_users_does_not_run_again():
    calls = []

    def shifted(x):
        calls.append(x)
        return x[:, 1:]

    says = refusal(Net(lambda net, x: x + shifted(x)), rand(2, 5))

    assert says == "in “x + shifted(x)” with x (2, 5)"
    assert len(calls) == 1


def test_random_numbers_are_as_they_would_be():
    net = Net(lambda net, x: x + F.dropout(torch.rand_like(x), 0.5)[:, 1:])
    torch.manual_seed(0)
    with pytest.raises(RuntimeError):
        net(torch.ones(2, 5))
    after = torch.get_rng_state()

    torch.manual_seed(0)
    says = refusal(net, torch.ones(2, 5))

    assert "F.dropout(torch.rand_like(x), 0.5)[:, 1:] (2, 4)" in says
    assert torch.equal(torch.get_rng_state(), after)


def test_a_tuple_that_code_of_the_users_takes_for_a_tensor_is_told():
    def run(self, x):
        h = self.lstm(x)
        return h[:, -1]

    assert refusal(Net(run, lstm=nn.LSTM(8, 4)), rand(2, 5, 8)) == (
        "in “h[:, -1]”, h is what lstm (LSTM) returned, (output, (h, c)): pass the first, "
        "output, (h, c) = lstm(x)"
    )
