"""How far two arrays of floats lie apart, in one pass over both, in machine code."""

from collections.abc import Callable
from ctypes import c_double, c_int64, c_void_p
from functools import lru_cache
from math import inf, isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np

from nnmagic.tensors.machine_code import compiled, for_type, literal

LEAST_SQUARES = 2.0**-900
"""Below it a sum of squares may have lost what is no normal double."""

SOURCE = """
declare double @llvm.fabs.f64(double)

define i64 @apart_CODE(ptr %a, ptr %b, i64 %size, ptr %sums) {
entry:
  br label %chunk
chunk:
  %start = phi i64 [0, %entry], [%stop, %look]
  %gap = phi double [0.0, %entry], [%gap.next, %look]
  %length = phi double [0.0, %entry], [%length.next, %look]
  %other = phi double [0.0, %entry], [%other.next, %look]
  %largest = phi double [-1.0, %entry], [%largest.next, %look]
  %at = phi i64 [0, %entry], [%at.next, %look]
  %rest = sub i64 %size, %start
  %is.last = icmp ule i64 %rest, 4096
  %count = select i1 %is.last, i64 %rest, i64 4096
  %stop = add i64 %start, %count
  br label %loop
loop:
  %index = phi i64 [%start, %chunk], [%index.next, %loop]
  %g = phi double [%gap, %chunk], [%gap.next, %loop]
  %l = phi double [%length, %chunk], [%length.next, %loop]
  %o = phi double [%other, %chunk], [%other.next, %loop]
  %most = phi double [0.0, %chunk], [%most.next, %loop]
  %place.a = getelementptr inbounds TYPE, ptr %a, i64 %index
  %place.b = getelementptr inbounds TYPE, ptr %b, i64 %index
  %narrow.a = load TYPE, ptr %place.a
  %narrow.b = load TYPE, ptr %place.b
  %x = WIDEN %narrow.a to double
  %y = WIDEN %narrow.b to double
  %apart = fsub double %x, %y
  %apart.squared = fmul contract double %apart, %apart
  %x.squared = fmul contract double %x, %x
  %y.squared = fmul contract double %y, %y
  %gap.next = fadd reassoc nsz contract double %g, %apart.squared
  %length.next = fadd reassoc nsz contract double %l, %x.squared
  %other.next = fadd reassoc nsz contract double %o, %y.squared
  %distance = call double @llvm.fabs.f64(double %apart)
  %is.more = fcmp nnan nsz ogt double %distance, %most
  %most.next = select nnan nsz i1 %is.more, double %distance, double %most
  %index.next = add nuw nsw i64 %index, 1
  %is.over = icmp eq i64 %index.next, %stop
  br i1 %is.over, label %look, label %loop, !llvm.loop !0
look:
  %is.largest = fcmp ogt double %most.next, %largest
  %largest.next = select i1 %is.largest, double %most.next, double %largest
  %at.next = select i1 %is.largest, i64 %start, i64 %at
  %is.end = icmp eq i64 %stop, %size
  br i1 %is.end, label %end, label %chunk
end:
  %is.finite = fcmp olt double %gap.next, INFINITY
  br i1 %is.finite, label %find, label %refuse
find:
  %here = phi i64 [%at.next, %end], [%here.next, %on]
  %here.a = getelementptr inbounds TYPE, ptr %a, i64 %here
  %here.b = getelementptr inbounds TYPE, ptr %b, i64 %here
  %value.a = load TYPE, ptr %here.a
  %value.b = load TYPE, ptr %here.b
  %wide.a = WIDEN %value.a to double
  %wide.b = WIDEN %value.b to double
  %difference = fsub double %wide.a, %wide.b
  %here.distance = call double @llvm.fabs.f64(double %difference)
  %is.here = fcmp oeq double %here.distance, %largest.next
  br i1 %is.here, label %write, label %on
on:
  %here.next = add nuw nsw i64 %here, 1
  %is.nowhere = icmp eq i64 %here.next, %size
  br i1 %is.nowhere, label %refuse, label %find
write:
STORES
  ret i64 0
refuse:
  ret i64 1
}

!0 = distinct !{!0, !1}
!1 = !{!"llvm.loop.vectorize.width", i32 16}
"""
"""The kernel for one type, as that of the statistics (`kernel.py`) in its notation.

`loop` adds up the squares of a chunk and finds its largest distance; `find` looks for the place of
the largest of all in its chunk alone. A NaN or an Inf makes the sums so, which is refused.
"""


def _source(code: str) -> str:
    values = ("%gap.next", "%length.next", "%other.next", "%largest.next", "%at.wide")
    stores = "  %at.wide = uitofp i64 %here to double"
    for place, value in enumerate(values):
        stores += f"""
  %at.{place} = getelementptr double, ptr %sums, i64 {place}
  store double {value}, ptr %at.{place}"""
    return for_type(SOURCE.replace("STORES", stores).replace("INFINITY", literal(inf)), code)


@lru_cache
def kernel_of(code: str) -> Callable[[int, int, int, Any], int] | None:
    """Return the kernel for NumPy's type code, `"f"` or `"d"`; None where there is none.

    It takes the addresses of two arrays, how many values each has, and a `Row`.
    """
    source = _source(code)
    if not source:
        return None
    return compiled(source, f"apart_{code}", c_int64, c_void_p, c_void_p, c_int64, c_void_p)


Row = c_double * 5
"""Room for what the kernel finds."""


class Apart(NamedTuple):
    """How far two arrays lie apart.

    Attributes:
        gap: the Euclidean norm of the difference.
        length: that of the first.
        other: that of the second.
        largest: the largest absolute difference.
        at: its place.
    """

    gap: float
    length: float
    other: float
    largest: float
    at: int


def apart(a: np.ndarray, b: np.ndarray) -> Apart | None:
    """Return how far two arrays of one shape and dtype lie apart; None where the kernel refuses.

    It refuses other dtypes than float32 and float64, what is not contiguous or empty, and values
    that are not finite, or whose squares over- or underflow a double.
    """
    kernel = kernel_of(a.dtype.char) if a.dtype == b.dtype and a.size else None
    if kernel is None or not (a.flags.c_contiguous and b.flags.c_contiguous):
        return None
    row = Row()
    if kernel(a.ctypes.data, b.ctypes.data, a.size, row):
        return None
    *squares, largest, at = row
    if not all(isfinite(each) for each in squares):
        return None
    if any(0 < each < LEAST_SQUARES for each in squares) or (largest and not squares[0]):
        return None
    gap, length, other = map(sqrt, squares)
    return Apart(gap, length, other, largest, int(at))
