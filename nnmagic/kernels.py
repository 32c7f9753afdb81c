"""The numbers of floats in one reading of them, compiled by LLVM for this machine's processor.

NumPy reads the values five times for the same, and rounds to their own precision. Between two
layers, with the processor's caches full of other things, that takes four times as long.
"""

import ctypes
from array import array
from collections.abc import Callable
from functools import lru_cache
from math import inf, isnan
from struct import calcsize, pack
from typing import Any, NamedTuple

import numpy as np

from nnmagic.trace_log import NOTHING_KNOWN, Statistics

KEPT = 2.0**-13
"""A variance that is a smaller share of the mean square is summed again, around the mean."""

SMALLEST = 2.0**-664
"""A smaller mean square may have lost squares; one that overflows is not finite."""

MOST = 1 << 31
"""As many values are too many: zeros and offsets are counted in 32 bits."""

TYPES = {"f": ("float", "fpext float"), "d": ("double", "bitcast double")}
"""By NumPy's letter: LLVM's name of the type, and how it becomes a double."""


def _literal(value: float) -> str:
    """Return a double as LLVM reads it without rounding."""
    return f"0x{pack('>d', value).hex()}"


SUMS = "{double, double, double, double, double}"
"""Low, high, how many are zero, mean and mean square; the last two of the distances from a center.

Where a value is NaN, low and high are anything; where one is not finite, the mean square is not.
"""

