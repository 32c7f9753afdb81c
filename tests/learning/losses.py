"""Training programs whose fault is in the loss, or in what it gets."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

from learning.parts import BATCH, CLASSES, FEATURES, perceptron, points, program, train


@program("probabilities into a loss that wants scores", bug="redundant softmax")
def softmax_twice(faulty):
    train(perceptron(last=nn.Softmax(1) if faulty else None), points())


@program("scores into a loss that wants log-probabilities", bug="missing softmax")
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


@program("an activation before a loss that wants scores", bug="wrong activation")
def activation_after_the_last_layer(faulty):
    train(perceptron(last=nn.ReLU() if faulty else None), points())


@program("a softmax over the batch", bug="wrong softmax implementation")
def softmax_over_the_batch(faulty):
    last = nn.LogSoftmax(0 if faulty else 1)
    train(perceptron(last=last), points(), loss=nn.NLLLoss())


@program("a loss below 0", bug="flipped sign")
def wrong_sign(faulty):
    def loss(scores, y):
        loss = F.cross_entropy(scores, y)
        return -loss if faulty else loss

    train(perceptron(), points(), loss=loss)


@program("a loss below 0", bug="wrong loss selection")
def targets_out_of_range(faulty):
    """An autoencoder of values in 0..1 whose targets nobody scaled."""
    net = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, FEATURES))

    def loss(scores, _):
        goal = 255 * values if faulty else values
        return F.binary_cross_entropy_with_logits(scores, goal)

    values = torch.rand(BATCH, FEATURES)
    train(net, ((values, None) for _ in range(12)), loss=loss)


@program("each output against each target", bug="wrong loss function 2")
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


@program(bug="wrong loss selection")
def squared_error_for_classes(faulty):
    def loss(scores, y):
        if faulty:
            return F.mse_loss(scores.softmax(1), F.one_hot(y, CLASSES).float())
        return F.cross_entropy(scores, y)

    train(perceptron(), points(), loss=loss)


@program(
    *("a large loss at the start", "exploding gradients", "a loss that is not finite"),
    bug="wrong loss function",
)
def sum_for_mean(faulty):
    train(perceptron(), points(), loss=nn.CrossEntropyLoss(reduction="sum" if faulty else "mean"))


@program("exploding gradients", "a loss that is not finite", bug="over-scaled outputs")
def targets_not_scaled(faulty):
    net = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 1))

    def loss(output, y):
        return F.mse_loss(output.squeeze(1), (1000.0 if faulty else 1.0) * y)

    train(net, points(iterations=20), loss=loss, optimizer=SGD(net.parameters(), 0.01))
