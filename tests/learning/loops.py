"""Training programs whose fault is in the loop, or in what the optimizer gets."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from learning.parts import (
    CLASSES,
    FEATURES,
    EncoderAndHead,
    convolutions,
    perceptron,
    pictures,
    points,
    program,
    train,
)

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


@program("parameters without a gradient")
def output_not_used(faulty):
    class Net(EncoderAndHead):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(32, 32)

        def forward(self, x):
            hidden = self.encoder(x)
            better = self.hidden(hidden).relu()
            return self.head(hidden if faulty else better)

    train(Net(), points())


@program("frozen parameters")
def encoder_frozen(faulty):
    net = EncoderAndHead()
    net.encoder.requires_grad_(not faulty)
    train(net, points())


@program("not registered")
def layer_made_in_each_forward(faulty):
    class Net(EncoderAndHead):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(32, 32)

        def forward(self, x):
            hidden = nn.Linear(32, 32) if faulty else self.hidden
            return self.head(hidden(self.encoder(x)).relu())

    train(Net(), points())


@program("not registered")
def parameter_that_became_a_tensor(faulty):
    class Net(EncoderAndHead):
        def __init__(self):
            super().__init__()
            single, double = (torch.ones(32, dtype=each) for each in (None, torch.float64))
            self.scale = nn.Parameter(double).float() if faulty else nn.Parameter(single)

        def forward(self, x):
            return self.head(self.scale * self.encoder(x))

    train(Net(), points())
