"""Training programs with one fault each, and the same programs without it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

FEATURES, CLASSES, BATCH = 20, 5, 64


@dataclass(frozen=True)
class Program:
    """A program that trains.

    Attributes:
        run: runs it, with its fault or without.
        rules: the rules of which one names the fault; empty where none can.
    """

    run: Callable[[bool], Any]
    rules: tuple[str, ...]


PROGRAMS: dict[str, Program] = {}


def program(*rules: str) -> Callable[[Callable[[bool], Any]], Callable[[bool], Any]]:
    """Put a function into the table, under its name in words."""

    def put(run: Callable[[bool], Any]) -> Callable[[bool], Any]:
        PROGRAMS[run.__name__.replace("_", " ")] = Program(run, rules)
        return run

    return put


# Data.


def points(*, iterations: int = 12, scale: float = 1.0) -> Iterator[tuple[Any, Any]]:
    """Yield batches of noisy points, float32 (64, 20), and their classes, int64 (64,)."""
    centres = torch.randn(CLASSES, FEATURES) * 1.5
    for _ in range(iterations):
        classes = torch.randint(CLASSES, (BATCH,))
        yield scale * (centres[classes] + torch.randn(BATCH, FEATURES)), classes


def pictures(*, iterations: int = 8) -> Iterator[tuple[Any, Any]]:
    """Yield batches of pictures in 0..1, float32 (32, 1, 12, 12), and their classes."""
    patterns = torch.rand(CLASSES, 1, 12, 12)
    for _ in range(iterations):
        classes = torch.randint(CLASSES, (32,))
        yield (patterns[classes] + 0.2 * torch.randn(32, 1, 12, 12)).clamp(0, 1), classes


# Networks.


def perceptron(*middle: nn.Module, last: nn.Module | None = None) -> nn.Sequential:
    """Return a network for the points, (64, 20) to (64, 5)."""
    tail = [] if last is None else [last]
    first, hidden = nn.Linear(FEATURES, 32), nn.Linear(32, 32)
    return nn.Sequential(
        first, *middle, nn.ReLU(), hidden, nn.ReLU(), nn.Linear(32, CLASSES), *tail
    )


def convolutions() -> nn.Sequential:
    """Return a network for the pictures, (32, 1, 12, 12) to (32, 5)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, CLASSES)),
    )


