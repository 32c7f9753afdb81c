"""A network whose methods call parts of it, and the iterations that its root calls are of."""

import torch
from torch import nn

import nnmagic

X = torch.rand(1, 2)


class Parts(nn.Module):
    """Has methods that call parts of it, once or in a loop, and one that calls all of it."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(2, 2)
        self.dec = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])

    def forward(self, x):
        return self.decode(self.encode(x))

    def encode(self, x):
        return self.enc(x)

    def decode(self, x):
        for layer in self.dec:
            x = layer(x)
        return x

    def many(self, x, times):
        return [self.enc(x) for _ in range(times)]

    @torch.no_grad()
    def decorated(self, x):
        return self.decode(x)

    def stream(self, x):
        for layer in (self.enc, *self.dec):
            yield layer(x)

    def generate(self, x, times):
        for _ in range(times):
            x = self(x)
        return x


def roots(trace):
    """Return network, layer and iteration of each call that has no parent."""
    return [(c.network, c.layer, c.iteration) for c in trace if c.depth == 0]


def iterations(run, *networks, **how):
    with nnmagic.tracing(*networks, **how) as trace:
        run()
    return [(layer, iteration) for _, layer, iteration in roots(trace)]


PASS = [("enc", 0), ("dec.0", 0), ("dec.1", 0)]
