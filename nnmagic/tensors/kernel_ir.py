"""What measures floats, in the language of LLVM."""

from math import inf
from struct import pack

from nnmagic.records.tensor import NOTHING_KNOWN

TYPES = {"f": ("float", "fpext float"), "d": ("double", "bitcast double")}
"""By NumPy's letter: LLVM's name of the type, and how it becomes a double."""

KEPT = 2.0**-13
"""A variance that is a smaller share of the mean square is summed again, around the mean."""

SMALLEST = 2.0**-664
"""A smaller mean square may have lost squares; one that overflows is not finite."""

LANES, STEPS = 16, 8
"""How many float32 are read at once; and how many times, before their sums become doubles."""

SHARED = 1 << 16
"""So many values are shared among several threads."""

MOST_THREADS = 64
"""More would not read faster."""

ENOUGH = 0.2
"""A variance that is a smaller share of the mean square has less than six digits in such sums; that
of values spread evenly from 0 on is a quarter of it."""

SMALL = 2.0**-60
"""A smaller mean square may have lost squares of float32."""


def _literal(value: float) -> str:
    """Return a double as LLVM reads it without rounding."""
    return f"0x{pack('>d', value).hex()}"


SUMS = "{double, double, double, double, double}"
"""Low, high, how many are zero, and of the distances from a center the sums, or means, of these and
of their squares.

Where a value is NaN, low and high are anything; where one is not finite, the squares are not.
"""

NO_SUMS = f"{{double {_literal(inf)}, double {_literal(-inf)}, double 0.0, double 0.0, double 0.0}}"
"""Those of no value at all."""

FLOATS, DOUBLES, COUNTS, FLAGS = (f"<{LANES} x {t}>" for t in ("float", "double", "i32", "i1"))

LITTLE = f"<{', '.join([f'float {_literal(2.0**-60)}'] * LANES)}>"
"""What is added to a value before it is squared: an operation on subnormal numbers, or one that
gives some, takes many processors a hundred times as long. Beside the root of `SMALL`, 2 ** -30, it
is nothing."""


def _step(i: int) -> str:
    """Return the source of one step of a round of `@in_lanes`.

    What the steps with even and with odd numbers sum up is kept apart: neither waits for the other,
    and fewer numbers are added in turn.
    """
    total, squares = (f"%{n}.{i - 2}" if i > 1 else "zeroinitializer" for n in ("total", "squares"))
    return f"""
  %place.{i} = getelementptr {FLOATS}, ptr %round, i64 {i}
  %value.{i} = load {FLOATS}, ptr %place.{i}, align 4
  %lower.{i} = fcmp nnan nsz olt {FLOATS} %value.{i}, %low.{i}
  %low.{i + 1} = select nnan nsz {FLAGS} %lower.{i}, {FLOATS} %value.{i}, {FLOATS} %low.{i}
  %higher.{i} = fcmp nnan nsz ogt {FLOATS} %value.{i}, %high.{i}
  %high.{i + 1} = select nnan nsz {FLAGS} %higher.{i}, {FLOATS} %value.{i}, {FLOATS} %high.{i}
  %is.zero.{i} = fcmp oeq {FLOATS} %value.{i}, zeroinitializer
  %one.{i} = zext {FLAGS} %is.zero.{i} to {COUNTS}
  %zeros.{i + 1} = add {COUNTS} %zeros.{i}, %one.{i}
  %total.{i} = fadd nsz {FLOATS} %value.{i}, {total}
  %normal.{i} = fadd {FLOATS} %value.{i}, {LITTLE}
  %square.{i} = fmul contract {FLOATS} %normal.{i}, %normal.{i}
  %squares.{i} = fadd nsz contract {FLOATS} %square.{i}, {squares}"""


