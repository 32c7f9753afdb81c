"""The statistics of an array of floats in one pass over it, in machine code compiled by LLVM.

NumPy reads the values five times for the same, and rounds to their own precision. Between two
layers, with the processor's caches full of other things, that takes four times as long.
"""

from collections.abc import Callable
from ctypes import c_double, c_int64, c_void_p
from functools import lru_cache
from math import inf
from typing import Any

import numpy as np

from nnmagic.records.tensor import Statistics
from nnmagic.tensors.machine_code import compiled, for_type, literal

MOST = 1 << 31
"""An array of so many values or more is refused: zeros are counted in 32 bits."""

LEAST_SHARE = 2.0**-13
"""Variance over mean square from which on `mean square - mean ** 2` is exact enough.

The subtraction loses as many bits as the share has zeros in front, at most 13 of a double's 52.
"""

LEAST_SQUARE = 2.0**-664
"""Mean square below which squares may be subnormal doubles, which have lost digits."""


def _stores(**values: str) -> str:
    """Return the instructions that write `Statistics` to `%statistics`, 0 where none is given."""
    return "".join(
        f"""
  %at.{name} = getelementptr double, ptr %statistics, i64 {place}
  store double {values.get(name, "0.0")}, ptr %at.{name}"""
        for place, name in enumerate(Statistics._fields)
    )


SOURCE = f"""
declare double @llvm.sqrt.f64(double)

define i64 @measure_CODE(ptr %values, i64 %size, ptr %statistics) {{
entry:
  %number = uitofp i64 %size to double
  %first = load TYPE, ptr %values
  br label %read
read:
  %center = phi double [0.0, %entry], [%mean, %varied]
  %is.second = phi i1 [false, %entry], [true, %varied]
  br label %loop
loop:
  %index = phi i64 [0, %read], [%index.next, %loop]
  %low = phi TYPE [%first, %read], [%low.next, %loop]
  %high = phi TYPE [%first, %read], [%high.next, %loop]
  %zeros = phi i32 [0, %read], [%zeros.next, %loop]
  %total = phi double [0.0, %read], [%total.next, %loop]
  %squares = phi double [0.0, %read], [%squares.next, %loop]
  %place = getelementptr inbounds TYPE, ptr %values, i64 %index
  %value = load TYPE, ptr %place
  %is.lower = fcmp nnan nsz olt TYPE %value, %low
  %low.next = select nnan nsz i1 %is.lower, TYPE %value, TYPE %low
  %is.higher = fcmp nnan nsz ogt TYPE %value, %high
  %high.next = select nnan nsz i1 %is.higher, TYPE %value, TYPE %high
  %is.zero = fcmp oeq TYPE %value, 0.0
  %one = zext i1 %is.zero to i32
  %zeros.next = add i32 %zeros, %one
  %wide = WIDEN %value to double
  %apart = fsub double %wide, %center
  %total.next = fadd reassoc nsz double %total, %apart
  %square = fmul contract double %apart, %apart
  %squares.next = fadd reassoc nsz contract double %squares, %square
  %index.next = add nuw nsw i64 %index, 1
  %done = icmp eq i64 %index.next, %size
  br i1 %done, label %end, label %loop, !llvm.loop !0
end:
  %distance = fdiv double %total.next, %number
  %mean = fadd double %center, %distance
  %mean.square = fdiv double %squares.next, %number
  %is.finite = fcmp olt double %mean.square, {literal(inf)}
  br i1 %is.finite, label %finite, label %refuse
finite:
  %squared.distance = fmul double %distance, %distance
  %variance = fsub double %mean.square, %squared.distance
  %least = fmul double %mean.square, {literal(LEAST_SHARE)}
  %has.digits = fcmp ogt double %variance, %least
  %is.normal = fcmp ogt double %mean.square, {literal(LEAST_SQUARE)}
  %is.exact = and i1 %has.digits, %is.normal
  %low.wide = WIDEN %low.next to double
  %high.wide = WIDEN %high.next to double
  br i1 %is.exact, label %write, label %inexact
inexact:
  %is.constant = fcmp oeq double %low.wide, %high.wide
  br i1 %is.constant, label %write, label %varied
varied:
  br i1 %is.second, label %refuse, label %read
write:
  %exact.mean = phi double [%mean, %finite], [%low.wide, %inexact]
  %exact.variance = phi double [%variance, %finite], [0.0, %inexact]
  %freedom = fsub double %number, 1.0
  %correction = fdiv double %number, %freedom
  %corrected = fmul double %exact.variance, %correction
  %std = call double @llvm.sqrt.f64(double %corrected)
  %zeros.wide = uitofp i32 %zeros.next to double
  %zero.share = fdiv double %zeros.wide, %number
{_stores(min="%low.wide", max="%high.wide", mean="%exact.mean", std="%std", zeros="%zero.share")}
  ret i64 0
refuse:
  ret i64 1
}}

!0 = distinct !{{!0, !1}}
!1 = !{{!"llvm.loop.vectorize.width", i32 16}}
"""
"""The kernel for one type: TYPE, WIDEN and CODE stand for what `LLVM_TYPES` says of it.

`loop` reads the values, and sums their distances from a center: 0, and where a small spread far
from 0 would lose digits, in a second reading the mean. A NaN or an infinite value makes the squares
NaN or infinite, which is refused. `nnan nsz` lets LLVM compare eight values by one instruction,
`reassoc` lets it add them in any order.
"""

Row = c_double * len(Statistics._fields)
"""Room for the statistics of a tensor."""


def statistics_of_floats(values: np.ndarray) -> Statistics | None:
    """Return the statistics of a contiguous array, None where the kernel refuses it.

    Args:
        values: at least one value; other types than float32 and float64 are refused.
    """
    kernel = kernel_of(values.dtype.char)
    if kernel is None or not values.flags.c_contiguous or values.size >= MOST:
        return None
    row = Row()
    refused = kernel(values.ctypes.data, values.size, row)
    return None if refused else Statistics(*row)


@lru_cache
def kernel_of(code: str) -> Callable[[int | bytes, int, Any], int] | None:
    """Return the kernel for NumPy's type code, `"f"` or `"d"`; None where there is none.

    It takes an address of floats (or `bytes` of them), how many there are, at least one and fewer
    than `MOST`, and a `Row` to fill; it returns 0, or 1 where it refuses and the row is as it was:
    where a value is not finite, or squares over- or underflow a double.
    """
    source = for_type(SOURCE, code)
    if not source:
        return None
    return compiled(source, f"measure_{code}", c_int64, c_void_p, c_int64, c_void_p)