SOURCE = f"""
declare double @llvm.sqrt.f64(double)

define internal {SUMS} @sums(ptr %values, i64 %number, double %center) alwaysinline {{
entry:
  %first = load TYPE, ptr %values
  br label %loop
loop:
  %index = phi i64 [0, %entry], [%index.next, %loop]
  %low = phi TYPE [%first, %entry], [%low.next, %loop]
  %high = phi TYPE [%first, %entry], [%high.next, %loop]
  %zeros = phi i32 [0, %entry], [%zeros.next, %loop]
  %total = phi double [0.0, %entry], [%total.next, %loop]
  %squares = phi double [0.0, %entry], [%squares.next, %loop]
  %place = getelementptr inbounds TYPE, ptr %values, i64 %index
  %value = load TYPE, ptr %place
  %lower = fcmp nnan nsz olt TYPE %value, %low
  %low.next = select nnan nsz i1 %lower, TYPE %value, TYPE %low
  %higher = fcmp nnan nsz ogt TYPE %value, %high
  %high.next = select nnan nsz i1 %higher, TYPE %value, TYPE %high
  %is.zero = fcmp oeq TYPE %value, 0.0
  %one = zext i1 %is.zero to i32
  %zeros.next = add i32 %zeros, %one
  %wide = WIDEN %value to double
  %distance = fsub double %wide, %center
  %total.next = fadd reassoc nsz double %total, %distance
  %square = fmul contract double %distance, %distance
  %squares.next = fadd reassoc nsz contract double %squares, %square
  %index.next = add nuw nsw i64 %index, 1
  %done = icmp eq i64 %index.next, %number
  br i1 %done, label %end, label %loop, !llvm.loop !0
end:
  %low.wide = WIDEN %low.next to double
  %high.wide = WIDEN %high.next to double
  %zeros.wide = uitofp i32 %zeros.next to double
  %size = uitofp i64 %number to double
  %mean = fdiv double %total.next, %size
  %mean.square = fdiv double %squares.next, %size
  %sums.0 = insertvalue {SUMS} poison, double %low.wide, 0
  %sums.1 = insertvalue {SUMS} %sums.0, double %high.wide, 1
  %sums.2 = insertvalue {SUMS} %sums.1, double %zeros.wide, 2
  %sums.3 = insertvalue {SUMS} %sums.2, double %mean, 3
  %sums.4 = insertvalue {SUMS} %sums.3, double %mean.square, 4
  ret {SUMS} %sums.4
}}

define i64 @one_LETTER(ptr %values, i64 %number, ptr %numbers) {{
entry:
  %sums = call {SUMS} @sums(ptr %values, i64 %number, double 0.0)
  %low = extractvalue {SUMS} %sums, 0
  %high = extractvalue {SUMS} %sums, 1
  %zeros = extractvalue {SUMS} %sums, 2
  %mean = extractvalue {SUMS} %sums, 3
  %mean.square = extractvalue {SUMS} %sums, 4
  %is.finite = fcmp olt double %mean.square, {_literal(inf)}
  br i1 %is.finite, label %finite, label %refused
finite:
  %is.constant = fcmp oeq double %low, %high
  br i1 %is.constant, label %known, label %varied
varied:
  %squared.mean = fmul double %mean, %mean
  %variance = fsub double %mean.square, %squared.mean
  %least = fmul double %mean.square, {_literal(KEPT)}
  %is.kept = fcmp ogt double %variance, %least
  %is.large = fcmp ogt double %mean.square, {_literal(SMALLEST)}
  %is.exact = and i1 %is.kept, %is.large
  br i1 %is.exact, label %known, label %again
again:
  %rest = call {SUMS} @sums(ptr %values, i64 %number, double %mean)
  %rest.mean = extractvalue {SUMS} %rest, 3
  %rest.square = extractvalue {SUMS} %rest, 4
  %mean.again = fadd double %mean, %rest.mean
  %squared.rest = fmul double %rest.mean, %rest.mean
  %variance.again = fsub double %rest.square, %squared.rest
  %least.again = fmul double %rest.square, {_literal(KEPT)}
  %is.kept.again = fcmp ogt double %variance.again, %least.again
  %is.large.again = fcmp ogt double %rest.square, {_literal(SMALLEST)}
  %is.exact.again = and i1 %is.kept.again, %is.large.again
  br i1 %is.exact.again, label %known, label %refused
known:
  %mean.known = phi double [%low, %finite], [%mean, %varied], [%mean.again, %again]
  %variance.known = phi double [0.0, %finite], [%variance, %varied], [%variance.again, %again]
  %size = uitofp i64 %number to double
  %freedom = fsub double %size, 1.0
  %correction = fdiv double %size, %freedom
  %corrected = fmul double %variance.known, %correction
  %std = call double @llvm.sqrt.f64(double %corrected)
  %share = fdiv double %zeros, %size
  store double %low, ptr %numbers
  %at.1 = getelementptr double, ptr %numbers, i64 1
  store double %high, ptr %at.1
  %at.2 = getelementptr double, ptr %numbers, i64 2
  store double %mean.known, ptr %at.2
  %at.3 = getelementptr double, ptr %numbers, i64 3
  store double %std, ptr %at.3
  %at.4 = getelementptr double, ptr %numbers, i64 4
  store double %share, ptr %at.4
  %at.5 = getelementptr double, ptr %numbers, i64 5
  store <3 x double> zeroinitializer, ptr %at.5, align 8
  ret i64 0
refused:
  ret i64 1
}}

define i64 @one_and_some_LETTER(ptr %values, i64 %number, ptr %numbers, ptr %offsets, i64 %count,
    ptr %some) {{
entry:
  %refused = call i64 @one_LETTER(ptr %values, i64 %number, ptr %numbers)
  br label %loop
loop:
  %index = phi i64 [0, %entry], [%index.next, %loop]
  %offset.place = getelementptr inbounds i32, ptr %offsets, i64 %index
  %offset = load i32, ptr %offset.place
  %place = getelementptr inbounds TYPE, ptr %values, i32 %offset
  %value = load TYPE, ptr %place
  %target = getelementptr inbounds TYPE, ptr %some, i64 %index
  store TYPE %value, ptr %target
  %index.next = add nuw nsw i64 %index, 1
  %done = icmp eq i64 %index.next, %count
  br i1 %done, label %end, label %loop
end:
  ret i64 %refused
}}

define i64 @many_LETTER(ptr %values, ptr %sizes, ptr %rows, i64 %count, ptr %numbers) {{
entry:
  br label %loop
loop:
  %index = phi i64 [0, %entry], [%index.next, %loop]
  %start = phi ptr [%values, %entry], [%start.next, %loop]
  %refused = phi i64 [0, %entry], [%refused.next, %loop]
  %size.place = getelementptr i64, ptr %sizes, i64 %index
  %size = load i64, ptr %size.place
  %row.place = getelementptr i64, ptr %rows, i64 %index
  %row = load i64, ptr %row.place
  %row.start = mul i64 %row, {len(NOTHING_KNOWN)}
  %row.numbers = getelementptr double, ptr %numbers, i64 %row.start
  %refuses = call i64 @one_LETTER(ptr %start, i64 %size, ptr %row.numbers)
  %refused.next = add i64 %refused, %refuses
  %start.next = getelementptr TYPE, ptr %start, i64 %size
  %index.next = add i64 %index, 1
  %done = icmp eq i64 %index.next, %count
  br i1 %done, label %end, label %loop
end:
  ret i64 %refused.next
}}

!0 = distinct !{{!0, !1}}
!1 = !{{!"llvm.loop.vectorize.width", i32 16}}
"""