IN_LANES = f"""
declare float @llvm.vector.reduce.fmin.v{LANES}f32({FLOATS})
declare float @llvm.vector.reduce.fmax.v{LANES}f32({FLOATS})
declare i32 @llvm.vector.reduce.add.v{LANES}i32({COUNTS})
declare double @llvm.vector.reduce.fadd.v{LANES}f64(double, {DOUBLES})

define internal {SUMS} @in_lanes(ptr %values, i64 %number) {{
entry:
  %first = load {FLOATS}, ptr %values, align 4
  br label %loop
loop:
  %index = phi i64 [0, %entry], [%index.next, %loop]
  %low.0 = phi {FLOATS} [%first, %entry], [%low.{STEPS}, %loop]
  %high.0 = phi {FLOATS} [%first, %entry], [%high.{STEPS}, %loop]
  %zeros.0 = phi {COUNTS} [zeroinitializer, %entry], [%zeros.{STEPS}, %loop]
  %total = phi {DOUBLES} [zeroinitializer, %entry], [%total.next, %loop]
  %squares = phi {DOUBLES} [zeroinitializer, %entry], [%squares.next, %loop]
  %round = getelementptr float, ptr %values, i64 %index
{"".join(map(_step, range(STEPS)))}
  %total.round = fadd {FLOATS} %total.{STEPS - 2}, %total.{STEPS - 1}
  %total.wide = fpext {FLOATS} %total.round to {DOUBLES}
  %total.next = fadd {DOUBLES} %total, %total.wide
  %squares.round = fadd {FLOATS} %squares.{STEPS - 2}, %squares.{STEPS - 1}
  %squares.wide = fpext {FLOATS} %squares.round to {DOUBLES}
  %squares.next = fadd {DOUBLES} %squares, %squares.wide
  %index.next = add nuw nsw i64 %index, {LANES * STEPS}
  %done = icmp eq i64 %index.next, %number
  br i1 %done, label %end, label %loop
end:
  %low = call nnan float @llvm.vector.reduce.fmin.v{LANES}f32({FLOATS} %low.{STEPS})
  %high = call nnan float @llvm.vector.reduce.fmax.v{LANES}f32({FLOATS} %high.{STEPS})
  %zeros = call i32 @llvm.vector.reduce.add.v{LANES}i32({COUNTS} %zeros.{STEPS})
  %total.all = call reassoc double @llvm.vector.reduce.fadd.v{LANES}f64(
      double 0.0, {DOUBLES} %total.next)
  %squares.all = call reassoc double @llvm.vector.reduce.fadd.v{LANES}f64(
      double 0.0, {DOUBLES} %squares.next)
  %sums = call {SUMS} @sums_of(
      float %low, float %high, i32 %zeros, double %total.all, double %squares.all)
  ret {SUMS} %sums
}}

define internal {SUMS} @part(
    ptr %values, i64 %number, double %center, i1 %quick) noinline {{
entry:
  br i1 %quick, label %quickly, label %exactly
quickly:
  %sums.quick = call {SUMS} @in_lanes(ptr %values, i64 %number)
  ret {SUMS} %sums.quick
exactly:
  %sums.exact = call {SUMS} @sums(ptr %values, i64 %number, double %center)
  ret {SUMS} %sums.exact
}}
"""
"""`@part`, which sums a thread's part: float32 in lanes where it may."""

ONE_BY_ONE = f"""
define internal {SUMS} @part(
    ptr %values, i64 %number, double %center, i1 %quick) noinline {{
  %sums = call {SUMS} @sums(ptr %values, i64 %number, double %center)
  ret {SUMS} %sums
}}
"""
"""`@part` without lanes."""

JOB = "{ptr, i64, double, i1, ptr}"
"""The values, how many there are, the center, whether to sum quickly; where the sums go."""

