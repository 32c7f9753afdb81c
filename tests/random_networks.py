"""Networks at random: what `hypothesis` draws is a nested tuple, from which a network is built.

Every block takes a tensor of (batch, time, 8) and returns one, so that all can be put together in
any way. The same drawing under the same seed gives the same network, with the same parameters.
"""

import functools

import torch
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

WIDTH = 8

OUTSIDE = {}
"""What forwards and hooks keep outside their networks."""


@functools.lru_cache
def causal(length):
    """A mask that is made once for each length."""
    return torch.ones(length, length).tril().bool()


class Block(nn.Module):
    """A module with the blocks that it was drawn with."""

    def __init__(self, *inner):
        super().__init__()
        for number, each in enumerate(inner):
            setattr(self, f"part{number}", each)
        self.count = len(inner)

    def parts(self):
        return [getattr(self, f"part{number}") for number in range(self.count)]


class Residual(Block):
    def forward(self, x):
        return x + self.part0(x)


class Concatenated(Block):
    def __init__(self, *inner):
        super().__init__(*inner)
        self.project = nn.Linear(len(inner) * WIDTH, WIDTH)

    def forward(self, x):
        return self.project(torch.cat([part(x) for part in self.parts()], -1))


class Twice(Block):
    """Calls its part twice: a shared layer."""

    def forward(self, x):
        return self.part0(self.part0(x))


class Repeated(Block):
    """Calls its part as often as the input is long."""

    def forward(self, x):
        for _ in range(x.shape[1]):
            x = self.part0(x)
        return x


class ByShape(Block):
    def forward(self, x):
        return self.part0(x) if x.shape[1] % 2 else self.part1(x)


class ByValue(Block):
    def forward(self, x):
        return self.part0(x) if x.sum() > 0 else self.part1(x)


class Pair(Block):
    """Returns a tuple, which its caller takes apart."""

    def forward(self, x, *, scale=1):
        return self.part0(x) * scale, {"again": x, "none": None}


class Paired(Block):
    def forward(self, x):
        pair, more = self.pair(x, scale=torch.full((1,), 2.0))
        return pair + more["again"]

    def __init__(self, *inner):
        super().__init__()
        self.pair = Pair(*inner)


class Unregistered(Block):
    """Holds a layer in a list, and makes another one in its forward."""

    def __init__(self, *inner):
        super().__init__(*inner)
        self.hidden = [nn.Linear(WIDTH, WIDTH)]

    def forward(self, x):
        return nn.Tanh()(self.hidden[0](self.part0(x)))


class Storing(Block):
    """Changes what it holds, and what is outside."""

    def __init__(self, *inner):
        super().__init__(*inner)
        self.register_buffer("total", torch.zeros(WIDTH))
        self.steps, self.kept = 0, {"shapes": [], "last": None}

    def forward(self, x):
        x = self.part0(x)
        self.steps += 1
        self.total += x.detach().sum((0, 1))
        self.kept["shapes"].append(tuple(x.shape))
        self.last = self.kept["last"] = x.detach()
        OUTSIDE["last"] = x.detach()
        OUTSIDE.setdefault("all", []).append(x.detach())
        return x


class Attending(Block):
    """Attention by hand, with a mask from a cache."""

    def forward(self, x):
        scores = (x @ x.mT).masked_fill(~causal(x.shape[1]), -1e9)
        return scores.softmax(-1) @ self.part0(x)


class InPlace(Block):
    def forward(self, x):
        y = x.clone()
        y[:, 0] = self.part0(x)[:, 0]
        return y.mul_(0.5).relu_()


class Checkpointed(Block):
    def forward(self, x):
        return checkpoint(self.part0, x, use_reentrant=False)


class Recurrent(nn.Module):
    def __init__(self, kind, layers):
        super().__init__()
        self.rnn = kind(WIDTH, WIDTH, layers, batch_first=True)

    def forward(self, x):
        y, _ = self.rnn(x)
        return y


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH)

    def forward(self, x):
        return self.norm(self.conv(x.mT)).mT


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


def hooked(*inner):
    """A layer with hooks: one keeps what it gets outside, one changes the output."""
    layer = nn.Sequential(*inner)
    layer.register_forward_hook(lambda module, args, out: OUTSIDE.update(hook=(args, out)))
    layer.register_forward_hook(lambda module, args, out: out + 1)
    layer.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
    return layer


def tied(*inner):
    """Two layers with one weight."""
    first, second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
    second.weight = first.weight
    return nn.Sequential(first, *inner, second)


def frozen(*inner):
    layer = nn.Sequential(*inner)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    return layer


LEAVES = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "norm": lambda: nn.LayerNorm(WIDTH),
    "relu": nn.ReLU,
    "relu in place": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True)),
    "gelu": nn.GELU,
    "dropout": lambda: nn.Dropout(0.3),
    "identity": nn.Identity,
    "gru": lambda: Recurrent(nn.GRU, 2),
    "lstm": lambda: Recurrent(nn.LSTM, 1),
    "conv": Convolved,
    "attention": Attention,
    "encoder": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True),
}

NODES = {
    "sequential": (nn.Sequential, 1, 3),
    "residual": (Residual, 1, 1),
    "concatenated": (Concatenated, 2, 3),
    "twice": (Twice, 1, 1),
    "repeated": (Repeated, 1, 1),
    "by shape": (ByShape, 2, 2),
    "by value": (ByValue, 2, 2),
    "pair": (Paired, 1, 1),
    "unregistered": (Unregistered, 1, 1),
    "storing": (Storing, 1, 1),
    "attending": (Attending, 1, 1),
    "in place": (InPlace, 1, 1),
    "checkpointed": (Checkpointed, 1, 1),
    "hooked": (hooked, 1, 2),
    "tied": (tied, 0, 1),
    "frozen": (frozen, 1, 2),
}


def _nodes(inner):
    return st.one_of(
        st.tuples(st.just(name), st.lists(inner, min_size=least, max_size=most))
        for name, (_, least, most) in NODES.items()
    )


DRAWINGS = st.recursive(st.sampled_from(sorted(LEAVES)), _nodes, max_leaves=8)


def built(drawing, seed=0):
    """Build a network from a drawing."""
    torch.manual_seed(seed)
    return _built(drawing)


def _built(drawing):
    if isinstance(drawing, str):
        return LEAVES[drawing]()
    name, inner = drawing
    return NODES[name][0](*map(_built, inner))


def names_in(drawing):
    """The names of all that a network was built of."""
    if isinstance(drawing, str):
        return {drawing}
    name, inner = drawing
    return {name}.union(*map(names_in, inner))
