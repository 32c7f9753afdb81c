"""Training programs whose fault is in the data."""

import torch

from learning.parts import convolutions, perceptron, pictures, points, program, train


@program("pictures that were not scaled", bug="missing normalisation")
def pictures_not_scaled(faulty):
    scaled = ((x if not faulty else (255 * x).round(), y) for x, y in pictures())
    train(convolutions(), scaled)


@program("a large loss at the start", bug="missing normalisation")
def features_not_scaled(faulty):
    train(perceptron(), points(scale=1000.0 if faulty else 1.0))


@program("batches of one class")
def sorted_by_class(faulty):
    batches = list(points(iterations=10))
    x, y = (torch.cat(each) for each in zip(*batches, strict=True))
    order = y.argsort() if faulty else torch.randperm(len(y))
    train(perceptron(), zip(x[order].split(32), y[order].split(32), strict=True))


@program("pictures that were scaled twice", bug="double normalisation")
def pictures_scaled_twice(faulty):
    read = (((255 * x).round() / 255, y) for x, y in pictures())
    train(convolutions(), ((x / 255 if faulty else x, y) for x, y in read))


@program(bug="wrong labels")
def labels_shuffled(faulty):
    train(perceptron(), ((x, y[torch.randperm(len(y))] if faulty else y) for x, y in points()))


@program(bug="wrong augmentation")
def wrong_augmentation(faulty):
    """Pictures of which the label depends on the side are turned over."""
    train(convolutions(), ((x.flip(3) if faulty else x, y) for x, y in pictures()))


@program(bug="unbalanced data")
def unbalanced(faulty):
    kept = ((x, torch.where(torch.rand(len(y)) < 0.9, 0, y) if faulty else y) for x, y in points())
    train(perceptron(), kept)
