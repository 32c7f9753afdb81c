"""The line in a terminal that follows a loop while it runs."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from nnmagic.display import units

SECONDS = 0.1
"""How far apart updates of the line are at least."""


class ProgressLine:
    """Shows the iteration at hand and its loss on one line, which it takes away in the end.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._shown = 0
        self._next = time.monotonic() + SECONDS

    def __call__(self, numbers: Callable[[], dict[str, float]], iteration: int) -> None:
        """Show an iteration that is over, unless another one was shown a moment ago."""
        if time.monotonic() < self._next:
            return
        loss = numbers().get("loss")
        text = f"iteration {iteration:,}"
        self._write(text if loss is None else f"{text} · loss {units.numbers(loss)[0]}")
        self._next = time.monotonic() + SECONDS

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            self._write("")
            self.stream.write("\r")
            self.stream.flush()

    def _write(self, text: str) -> None:
        self.stream.write(f"\r{text:{self._shown}}")
        self.stream.flush()
        self._shown = len(text)


def is_terminal() -> bool:
    """Tell whether what is written goes to a terminal."""
    return sys.stdout.isatty()
