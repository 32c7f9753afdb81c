"""All training programs with one fault each, and the same programs without it."""

from learning import datasets, layers, loops, losses, optimizers
from learning.parts import BUGS, PROGRAMS

__all__ = ["BUGS", "PROGRAMS", "datasets", "layers", "loops", "losses", "optimizers"]