TOGETHER = f"""
declare void @GOMP_parallel(ptr, ptr, i32, i32)
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()
declare i32 @llvm.smin.i32(i32, i32)

define internal void @work(ptr %job) {{
  %fields = load {JOB}, ptr %job
  %values = extractvalue {JOB} %fields, 0
  %number = extractvalue {JOB} %fields, 1
  %center = extractvalue {JOB} %fields, 2
  %quick = extractvalue {JOB} %fields, 3
  %results = extractvalue {JOB} %fields, 4
  %thread.short = call i32 @omp_get_thread_num()
  %team.short = call i32 @omp_get_num_threads()
  %thread = zext i32 %thread.short to i64
  %team = zext i32 %team.short to i64
  %rounds = udiv i64 %number, {LANES * STEPS}
  %rounds.before = mul i64 %rounds, %thread
  %start.round = udiv i64 %rounds.before, %team
  %start = mul i64 %start.round, {LANES * STEPS}
  %next = add i64 %thread, 1
  %rounds.after = mul i64 %rounds, %next
  %end.round = udiv i64 %rounds.after, %team
  %end.whole = mul i64 %end.round, {LANES * STEPS}
  %is.last = icmp eq i64 %next, %team
  %end = select i1 %is.last, i64 %number, i64 %end.whole
  %own.number = sub i64 %end, %start
  %own.values = getelementptr TYPE, ptr %values, i64 %start
  %sums = call {SUMS} @part(ptr %own.values, i64 %own.number, double %center, i1 %quick)
  %result = getelementptr {SUMS}, ptr %results, i64 %thread
  store {SUMS} %sums, ptr %result
  ret void
}}

define internal {SUMS} @read(
    ptr %values, i64 %number, double %center, i1 %quick, i32 %threads) noinline {{
entry:
  %results = alloca {SUMS}, i32 {MOST_THREADS}
  %job = alloca {JOB}
  %several = icmp sgt i32 %threads, 1
  %large = icmp uge i64 %number, {SHARED}
  %is.shared = and i1 %several, %large
  br i1 %is.shared, label %shared, label %alone
alone:
  %sums.alone = call {SUMS} @part(ptr %values, i64 %number, double %center, i1 %quick)
  ret {SUMS} %sums.alone
shared:
  %most = call i32 @llvm.smin.i32(i32 %threads, i32 {MOST_THREADS})
  %job.0 = insertvalue {JOB} poison, ptr %values, 0
  %job.1 = insertvalue {JOB} %job.0, i64 %number, 1
  %job.2 = insertvalue {JOB} %job.1, double %center, 2
  %job.3 = insertvalue {JOB} %job.2, i1 %quick, 3
  %job.4 = insertvalue {JOB} %job.3, ptr %results, 4
  store {JOB} %job.4, ptr %job
  br label %clear
clear:
  %cleared = phi i32 [0, %shared], [%cleared.next, %clear]
  %cleared.place = getelementptr {SUMS}, ptr %results, i32 %cleared
  store {SUMS} {NO_SUMS}, ptr %cleared.place
  %cleared.next = add i32 %cleared, 1
  %all.clear = icmp eq i32 %cleared.next, %most
  br i1 %all.clear, label %run, label %clear
run:
  call void @GOMP_parallel(ptr @work, ptr %job, i32 %most, i32 0)
  br label %add
add:
  %added = phi i32 [0, %run], [%added.next, %add]
  %sums = phi {SUMS} [{NO_SUMS}, %run], [%sums.next, %add]
  %added.place = getelementptr {SUMS}, ptr %results, i32 %added
  %others = load {SUMS}, ptr %added.place
  %sums.next = call {SUMS} @sum_of({SUMS} %sums, {SUMS} %others)
  %added.next = add i32 %added, 1
  %all.added = icmp eq i32 %added.next, %most
  br i1 %all.added, label %done, label %add
done:
  ret {SUMS} %sums.next
}}

define internal {SUMS} @sum_of({SUMS} %a, {SUMS} %b) alwaysinline {{
  %a.0 = extractvalue {SUMS} %a, 0
  %a.1 = extractvalue {SUMS} %a, 1
  %a.2 = extractvalue {SUMS} %a, 2
  %a.3 = extractvalue {SUMS} %a, 3
  %a.4 = extractvalue {SUMS} %a, 4
  %b.0 = extractvalue {SUMS} %b, 0
  %b.1 = extractvalue {SUMS} %b, 1
  %b.2 = extractvalue {SUMS} %b, 2
  %b.3 = extractvalue {SUMS} %b, 3
  %b.4 = extractvalue {SUMS} %b, 4
  %is.lower = fcmp olt double %b.0, %a.0
  %low = select i1 %is.lower, double %b.0, double %a.0
  %is.higher = fcmp ogt double %b.1, %a.1
  %high = select i1 %is.higher, double %b.1, double %a.1
  %zeros = fadd double %a.2, %b.2
  %total = fadd double %a.3, %b.3
  %squares = fadd double %a.4, %b.4
  %sum.0 = insertvalue {SUMS} poison, double %low, 0
  %sum.1 = insertvalue {SUMS} %sum.0, double %high, 1
  %sum.2 = insertvalue {SUMS} %sum.1, double %zeros, 2
  %sum.3 = insertvalue {SUMS} %sum.2, double %total, 3
  %sum.4 = insertvalue {SUMS} %sum.3, double %squares, 4
  ret {SUMS} %sum.4
}}
"""
"""`@read`, which sums all: by several threads where there are enough values."""

