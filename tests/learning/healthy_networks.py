"""Networks of which some parts get no gradient now and then, and rightly."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

DRAWN = torch.Generator().manual_seed(0)
REAL, X = torch.randn(16, 4, generator=DRAWN), torch.randn(64, 8, generator=DRAWN)
Y = torch.arange(64) % 3


def network(*, norm=False, dropout=False):
    middle = [nn.BatchNorm1d(16)] if norm else [nn.Dropout(0.5)] if dropout else []
    return nn.Sequential(nn.Linear(8, 16, bias=not norm), *middle, nn.ReLU(), nn.Linear(16, 3))


class Averaged(nn.Module):
    """A network with a copy of itself that a moving average writes to, as BYOL and DQN have."""

    def __init__(self):
        super().__init__()
        self.online, self.target = network(norm=True), network(norm=True)
        self.predictor = nn.Linear(3, 3)

    def forward(self, x):
        with torch.no_grad():
            goal = self.target(x)
        return F.mse_loss(self.predictor(self.online(x)), goal)

    @torch.no_grad()
    def average(self):
        for ours, theirs in zip(self.target.parameters(), self.online.parameters(), strict=True):
            ours.lerp_(theirs, 0.1)


class Experts(nn.Module):
    """A mixture of which each call takes one expert, and drops the others."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 3) for _ in range(3))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.experts[self.calls % 3](x)


class Heads(nn.Module):
    """Two heads that both run; the loss is of one of them in turn."""

    def __init__(self):
        super().__init__()
        self.body, self.heads = nn.Linear(8, 8), nn.ModuleList(nn.Linear(8, 3) for _ in range(2))

    def forward(self, x):
        return [head(self.body(x).relu()) for head in self.heads]


class Routed(nn.Module):
    """A mixture whose router sends each item to its best expert, as a Switch transformer does."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 3) for _ in range(3))

    def forward(self, x):
        share, best = self.router(x).softmax(1).max(1)
        scores = x.new_zeros(len(x), 3)
        for number, expert in enumerate(self.experts):
            chosen = best == number
            if chosen.any():
                scores[chosen] = share[chosen, None] * expert(x[chosen])
        return scores


class OneHead(Heads):
    """One of two heads runs in each call, the other one in the next."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.heads[self.calls % 2](self.body(x).relu())


class Residual(nn.Module):
    """Blocks with a way around each, of which one is left out at random by the way it is told."""

    def __init__(self, left_out):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.left_out, self.head = left_out, nn.Linear(8, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + self.left_out(lambda x, block=block: block(x).relu(), x)
        return self.head(x)


def skipped(block, x):
    """Leave a block out without a call of it, as LayerDrop does."""
    return block(x) if torch.rand(()) < 0.5 else 0


class Dropped(nn.Module):
    """Leaves out what a block gives by a layer of stochastic depth."""

    def __init__(self, drop):
        super().__init__()
        self.drop = drop

    def forward(self, block, x):
        return self.drop(block(x))


class Variational(nn.Module):
    """An autoencoder that draws what it keeps; its loss may be below 0."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 4), nn.Linear(2, 8)

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(drawn), mean, log_variance


class Recomputed(Heads):
    """Runs its body again in the backward."""

    def forward(self, x):
        body = checkpoint(self.body, x, use_reentrant=False)
        return self.heads[0](body) + self.heads[1](body)


class Words(nn.Module):
    """A model of words whose last weight is that of its embedding."""

    def __init__(self):
        super().__init__()
        self.words, self.body = nn.Embedding(3, 16), nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 3, bias=False)
        self.head.weight = self.words.weight
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, ids):
        return self.head(self.body(self.words(ids))[0])
