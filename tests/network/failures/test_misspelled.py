"""What a network lacks because it is misspelled, or because its `__init__` is."""

import pytest
from corpus.case import Net
from refusals import refusal
from torch import nn, rand

import nnmagic


class Unready(nn.Module):
    def __init__(self):
        self.scale = 2

    def forward(self, x):
        return x * self.scale


SUPER = "lacks super().__init__() in its __init__: add that as the first line"


@pytest.mark.parametrize(
    "net",
    [
        Unready(),
        nn.Sequential(nn.Linear(3, 3), Unready()),
        Net(lambda net, x: net.inner(x), inner=nn.ModuleList([Unready()])[0]),
        Net(lambda net, x: Unready()(x)),
    ],
)
def test_a_network_without_its_init_fails_as_it_does_untraced(net):
    with pytest.raises(AttributeError) as plain:
        net(rand(2, 3))

    with pytest.raises(AttributeError) as traced:
        nnmagic.trace(net, rand(2, 3))
    with pytest.raises(AttributeError) as summarised:
        nnmagic.summary(net, rand(2, 3))

    assert str(traced.value) == str(summarised.value) == str(plain.value)
    for error in (traced.value, summarised.value):
        assert SUPER in error.__notes__[0]


class Misnamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(3, 2)

    def forwrad(self, x):
        return self.fc(x)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda net, x: net.conv_1(x), "has no self.conv_1: did you mean self.conv1?"),
        (lambda net, x: net.head(x), "has no self.head: it holds conv1, fc"),
        (lambda net, x: fc(x), "has fc as its own: type self.fc"),  # noqa: F821
    ],
)
def test_a_name_that_a_network_lacks_is_told(run, says):
    assert refusal(Net(run, conv1=nn.Conv2d(1, 2, 3), fc=nn.Linear(3, 2)), rand(2, 3)) == says


@pytest.mark.parametrize("name", ["_init_", "__int__", "__init", "init"])
def test_an_init_that_is_misspelled_is_told(name):
    def make(self):
        self.fc = nn.Linear(3, 2)

    kind = type("Net", (nn.Module,), {name: make, "forward": lambda self, x: self.fc(x)})

    assert refusal(kind(), rand(2, 3)) == f"has no self.fc: rename its {name} to __init__"


def test_a_forward_that_is_misspelled_is_told():
    assert refusal(Misnamed(), rand(2, 3)) == "has no forward: rename forwrad to forward"
