"""Training programs without a fault, which rules read literally would accuse."""

import copy

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR
from torch.optim.swa_utils import AveragedModel
from torchvision.ops import StochasticDepth

from learning.healthy_networks import (
    REAL,
    Averaged,
    Dropped,
    Experts,
    Heads,
    OneHead,
    Recomputed,
    Residual,
    Routed,
    Variational,
    Words,
    X,
    Y,
    network,
    skipped,
)


def train(net, optimizer=None, *, iterations=4, sign=1.0, clear=True, backwards=1):
    optimizer = optimizer or SGD(net.parameters(), 0.1)
    for _ in range(iterations):
        if clear:
            optimizer.zero_grad()
        for _ in range(backwards):
            loss = F.cross_entropy(net(X), Y) / backwards
            (loss if sign > 0 else -loss).backward()
        optimizer.step()
    return optimizer


def scheduled(order):
    net = network()
    optimizer = SGD(net.parameters(), 0.1)
    scheduler = StepLR(optimizer, 1)
    for _ in range(3):
        for what in order:
            if what == "backward":
                optimizer.zero_grad()
                F.cross_entropy(net(X), Y).backward()
            else:
                (optimizer if what == "step" else scheduler).step()


def validated(*, training, once=False):
    net = network(dropout=True)
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(2):
        net.train()
        train(net, optimizer)
        net.train(training)
        with torch.no_grad():
            for _ in range(1 if once else 3):
                net(X)


def gan(*, minimax=False):
    generator, critic = nn.Linear(2, 4), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    generators, critics = Adam(generator.parameters(), 1e-3), Adam(critic.parameters(), 1e-3)
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    bce = nn.BCEWithLogitsLoss()
    for _ in range(4):
        fake = generator(torch.randn(16, 2))
        critics.zero_grad()
        (bce(critic(REAL), ones) + bce(critic(fake.detach()), zeros)).backward()
        critics.step()
        generators.zero_grad()
        loss = -bce(critic(fake), zeros) if minimax else bce(critic(fake), ones)
        loss.backward()
        generators.step()


def average(*, updates=True):
    net = Averaged()
    optimizer = SGD(net.online.parameters(), 0.01)
    optimizer.add_param_group({"params": net.predictor.parameters()})
    for _ in range(4):
        optimizer.zero_grad()
        net(X).backward()
        optimizer.step()
        if updates:
            net.average()


def teacher():
    net, wise = network(dropout=True), network(dropout=True)
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(4):
        with torch.no_grad():
            goal = wise(X)
        optimizer.zero_grad()
        F.mse_loss(net(X), goal).backward()
        optimizer.step()


def heads():
    net = Heads()
    optimizer = SGD(net.parameters(), 0.1)
    for i in range(4):
        optimizer.zero_grad()
        F.cross_entropy(net(X)[i % 2], Y).backward()
        optimizer.step()


def averaged_weights():
    net = network()
    average, optimizer = AveragedModel(net), SGD(net.parameters(), 0.1)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()
        optimizer.step()
        average.update_parameters(net)
    average.eval()
    with torch.no_grad():
        average(X)


