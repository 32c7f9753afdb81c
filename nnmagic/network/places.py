"""The places in the code from which the layers of a run are called."""

import linecache
import os
import re
import sys
from collections.abc import Container, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, NamedTuple

import torch
from torch import nn

from nnmagic import tutorial
from nnmagic.display.units import printable
from nnmagic.network.calls import OBSERVERS

TORCH_FOLDER = str(Path(torch.__file__).parent) + os.sep
OWN_FOLDER = str(Path(__file__).parent.parent) + os.sep
STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
NOTEBOOKS = re.compile(r"[/\\\\](IPython|ipykernel|ipywidgets|traitlets|comm)[/\\\\]")
"""What runs the magics and the widget's requests."""

LONGEST_LINE = 120
"""How much of a line of code is quoted."""

INSTALLED = re.compile(r"[/\\\\](site|dist)-packages[/\\\\]|^<frozen ")
"""The files of packages that the user did not write."""

LONGEST_SOURCE = 40
"""How much of a call's source a label shows."""


def calling_line(frame: FrameType | None = None) -> tuple[str, int]:
    """Return the path and line of the code that called the layer at hand, torch's own left out.

    A call that a magic made itself has no place, which is ``("", 0)``.

    Args:
        frame: where to begin; None is the caller's.
    """
    frame = frame or sys._getframe(1)
    while frame is not None and is_no_place(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or _is_a_notebooks_own(frame.f_code.co_filename):
        return "", 0
    return frame.f_code.co_filename, frame.f_lineno


@lru_cache
def _is_a_notebooks_own(path: str) -> bool:
    return bool(NOTEBOOKS.search(path))


@lru_cache
def is_no_place(path: str) -> bool:
    """Tell whether a file is torch's, the standard library's or nnmagic's own."""
    if path.startswith(OWN_FOLDER):
        return path != tutorial.__file__
    if path.startswith(TORCH_FOLDER):
        return True
    return path.startswith(STANDARD_LIBRARY) and "site-packages" not in path


def place_text(path: str, line: int) -> str:
    """Return how a place in the code is shown: `model.py:12`, a notebook's by its source line.

    With its number where the cell has that line more than once.
    """
    if not path:
        return ""
    if _is_file(path):
        return f"{os.path.basename(path)}:{line}"
    lines = [each.strip() for each in linecache.getlines(path)]
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    if not source:
        return ""
    return f"“{source}” (line {line})" if lines.count(source) > 1 else f"“{source}”"


def raised_at(error: BaseException) -> TracebackType | None:
    """Return the innermost step of an exception's traceback that is in the user's code."""
    step, innermost = error.__traceback__, None
    while step is not None:
        if not is_no_place(step.tb_frame.f_code.co_filename):
            innermost = step
        step = step.tb_next
    return innermost


def raising_line(error: BaseException) -> str:
    """Return the innermost line of the user's code that an exception passed through.

    With its place: `“if x.sum() > 0:” (model.py:12)`; `""` where only torch's own code ran.
    """
    innermost = raised_at(error)
    if innermost is None:
        return ""
    path, line = innermost.tb_frame.f_code.co_filename, innermost.tb_lineno
    source = printable(linecache.getline(path, line).strip()[:LONGEST_LINE])
    place = f"{os.path.basename(path)}:{line}"
    if not source:
        return place
    return f"“{source}” ({place})" if _is_file(path) else f"“{source}”"


@lru_cache
def _is_file(path: str) -> bool:
    """Tell whether code stands in a file, and not in a cell of a notebook."""
    return os.path.exists(path) and "ipykernel" not in path


@lru_cache(maxsize=1024)
def is_users_own(path: str) -> bool:
    """Tell whether a file is the user's: a cell, a script, a module that is not installed."""
    return not (is_no_place(path) or INSTALLED.search(path))


class Expression(NamedTuple):
    """A call expression in the user's code.

    Attributes:
        place: its line, as it is shown.
        source: its first line as it was typed, shortened; empty where that is not known.
        position: its file, its function, and the lines and columns where it begins and ends.
        line: the number of its first line.
    """

    place: str
    source: str
    position: tuple[Any, ...]
    line: int


NOWHERE = Expression("", "", (), 0)
"""In place of an expression where no code of the user's makes a call."""


@lru_cache(maxsize=1024)
def expression_at(code: CodeType, path: str, instruction: int) -> Expression:
    """Return the call expression that an instruction belongs to.

    Args:
        code: the code.
        path: its file, since equal code may stand in several.
        instruction: the instruction, as a frame counts.
    """
    positions = next(islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    line, end_line, column, end_column = positions
    line = code.co_firstlineno if line is None else line
    if end_line is None or column is None or end_column is None:  # with -X no_debug_ranges
        known = path, code.co_qualname, line, instruction
        return Expression(place_text(path, line), "", known, line)
    text = linecache.getline(path, line).encode()[column : end_column if end_line == line else None]
    source = printable(" ".join(text.decode(errors="replace").split()))
    if end_line > line or len(source) > LONGEST_SOURCE:
        source = f"{source[:LONGEST_SOURCE]}…"
    position = path, code.co_qualname, line, end_line, column, end_column
    return Expression(place_text(path, line), source, position, line)


def outer_frames(
    frame: FrameType | None, inside: Container[int] | None
) -> tuple[FrameType | None, FrameType | None]:
    """Return the innermost frame of the user's code, and the outermost one of what it called there.

    Where all code is of packages, as that of an installed program, the innermost of theirs.

    Args:
        frame: where to begin.
        inside: the code, by its `id`, that counts as called, though it be the user's own; None
            counts all code of packages other than torch.
    """
    called = installed = None
    while frame is not None:
        code = frame.f_code
        path = code.co_filename
        if inside is not None and id(code) in inside:
            called, installed = frame, None
        elif is_users_own(path):
            return frame, called
        elif _is_a_notebooks_own(path):
            return None, called
        elif not is_no_place(path):
            installed = installed or frame
            if inside is None:
                called = frame
        frame = frame.f_back
    return installed, called


def methods_of(modules: Iterable[nn.Module]) -> dict[int, CodeType]:
    """Return the code of all methods of some modules, and what is nested in it, by its `id`."""
    kinds = dict.fromkeys(kind for module in modules for kind in type(module).__mro__)
    own = (kind for kind in kinds if kind not in (nn.Module, object))
    values = (value for kind in own for value in vars(kind).values())
    return {id(code): code for value in values for code in _codes(value)}


def _codes(value: Any) -> Iterator[CodeType]:
    """Yield the code of a method, below what decorates it."""
    if type(value) in (staticmethod, classmethod):
        value = value.__func__
    elif type(value) is property:
        value = value.fget
    while type(value) is FunctionType and "__wrapped__" in vars(value):
        value = vars(value)["__wrapped__"]
    pending = [value.__code__] if type(value) is FunctionType else []
    while pending:
        code = pending.pop()
        yield code
        pending += [each for each in code.co_consts if type(each) is CodeType]


TORCHS_LAYERS = TORCH_FOLDER + "nn/modules"


class CallingPlaces:
    """Finds the line that called the layer at hand, each line of code once.

    Args:
        texts: the places of a log, which grow.
    """

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self._numbers: dict[tuple[str, int], int] = {}
        self._by_instruction: dict[tuple[int, int], tuple[Any, int | None]] = {}

    def __call__(self, parents: int | None) -> int:
        """Return the number of the place that calls the layer at hand.

        Args:
            parents: the place of the call around it; that is the place too where a layer of torch's
                own, such as a Sequential, makes the call.
        """
        frame: Any = sys._getframe(3)  # at most: the recorder, the observer, the layer's call
        while frame.f_code is not OBSERVERS.code:
            frame = frame.f_back
        frame = frame.f_back
        code = frame.f_code
        key = id(code), frame.f_lasti
        entry = self._by_instruction.get(key)
        if entry is None:
            inside_torch = code.co_filename.startswith(TORCHS_LAYERS)
            if not inside_torch and is_no_place(code.co_filename):
                return self._found(frame)  # such code is called from many places
            entry = self._by_instruction[key] = code, None if inside_torch else self._found(frame)
        place = entry[1]
        if place is None:
            place = self._found(frame) if parents is None else parents
        return place

    def index(self, path: str, line: int) -> int:
        """Return the number of a line of code, a new one at the first sight."""
        index = self._numbers.setdefault((path, line), len(self.texts))
        if index == len(self.texts):
            self.texts.append(place_text(path, line))
        return index

    def _found(self, frame: FrameType) -> int:
        return self.index(*calling_line(frame))