ALONE = f"""
define internal {SUMS} @read(
    ptr %values, i64 %number, double %center, i1 %quick, i32 %threads) {{
  %sums = call {SUMS} @part(ptr %values, i64 %number, double %center, i1 %quick)
  ret {SUMS} %sums
}}
"""
"""`@read` by one thread."""

KERNEL = f"""
declare double @llvm.sqrt.f64(double)

define internal {SUMS} @sums(ptr %values, i64 %number, double %center) {{
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
  %sums = call {SUMS} @sums_of(
      TYPE %low.next, TYPE %high.next, i32 %zeros.next, double %total.next, double %squares.next)
  ret {SUMS} %sums
}}

define internal {SUMS} @sums_of(
    TYPE %low, TYPE %high, i32 %zeros, double %total, double %squares) alwaysinline {{
  %low.wide = WIDEN %low to double
  %high.wide = WIDEN %high to double
  %zeros.wide = uitofp i32 %zeros to double
  %sums.0 = insertvalue {SUMS} poison, double %low.wide, 0
  %sums.1 = insertvalue {SUMS} %sums.0, double %high.wide, 1
  %sums.2 = insertvalue {SUMS} %sums.1, double %zeros.wide, 2
  %sums.3 = insertvalue {SUMS} %sums.2, double %total, 3
  %sums.4 = insertvalue {SUMS} %sums.3, double %squares, 4
  ret {SUMS} %sums.4
}}

define internal {SUMS} @means(
    ptr %values, i64 %number, double %center, i1 %quick, i32 %threads) {{
  %sums = call {SUMS} @read(
      ptr %values, i64 %number, double %center, i1 %quick, i32 %threads)
  %total = extractvalue {SUMS} %sums, 3
  %squares = extractvalue {SUMS} %sums, 4
  %size = uitofp i64 %number to double
  %mean = fdiv double %total, %size
  %mean.square = fdiv double %squares, %size
  %with.mean = insertvalue {SUMS} %sums, double %mean, 3
  %means = insertvalue {SUMS} %with.mean, double %mean.square, 4
  ret {SUMS} %means
}}

define internal i1 @is_finite({SUMS} %means) alwaysinline {{
  %mean.square = extractvalue {SUMS} %means, 4
  %is.finite = fcmp olt double %mean.square, {_literal(inf)}
  ret i1 %is.finite
}}

define internal double @variance_of({SUMS} %means) alwaysinline {{
  %mean = extractvalue {SUMS} %means, 3
  %mean.square = extractvalue {SUMS} %means, 4
  %squared.mean = fmul double %mean, %mean
  %variance = fsub double %mean.square, %squared.mean
  ret double %variance
}}

define internal i1 @is_exact({SUMS} %means, double %share, double %smallest) alwaysinline {{
  %mean.square = extractvalue {SUMS} %means, 4
  %variance = call double @variance_of({SUMS} %means)
  %least = fmul double %mean.square, %share
  %is.kept = fcmp ogt double %variance, %least
  %is.large = fcmp ogt double %mean.square, %smallest
  %is.finite = call i1 @is_finite({SUMS} %means)
  %is.safe = and i1 %is.kept, %is.large
  %is.exact = and i1 %is.safe, %is.finite
  ret i1 %is.exact
}}

define internal void @put({SUMS} %means, double %center, i64 %number, ptr %numbers) {{
  %low = extractvalue {SUMS} %means, 0
  %high = extractvalue {SUMS} %means, 1
  %zeros = extractvalue {SUMS} %means, 2
  %distance = extractvalue {SUMS} %means, 3
  %mean = fadd double %center, %distance
  %variance = call double @variance_of({SUMS} %means)
  %size = uitofp i64 %number to double
  %freedom = fsub double %size, 1.0
  %correction = fdiv double %size, %freedom
  %corrected = fmul double %variance, %correction
  %std = call double @llvm.sqrt.f64(double %corrected)
  %share = fdiv double %zeros, %size
  store double %low, ptr %numbers
  %at.1 = getelementptr double, ptr %numbers, i64 1
  store double %high, ptr %at.1
  %at.2 = getelementptr double, ptr %numbers, i64 2
  store double %mean, ptr %at.2
  %at.3 = getelementptr double, ptr %numbers, i64 3
  store double %std, ptr %at.3
  %at.4 = getelementptr double, ptr %numbers, i64 4
  store double %share, ptr %at.4
  %at.5 = getelementptr double, ptr %numbers, i64 5
  store <3 x double> zeroinitializer, ptr %at.5, align 8
  ret void
}}

define i64 @one_LETTER(ptr %values, i64 %number, ptr %numbers, i32 %threads) {{
entry:
  %left = urem i64 %number, {LANES * STEPS}
  %is.whole = icmp eq i64 %left, 0
  %is.quick = and i1 %is.whole, QUICK
  br i1 %is.quick, label %quickly, label %exactly
quickly:
  %quick = call {SUMS} @means(ptr %values, i64 %number, double 0.0, i1 true, i32 %threads)
  %is.enough = call i1 @is_exact({SUMS} %quick, double {_literal(ENOUGH)}, double {_literal(SMALL)})
  br i1 %is.enough, label %known, label %doubted
doubted:
  %quick.low = extractvalue {SUMS} %quick, 0
  %quick.high = extractvalue {SUMS} %quick, 1
  %quick.mean = extractvalue {SUMS} %quick, 3
  %quick.is.finite = call i1 @is_finite({SUMS} %quick)
  br i1 %quick.is.finite, label %centered, label %exactly
centered:
  %quick.is.constant = fcmp oeq double %quick.low, %quick.high
  br i1 %quick.is.constant, label %constant, label %again
exactly:
  %means = call {SUMS} @means(ptr %values, i64 %number, double 0.0, i1 false, i32 %threads)
  %is.finite = call i1 @is_finite({SUMS} %means)
  br i1 %is.finite, label %finite, label %refused
finite:
  %low = extractvalue {SUMS} %means, 0
  %high = extractvalue {SUMS} %means, 1
  %is.constant = fcmp oeq double %low, %high
  br i1 %is.constant, label %constant, label %varied
constant:
  %same = phi {SUMS} [%quick, %centered], [%means, %finite]
  %value = extractvalue {SUMS} %same, 0
  %no.distance = insertvalue {SUMS} %same, double 0.0, 3
  %no.spread = insertvalue {SUMS} %no.distance, double 0.0, 4
  br label %known
varied:
  %exact.mean = extractvalue {SUMS} %means, 3
  %is.exact = call i1 @is_exact({SUMS} %means, double {_literal(KEPT)}, double {_literal(SMALLEST)})
  br i1 %is.exact, label %known, label %again
again:
  %mean = phi double [%quick.mean, %centered], [%exact.mean, %varied]
  %rest = call {SUMS} @means(ptr %values, i64 %number, double %mean, i1 false, i32 %threads)
  %is.exact.now = call i1 @is_exact(
      {SUMS} %rest, double {_literal(KEPT)}, double {_literal(SMALLEST)})
  br i1 %is.exact.now, label %known, label %refused
known:
  %found = phi {SUMS}
      [%quick, %quickly], [%no.spread, %constant], [%means, %varied], [%rest, %again]
  %center = phi double [0.0, %quickly], [%value, %constant], [0.0, %varied], [%mean, %again]
  call void @put({SUMS} %found, double %center, i64 %number, ptr %numbers)
  ret i64 0
refused:
  ret i64 1
}}

define i64 @one_and_some_LETTER(ptr %values, i64 %number, ptr %numbers, ptr %offsets, i64 %count,
    ptr %some, i32 %threads) {{
entry:
  %refused = call i64 @one_LETTER(ptr %values, i64 %number, ptr %numbers, i32 %threads)
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
  %refuses = call i64 @one_LETTER(ptr %start, i64 %size, ptr %row.numbers, i32 1)
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
"""All else: the sums in doubles, what becomes of them, and the functions that are called."""


def source_of(letter: str, *, in_lanes: bool, together: bool) -> str:
    """Return the functions of `nnmagic.kernels.Kernel` for a type.

    Args:
        letter: NumPy's of the type.
        in_lanes: whether float32 are first summed as float32.
        together: whether several threads of OpenMP's share what is large.
    """
    type_name, widen = TYPES[letter]
    in_lanes = in_lanes and letter == "f"
    source = KERNEL + (IN_LANES if in_lanes else ONE_BY_ONE) + (TOGETHER if together else ALONE)
    words = {"TYPE": type_name, "WIDEN": widen, "LETTER": letter, "QUICK": str(in_lanes).lower()}
    for word, text in words.items():
        source = source.replace(word, text)
    return source