def values():
    """Learn values against a copy of the network that is brought up to date now and then."""
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    target, optimizer = copy.deepcopy(net), Adam(net.parameters(), 1e-3)
    for i in range(8):
        with torch.no_grad():
            goal = torch.rand(64) + 0.9 * target(X).max(1).values
        loss = F.smooth_l1_loss(net(X).gather(1, Y[:, None]).squeeze(1), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 4 == 3:
            target.load_state_dict(net.state_dict())


def wasserstein():
    """A critic that makes several steps for each of the generator's, its weights clipped."""
    generator, critic = nn.Linear(2, 4), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    generators = torch.optim.RMSprop(generator.parameters(), 1e-3)
    critics = torch.optim.RMSprop(critic.parameters(), 1e-3)
    for _ in range(3):
        for _ in range(3):
            critics.zero_grad()
            fake = generator(torch.randn(16, 2)).detach()
            (critic(fake).mean() - critic(REAL).mean()).backward()
            critics.step()
            with torch.no_grad():
                for each in critic.parameters():
                    each.clamp_(-0.1, 0.1)
        generators.zero_grad()
        (-critic(generator(torch.randn(16, 2))).mean()).backward()
        generators.step()


def contrastive():
    """Pairs of two views, either read as the classes of the other, as CLIP does."""
    one, two = network(), network()
    optimizer = Adam([*one.parameters(), *two.parameters()], 1e-3)
    pairs = torch.arange(64)
    for _ in range(4):
        optimizer.zero_grad()
        left, right = (F.normalize(net(X + 0.1 * torch.randn(64, 8))) for net in (one, two))
        likeness = 5.0 * left @ right.T
        (F.cross_entropy(likeness, pairs) + F.cross_entropy(likeness.T, pairs)).backward()
        optimizer.step()


def distillation():
    net, wise = network(), network().eval().requires_grad_(False)
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(4):
        goal = (wise(X) / 2).softmax(1)
        optimizer.zero_grad()
        F.kl_div((net(X) / 2).log_softmax(1), goal, reduction="batchmean").backward()
        optimizer.step()


def variational():
    net = Variational()
    optimizer = Adam(net.parameters(), 1e-2)
    for _ in range(4):
        again, mean, log_variance = net(X)
        spread = (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean() / 2
        optimizer.zero_grad()
        (F.mse_loss(again, X) - spread).backward()
        optimizer.step()


def words():
    net, ids = Words(), torch.randint(3, (16, 9))
    optimizer = Adam(net.parameters(), 1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(net(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()


def lbfgs(**options):
    net = network()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4, **options)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)


def cleared_in_place():
    net = network()
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(4):
        F.cross_entropy(net(X), Y).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def by_hand():
    net = network()
    for _ in range(3):
        F.cross_entropy(net(X), Y).backward()
        with torch.no_grad():
            for each in net.parameters():
                each -= 0.1 * each.grad
                each.grad = None


def scaled(*, overflows):
    net = network()
    optimizer, scaler = SGD(net.parameters(), 0.1), torch.amp.GradScaler("cpu")
    scheduler = StepLR(optimizer, 1)
    for i in range(4):
        optimizer.zero_grad()
        scores = net(X)
        if overflows and i == 0:
            scores.register_hook(lambda gradient: gradient * float("inf"))
        loss = F.cross_entropy(scores, Y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()


def reinforce():
    net = network()
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (F.cross_entropy(net(X), Y, reduction="none") * torch.randn(64).sub(9)).mean().backward()
        optimizer.step()


def sharpness_aware():
    net = network(norm=True)
    optimizer = SGD(net.parameters(), 0.1)
    for _ in range(3):
        F.cross_entropy(net(X), Y).backward()
        with torch.no_grad():
            moves = [0.05 * each.grad for each in net.parameters()]
            for each, move in zip(net.parameters(), moves, strict=True):
                each += move
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()
        with torch.no_grad():
            for each, move in zip(net.parameters(), moves, strict=True):
                each -= move
        optimizer.step()
        optimizer.zero_grad()


HEALTHY = {
    "a plain loop": lambda: train(network(norm=True)),
    "accumulation": lambda: train(network(), backwards=4),
    "gradients cleared in place": cleared_in_place,
    "a GAN": gan,
    "a GAN by its first recipe": lambda: gan(minimax=True),
    "an averaged copy": average,
    "a target that waits": lambda: average(updates=False),
    "a teacher": teacher,
    "weights averaged by torch": averaged_weights,
    "values against a copy of the network": values,
    "a GAN with a critic that is clipped": wasserstein,
    "experts": lambda: train(Experts()),
    "experts behind a router": lambda: train(Routed()),
    "heads in turn": heads,
    "heads of which one runs": lambda: train(OneHead()),
    "stochastic depth": lambda: train(Residual(Dropped(StochasticDepth(0.5, "row")))),
    "stochastic depth of whole batches": lambda: train(
        Residual(Dropped(StochasticDepth(0.5, "batch")))
    ),
    "drop path": lambda: train(Residual(Dropped(DropPath(0.5)))),
    "layers left out": lambda: train(Residual(skipped), iterations=8),
    "pairs of two views": contrastive,
    "distillation": distillation,
    "a variational autoencoder": variational,
    "a body that is run again": lambda: train(Recomputed()),
    "a model of words": words,
    "LBFGS": lbfgs,
    "LBFGS with a search along the line": lambda: lbfgs(line_search_fn="strong_wolfe"),
    "steps by hand": by_hand,
    "a validation": lambda: validated(training=False),
    "one look at a batch": lambda: validated(training=True, once=True),
    "a schedule": lambda: scheduled(["backward", "step", "schedule"]),
    "a GradScaler": lambda: scaled(overflows=False),
    "a GradScaler that leaves a step out": lambda: scaled(overflows=True),
    "sharpness-aware steps": sharpness_aware,
    "REINFORCE": reinforce,
    "eval mode without a layer that minds": lambda: train(network().eval()),
    "a copy of the network": lambda: train(copy.deepcopy(network(norm=True))),
}