class Kernel(NamedTuple):
    """Functions in machine code that write `Statistics` of floats of one type.

    Attributes:
        one: takes the address of values, how many there are, and where eight doubles go; returns
            0, or 1 where it refused and wrote nothing: see `numbers_of`.
        one_and_some: takes, besides, the address of the offsets of at least one value, 32 bits
            each, how many those are, and where the values go; these it writes in any case.
        many: takes the address of the values of many tensors, one after the other, those of how
            many each has and of the rows where their numbers go, how many tensors there are, and
            the address of all rows; returns how many it refused.
        engine: holds the code.
    """

    one: Callable[[int, int, Any], int]
    one_and_some: Callable[[int, int, Any, int, int, Any], int]
    many: Callable[[bytes, int, int, int, int], int]
    engine: Any


Row = ctypes.c_double * len(NOTHING_KNOWN)
"""Room for the numbers of a tensor."""

POINTER, LENGTH = ctypes.c_void_p, ctypes.c_int64


def numbers_of(values: np.ndarray) -> Statistics | None:
    """Return the numbers of contiguous values, None where they are to be had in another way.

    Refused are values that are not finite, whose squares over- or underflow a double, or of another
    type than float32 and float64; and all where LLVM cannot be had.

    Args:
        values: at least one.
    """
    kernel = kernel_of(values.dtype.char)
    if kernel is None or not values.flags.c_contiguous or values.size >= MOST:
        return None
    numbers = Row()
    if kernel.one(values.__array_interface__["data"][0], values.size, numbers):
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
        return _compiled(letter) if letter in TYPES else None
    except Exception:  # noqa: BLE001 - whatever is wrong with LLVM, the numbers can be had without
        return None


def _compiled(letter: str) -> Kernel:
    from llvmlite import binding as llvm  # what only loads the extension does not wait for it

    type_name, widen = TYPES[letter]
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    source = SOURCE.replace("TYPE", type_name).replace("WIDEN", widen).replace("LETTER", letter)
    module = llvm.parse_assembly(source)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    one, some, many = (
        ctypes.CFUNCTYPE(LENGTH, *kinds)(engine.get_function_address(f"{name}_{letter}"))
        for name, kinds in (
            ("one", (POINTER, LENGTH, POINTER)),
            ("one_and_some", (POINTER, LENGTH, POINTER, POINTER, LENGTH, POINTER)),
            ("many", (POINTER, POINTER, POINTER, LENGTH, POINTER)),
        )
    )
    return Kernel(one, some, many, engine)
