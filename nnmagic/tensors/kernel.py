"""The numbers of floats in one reading of them, compiled by LLVM for this machine's processor.

NumPy reads the values five times for the same, and rounds to their own precision. Between two
layers, with the processor's caches full of other things, that takes four times as long.

All is summed in doubles. Only float32 that come by the hundred are first summed in float32, a few
at a time, which takes half as long; where that may cost digits, they are read again. What is large
is shared among the threads with which torch has just computed it.
"""

import ctypes
import os
from array import array
from collections.abc import Callable
from functools import lru_cache
from math import isnan
from struct import calcsize
from typing import Any, NamedTuple

import numpy as np
import torch

from nnmagic.records.tensor import NOTHING_KNOWN, Statistics
from nnmagic.tensors.kernel_ir import TYPES, source_of

MOST = 1 << 31
"""As many values are too many: zeros and offsets are counted in 32 bits."""


class Kernel(NamedTuple):
    """Functions in machine code that write `Statistics` of floats of one type.

    Attributes:
        one: takes the address of values, how many there are, where eight doubles go, and how many
            threads may read; returns 0, or 1 where it refused and wrote nothing: see `numbers_of`.
        one_and_some: takes, before the last, the address of the offsets of at least one value, 32
            bits each, how many those are, and where the values go; these it writes in any case.
        many: takes the address of the values of many tensors, one after the other, those of how
            many each has and of the rows where their numbers go, how many tensors there are, and
            the address of all rows; returns how many it refused.
        engine: holds the code.
    """

    one: Callable[[int, int, Any, int], int]
    one_and_some: Callable[[int, int, int, int, int, Any, int], int]
    many: Callable[[bytes, int, int, int, int], int]
    engine: Any


Row = ctypes.c_double * len(NOTHING_KNOWN)
"""Room for the numbers of a tensor."""

POINTER, LENGTH, THREADS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32

OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
"""What GNU's and LLVM's OpenMP have in common."""

PROCESS = os.getpid()
"""Which process has the threads."""


def readers() -> int:
    """Return how many threads may read: torch's, which a process that was forked does not have."""
    return torch.get_num_threads() if os.getpid() == PROCESS else 1


def numbers_of(values: np.ndarray, threads: int = 1) -> Statistics | None:
    """Return the numbers of contiguous values, None where they are to be had in another way.

    Refused are values that are not finite, whose squares over- or underflow a double, or of another
    type than float32 and float64; and all where LLVM cannot be had.

    Args:
        values: at least one.
        threads: how many threads may read them.
    """
    kernel = kernel_of(values.dtype.char)
    if kernel is None or not values.flags.c_contiguous or values.size >= MOST:
        return None
    numbers = Row()
    if kernel.one(values.__array_interface__["data"][0], values.size, numbers, threads):
        return None
    return Statistics(*numbers)


class Batch:
    """Small tensors of one type that wait to be measured together.

    Attributes:
        letter: NumPy's of the type.
        bytes: how many bytes wait.
    """

    __slots__ = ("_waiting", "bytes", "letter")

    def __init__(self, letter: str) -> None:
        self.letter = letter
        self.clear()

    def clear(self) -> None:
        """Let go of all that waits."""
        self.bytes = 0
        self._waiting: list[tuple[int, bytes]] = []

    def add(self, row: int, values: bytes) -> int:
        """Let a tensor of that number wait, of at least one value; return how many bytes do."""
        self._waiting.append((row, values))
        self.bytes += len(values)
        return self.bytes

    def measure(self, numbers: array) -> dict[int, bytes]:
        """Write the numbers of all that wait into the column of all; return those refused.

        Args:
            numbers: doubles, those of one tensor after those of the other, NaN where they go.
        """
        waited = self._waiting
        self.clear()
        kernel = kernel_of(self.letter)
        if not waited or kernel is None:
            return dict(waited)
        itemsize = calcsize(self.letter)
        rows = array("q", [row for row, _ in waited])
        sizes = array("q", [len(values) // itemsize for _, values in waited])
        refused = kernel.many(
            b"".join([values for _, values in waited]),
            sizes.buffer_info()[0],
            rows.buffer_info()[0],
            len(rows),
            numbers.buffer_info()[0],
        )
        if not refused:
            return {}
        width = len(NOTHING_KNOWN)
        return {row: values for row, values in waited if isnan(numbers[row * width])}


@lru_cache
def kernel_of(letter: str) -> Kernel | None:
    """Return the functions for a type by NumPy's letter, None where they cannot be had."""
    try:
        return compiled(letter) if letter in TYPES else None
    except Exception:  # noqa: BLE001 - whatever is wrong with LLVM, the numbers can be had without
        return None


def compiled(letter: str, *, in_lanes: bool = True, together: bool = True) -> Kernel:
    """Return the functions for a type.

    Args:
        letter: NumPy's of the type.
        in_lanes: whether float32 are first summed as float32.
        together: whether several threads share what is large, where torch's are OpenMP's: those
            that have just computed a layer together still hold its values, and wait for more.
    """
    from llvmlite import binding as llvm  # what only loads the extension does not wait for it

    pool = _openmp() if together else {}
    for name, address in pool.items():
        llvm.add_symbol(name, address)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    module = llvm.parse_assembly(source_of(letter, in_lanes=in_lanes, together=bool(pool)))
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    one, some, many = (
        ctypes.CFUNCTYPE(LENGTH, *kinds)(engine.get_function_address(f"{name}_{letter}"))
        for name, kinds in (
            ("one", (POINTER, LENGTH, POINTER, THREADS)),
            ("one_and_some", (POINTER, LENGTH, POINTER, POINTER, LENGTH, POINTER, THREADS)),
            ("many", (POINTER, POINTER, POINTER, LENGTH, POINTER)),
        )
    )
    return Kernel(one, some, many, engine)


def _openmp() -> dict[str, int]:
    """Return the addresses of the functions of OpenMP that torch has loaded, none where it has not.

    Those are in the process's own namespace on Linux.
    """
    try:
        process = ctypes.CDLL(None)
        return {name: ctypes.cast(getattr(process, name), POINTER).value or 0 for name in OPENMP}
    except (AttributeError, OSError, TypeError):
        return {}
