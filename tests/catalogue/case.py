"""One failure: a program, the line that fails, and what mends it."""

from dataclasses import dataclass, replace
from textwrap import indent

GIVEN = """\
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.rand(4, 8)
sequences = torch.rand(4, 5, 8)
pictures = torch.rand(4, 3, 32, 32)
ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
y = torch.tensor([0, 1, 2, 0])
loss_fn = nn.CrossEntropyLoss()
"""
"""What every program begins with."""

CLASS = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
{layers}
    def forward(self, {arguments}):
{forward}
net = Net()
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A failure.

    Attributes:
        title: what is wrong, as a reader would look for it.
        line: what is typed.
        setup: what makes the network and its input.
        layers: in place of that, the lines that make the layers of a class `Net`.
        forward: the lines of its forward.
        arguments: what its forward takes besides `self`.
        remedy: what to do, in words.
        mend: pairs of texts: what to put in place of what.
        shows: for what raises nothing, a part of the line of the display that tells it.
    """

    title: str
    line: str = "%nntrace net(x)"
    setup: str = ""
    layers: str = ""
    forward: str = ""
    arguments: str = "x"
    remedy: str
    mend: tuple[tuple[str, str], ...] = ()
    shows: str = ""

    @property
    def program(self) -> str:
        """The program, without its last line."""
        if not self.forward:
            return self.setup
        made = CLASS.format(
            layers=indent(self.layers, " " * 8),
            arguments=self.arguments,
            forward=indent(self.forward, " " * 8),
        )
        return f"{made}{self.setup}"

    @property
    def mended(self) -> tuple[str, str]:
        """The program and the line, mended."""
        program, line = self.program, self.line
        for old, new in self.mend:
            assert old in program or old in line, (self.title, old)
            program, line = program.replace(old, new), line.replace(old, new)
        return program, line

    @property
    def as_mended(self) -> "Case":
        """The same case with its remedy."""
        program, line = self.mended
        return replace(self, setup=program, line=line, layers="", forward="", mend=())

    @property
    def shown(self) -> list[str]:
        """The lines of code that the page shows."""
        if not self.forward:
            return [*self.setup.strip().splitlines(), *self.line.splitlines()]
        return [
            *self.layers.strip().splitlines(),
            f"def forward(self, {self.arguments}):",
            *indent(self.forward.strip(), "    ").splitlines(),
            *self.setup.strip().splitlines(),
            *self.line.splitlines(),
        ]