class EncoderAndHead(nn.Module):
    """An encoder, and a head on what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU())
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder(x))


# The loop.


def train(
    net: nn.Module,
    batches: Any,
    *,
    optimizer: Any = None,
    loss: Any = None,
    clear: bool = True,
    after: Callable[[Any], None] = lambda optimizer: None,
) -> None:
    """Train a network on batches: the loop of every tutorial."""
    optimizer = optimizer or SGD(net.parameters(), 0.05)
    loss = loss or nn.CrossEntropyLoss()
    for x, y in batches:
        if clear:
            optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        after(optimizer)


# The order of a loop.


@program("gradients that are not cleared")
def gradients_not_cleared(faulty):
    train(perceptron(), points(), clear=not faulty)


@program("gradients that are not cleared")
def gradients_not_cleared_by_adam(faulty):
    net = convolutions()
    train(net, pictures(), optimizer=Adam(net.parameters()), clear=not faulty)


@program("a schedule before its optimizer")
def schedule_first(faulty):
    net = perceptron()
    optimizer = SGD(net.parameters(), 0.05)
    schedule = StepLR(optimizer, 5)
    for x, y in points():
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        for each in (schedule, optimizer) if faulty else (optimizer, schedule):
            each.step()


@program("training in eval mode")
def trained_in_eval_mode(faulty):
    net = perceptron(nn.Dropout(0.2)).train(not faulty)
    train(net, points())


@program("training in eval mode")
def eval_mode_after_a_validation(faulty):
    net = perceptron(nn.Dropout(0.2))
    optimizer = SGD(net.parameters(), 0.05)
    for _ in range(2):
        train(net, points(iterations=6), optimizer=optimizer)
        net.eval()
        with torch.no_grad():
            for x, _ in points(iterations=3):
                net(x)
        net.train(not faulty)


@program("validation in train mode")
def validated_in_train_mode(faulty):
    net = perceptron(nn.Dropout(0.2))
    optimizer = SGD(net.parameters(), 0.05)
    for _ in range(2):
        train(net.train(), points(iterations=6), optimizer=optimizer)
        net.train(faulty)
        with torch.no_grad():
            for x, _ in points(iterations=3):
                net(x)


# What the optimizer gets.


@program("parameters that no step changes")
def network_made_after_its_optimizer(faulty):
    net = perceptron()
    optimizer = SGD(net.parameters(), 0.05)
    train(perceptron() if faulty else net, points(), optimizer=optimizer)


@program("parameters that no step changes")
def optimizer_of_the_head(faulty):
    net = EncoderAndHead()
    trained = net.head if faulty else net
    train(net, points(), optimizer=SGD(trained.parameters(), 0.05))


@program("not registered")
def layers_in_a_list(faulty):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(FEATURES, 32), nn.Linear(32, 32)]
            self.layers = layers if faulty else nn.ModuleList(layers)
            self.head = nn.Linear(32, CLASSES)

        def forward(self, x):
            for each in self.layers:
                x = each(x).relu()
            return self.head(x)

    train(Net(), points())


@program("parameters without a gradient")
def output_detached(faulty):
    class Net(EncoderAndHead):
        def forward(self, x):
            hidden = self.encoder(x)
            return self.head(hidden.detach() if faulty else hidden)

    train(Net(), points())


@program("parameters without a gradient")
def encoder_under_no_grad(faulty):
    class Net(EncoderAndHead):
        def forward(self, x):
            with torch.set_grad_enabled(not faulty):
                hidden = self.encoder(x)
            return self.head(hidden)

    train(Net(), points())


@program("parameters without a gradient")
def layer_never_called(faulty):
    class Net(EncoderAndHead):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(32, 32)

        def forward(self, x):
            hidden = self.encoder(x)
            return self.head(hidden if faulty else self.hidden(hidden).relu())

    train(Net(), points())


# Losses.


@program("probabilities into a loss that wants scores")
def softmax_twice(faulty):
    train(perceptron(last=nn.Softmax(1) if faulty else None), points())


@program("scores into a loss that wants log-probabilities")
def softmax_missing(faulty):
    last = None if faulty else nn.LogSoftmax(1)
    train(perceptron(last=last), points(), loss=nn.NLLLoss())


@program("probabilities into a loss that wants their logarithms")
def logarithm_missing(faulty):
    last = nn.Softmax(1) if faulty else nn.LogSoftmax(1)
    train(perceptron(last=last), points(), loss=nn.NLLLoss())


@program("an activation before a loss that wants scores")
def sigmoid_twice(faulty):
    def loss(scores, y):
        return F.binary_cross_entropy_with_logits(scores, F.one_hot(y, CLASSES).float())

    train(perceptron(last=nn.Sigmoid() if faulty else None), points(), loss=loss)


@program("an activation before a loss that wants scores")
def activation_after_the_last_layer(faulty):
    train(perceptron(last=nn.ReLU() if faulty else None), points())


@program("a loss below 0")
def wrong_sign(faulty):
    def loss(scores, y):
        loss = F.cross_entropy(scores, y)
        return -loss if faulty else loss

    train(perceptron(), points(), loss=loss)


@program("a loss below 0")
def targets_out_of_range(faulty):
    """An autoencoder of values in 0..1 whose targets nobody scaled."""
    net = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, FEATURES))

    def loss(scores, _):
        goal = 255 * values if faulty else values
        return F.binary_cross_entropy_with_logits(scores, goal)

    values = torch.rand(BATCH, FEATURES)
    train(net, ((values, None) for _ in range(12)), loss=loss)


@program("each output against each target")
def target_with_one_axis_less(faulty):
    net = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1))

    def loss(output, y):
        return F.mse_loss(output if faulty else output.squeeze(1), y.float())

    train(net, points(), loss=loss, optimizer=SGD(net.parameters(), 0.01))


@program("a loss that is not finite")
def logarithm_of_zero(faulty):
    def loss(scores, y):
        shares = scores.softmax(1)
        likely = shares.gather(1, y[:, None]).clamp(max=1)
        return -(likely.round() if faulty else likely).log().mean()

    train(perceptron(), points(), loss=loss)


# Data.


@program("pictures that were not scaled")
def pictures_not_scaled(faulty):
    scaled = ((x if not faulty else (255 * x).round(), y) for x, y in pictures())
    train(convolutions(), scaled)


@program("a large loss at the start")
def features_not_scaled(faulty):
    train(perceptron(), points(scale=1000.0 if faulty else 1.0))


@program("batches of one class")
def sorted_by_class(faulty):
    batches = list(points(iterations=10))
    x, y = (torch.cat(each) for each in zip(*batches, strict=True))
    order = y.argsort() if faulty else torch.randperm(len(y))
    train(perceptron(), zip(x[order].split(32), y[order].split(32), strict=True))


@program()
def labels_shuffled(faulty):
    train(perceptron(), ((x, y[torch.randperm(len(y))] if faulty else y) for x, y in points()))


@program()
def wrong_augmentation(faulty):
    """Pictures of which the label depends on the side are turned over."""
    train(convolutions(), ((x.flip(3) if faulty else x, y) for x, y in pictures()))


@program()
def unbalanced(faulty):
    kept = ((x, torch.where(torch.rand(len(y)) < 0.9, 0, y) if faulty else y) for x, y in points())
    train(perceptron(), kept)


# Layers and their first values.


@program("a large loss at the start")
def weights_too_large(faulty):
    net = perceptron()
    if faulty:
        for each in net:
            if isinstance(each, nn.Linear):
                nn.init.normal_(each.weight, std=1.0)
    train(net, points())


@program("an output that ignores its input", "parameters without a gradient")
def weights_of_zero(faulty):
    net = perceptron()
    if faulty:
        for each in net.parameters():
            nn.init.constant_(each, 0.01)
            each.data[...] = 0.01 * (each.dim() == 1)
    train(net, points())


@program("dead units")
def units_dead_from_the_start(faulty):
    net = perceptron()
    if faulty:
        nn.init.constant_(net[0].bias, -20.0)
    train(net, points())


@program("exploding gradients", "a loss that is not finite", "dead units")
def units_killed_by_the_learning_rate(faulty):
    net = perceptron()
    train(net, points(iterations=20), optimizer=SGD(net.parameters(), 5.0 if faulty else 0.05))


@program("saturated units")
def units_saturated(faulty):
    net = nn.Sequential(
        *(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh()),
        nn.Linear(32, CLASSES),
    )
    if faulty:
        nn.init.normal_(net[0].weight, std=5.0)
    train(net, points())


@program("vanishing gradients")
def deep_sigmoids(faulty):
    activation = nn.Sigmoid if faulty else nn.ReLU
    hidden = [layer for _ in range(6) for layer in (nn.Linear(32, 32), activation())]
    first = nn.Linear(FEATURES, 32), activation()
    train(nn.Sequential(*first, *hidden, nn.Linear(32, CLASSES)), points())


@program()
def normalisation_missing(faulty):
    """Without its normalisations a deep network learns slowly; nothing is out of bounds."""
    norms = [nn.Identity()] if faulty else [nn.LayerNorm(32)]
    hidden = [layer for _ in range(4) for layer in (nn.Linear(32, 32), *norms, nn.ReLU())]
    train(nn.Sequential(nn.Linear(FEATURES, 32), *hidden, nn.Linear(32, CLASSES)), points())


@program("a bias before a BatchNorm")
def bias_before_a_normalisation(faulty):
    net = nn.Sequential(
        *(nn.Linear(FEATURES, 32, bias=faulty), nn.BatchNorm1d(32), nn.ReLU()),
        nn.Linear(32, CLASSES),
    )
    train(net, points())


@program()
def dropout_too_strong(faulty):
    train(perceptron(nn.Dropout(0.97 if faulty else 0.1)), points())


# Optimizers.


@program("exploding gradients", "a loss that is not finite", "a spike of the loss", "dead units")
def learning_rate_too_high(faulty):
    net = perceptron()
    train(net, points(iterations=20), optimizer=SGD(net.parameters(), 1e3 if faulty else 0.05))


@program("steps that change nothing")
def learning_rate_too_low(faulty):
    net = perceptron()
    optimizer = SGD(net.parameters(), 1e-8 if faulty else 0.05)
    train(net, points(iterations=60), optimizer=optimizer)


@program("gradients below Adam's eps")
def eps_too_large(faulty):
    net = perceptron()
    train(net, points(), optimizer=Adam(net.parameters(), eps=1.0 if faulty else 1e-8))
