"""Training programs whose fault is in the layers, or in the values that they begin with."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

from learning.parts import (
    CLASSES,
    FEATURES,
    convolutions,
    perceptron,
    pictures,
    points,
    program,
    train,
)


@program("a large loss at the start", bug="wrong initialisation")
def weights_too_large(faulty):
    net = perceptron()
    if faulty:
        for each in net:
            if isinstance(each, nn.Linear):
                nn.init.normal_(each.weight, std=1.0)
    train(net, points())


@program("units that are all the same", bug="wrong initialisation")
def weights_of_one_value(faulty):
    net = perceptron()
    if faulty:
        for each in net.parameters():
            nn.init.constant_(each, 0.05)
    train(net, points())


@program(
    *("an output that ignores its input", "parameters without a gradient"),
    bug="wrong initialisation",
)
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


@program("vanishing gradients", bug="wrong activation")
def deep_sigmoids(faulty):
    activation = nn.Sigmoid if faulty else nn.ReLU
    hidden = [layer for _ in range(6) for layer in (nn.Linear(32, 32), activation())]
    first = nn.Linear(FEATURES, 32), activation()
    train(nn.Sequential(*first, *hidden, nn.Linear(32, CLASSES)), points())


@program(bug="missing batch normalisation")
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


@program(bug="over-regularisation")
def dropout_too_strong(faulty):
    train(perceptron(nn.Dropout(0.97 if faulty else 0.1)), points())


@program("running statistics that never change", bug="missing batch normalisation")
def statistics_never_updated(faulty):
    """A BatchNorm that normalises while it trains, and does nothing in eval mode."""
    net = convolutions()
    net[1].momentum = 0.0 if faulty else 0.1
    train(net, pictures())
    net.eval()
    with torch.no_grad():
        for x, _ in pictures(iterations=3):
            net(x)


@program(bug="wrong activation")
def softmax_between_layers(faulty):
    train(perceptron(nn.Softmax(1) if faulty else nn.Identity()), points())


@program("an output that ignores its input", bug="wrong activation")
def softmax_of_one_value(faulty):
    last = nn.Softmax(1) if faulty else nn.Sigmoid()
    net = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1), last)

    def loss(output, y):
        return F.binary_cross_entropy(output.squeeze(1), (y > 2).float())

    train(net, points(), loss=loss)
