"""Training programs whose fault is in how large a step is."""

import torch
from torch.optim import SGD, Adam

from learning.parts import perceptron, points, program, train


@program(
    *("exploding gradients", "a loss that is not finite", "a spike of the loss", "dead units"),
    bug="high learning rate",
)
def learning_rate_too_high(faulty):
    net = perceptron()
    train(net, points(iterations=20), optimizer=SGD(net.parameters(), 1e3 if faulty else 0.05))


@program("steps that change nothing", bug="low learning rate")
def learning_rate_too_low(faulty):
    net = perceptron()
    optimizer = SGD(net.parameters(), 1e-8 if faulty else 0.05)
    train(net, points(iterations=60), optimizer=optimizer)


@program("gradients below Adam's eps")
def eps_too_large(faulty):
    net = perceptron()
    train(net, points(), optimizer=Adam(net.parameters(), eps=1.0 if faulty else 1e-8))


@program(bug="low epsilon of Adam")
def eps_too_small(faulty):
    net = perceptron()
    train(net, points(), optimizer=Adam(net.parameters(), eps=1e-16 if faulty else 1e-8))


@program(bug="over-regularisation")
def weight_decay_too_strong(faulty):
    net = perceptron()
    optimizer = SGD(net.parameters(), 0.05, weight_decay=1.0 if faulty else 1e-4)
    train(net, points(iterations=20), optimizer=optimizer)


@program(bug="missing regularisation")
def weight_decay_missing(faulty):
    net = perceptron()
    optimizer = SGD(net.parameters(), 0.05, weight_decay=0.0 if faulty else 1e-4)
    train(net, points(iterations=20), optimizer=optimizer)


@program("a spike of the loss")
def one_batch_of_noise(faulty):
    net = perceptron()

    def batches():
        for i, (x, y) in enumerate(points(iterations=80)):
            yield (30 * torch.randn_like(x) if faulty and i == 70 else x), y

    train(net, batches())
