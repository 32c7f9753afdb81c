import math
import os
import subprocess
import sys
from array import array

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnmagic.records.tensor import NOTHING_KNOWN, Statistics
from nnmagic.tensors import kernel as kernels
from nnmagic.tensors.kernel import Batch, numbers_of
from nnmagic.tensors.kernel_ir import LANES, SHARED, STEPS, TYPES
from nnmagic.tensors.statistics import statistics_of

WIDTH = len(NOTHING_KNOWN)


def floats(dtype):
    """Return arrays of any finite values, of few and of many magnitudes."""
    width = np.dtype(dtype).itemsize * 8
    some = st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e4]).map(lambda v: float(np.dtype(dtype).type(v)))
    usual = st.floats(-1e6, 1e6, width=width)
    any_ = st.floats(width=width, allow_nan=False, allow_infinity=False)
    return arrays.arrays(dtype, st.integers(1, 150), elements=some | usual | any_)


def assert_right(found, values):
    """Compare numbers with exact sums of doubles; mean and spread may differ in the last digits.

    Sums of float32 keep fewer digits: the mean is wrong by at most 4 * 2 ** -24 of that of the
    absolute values, the mean square by 5 * 2 ** -24 of itself, which is at most 5 variances.
    """
    quick = values.dtype == np.float32 and values.size % (LANES * STEPS) == 0
    mean_error, std_error = (2.5e-7, 7.6e-7) if quick else (1e-13, 1e-9)
    exact = statistics_of([values], fast=False)
    assert (found.min, found.max, found.zeros) == (exact.min, exact.max, exact.zeros)
    assert (found.nan, found.inf, found.negative_inf) == (0, 0, 0)
    doubles = values.astype(np.float64)
    largest = np.abs(doubles).max() or 1.0
    mean = math.fsum(doubles / largest) / values.size
    assert found.mean / largest == pytest.approx(mean, rel=1e-12, abs=mean_error)
    if values.size == 1:
        assert math.isnan(found.std)
        return
    spread = math.fsum((doubles / largest - mean) ** 2) / (values.size - 1)
    assert found.std / largest == pytest.approx(math.sqrt(spread), rel=std_error)


@pytest.mark.parametrize("letter", TYPES)
@given(data=st.data())
@settings(deadline=None)
def test_the_numbers_are_those_of_exact_sums(letter, data):
    values = data.draw(floats(letter))

    found = numbers_of(values)

    if found is not None:
        assert_right(found, values)
    usual = np.abs(values[values != 0].astype(np.float64))
    if not usual.size or (usual.min() > 1e-90 and usual.max() < 1e90):
        assert found is not None or np.ptp(values.astype(np.float64)) < 1e-90


@pytest.mark.parametrize(
    "size", [1, 2, 7, 15, 16, 17, 63, 64, 65, 127, 128, 129, 256, 1000, 4097, 262_144]
)
@pytest.mark.parametrize("letter", TYPES)
def test_no_value_is_left_out_whatever_the_length(letter, size):
    values = np.arange(1, size + 1).astype(letter)[::-1].copy()
    for place in {0, size // 2, size - 1}:
        changed = values.copy()
        changed[place] = -3 * size

        assert_right(numbers_of(changed), changed)
        assert numbers_of(changed).min == -3 * size

        changed[place] = 0
        assert numbers_of(changed).zeros == 1 / size


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("far", [0.0, 10.0, 1e3, 1e6])
def test_a_spread_far_from_zero_keeps_its_digits(letter, far):
    values = (np.random.default_rng(0).standard_normal(100_000) + far).astype(letter)

    assert_right(numbers_of(values), values)


@pytest.fixture(scope="module")
def exactly():
    """The functions for float32 without the sums of float32."""
    return kernels.compiled("f", in_lanes=False)


def hard(draw):
    """Return float32 of which sums of float32 lose what they can lose: few values, far from 0."""
    size = LANES * STEPS * draw(st.integers(1, 4))
    width = draw(st.sampled_from([1.0, 1e-3, 2e-9, 5e-10, 1e-15, 1e-30, 1e15, 1e30]))
    few = draw(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=5))
    seed = draw(st.integers(0, 9))
    return np.float32(width) * np.random.default_rng(seed).choice(np.float32(few), size)


@given(data=st.data())
@settings(deadline=None)
def test_sums_of_float32_are_used_only_where_they_have_the_digits(exactly, data):
    values = hard(data.draw)
    exact = kernels.Row()
    refused = exactly.one(values.ctypes.data, values.size, exact, 1)

    found = numbers_of(values)

    assert (found is None) == bool(refused)
    if found is not None:
        assert_right(found, values)
        assert found[:2] == tuple(exact[:2])
        assert found[4:] == tuple(exact[4:])


@pytest.mark.parametrize("far", [3.0, 5.0, 1e4, 1e19, 3e38])
def test_values_far_from_zero_are_summed_as_doubles(exactly, far):
    values = far * (1 + 1e-3 * np.random.default_rng(0).standard_normal(4096)).astype("f")
    exact = kernels.Row()
    exactly.one(values.ctypes.data, values.size, exact, 1)

    found = numbers_of(values)

    assert found == pytest.approx(tuple(exact), rel=1e-12)
    assert found.mean == pytest.approx(values.astype("d").mean(), rel=1e-12)


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("size", [2001, 2048])
@pytest.mark.parametrize("place", [0, 5, 999, 2000])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(letter, size, place, value):
    values = np.random.default_rng(0).standard_normal(size).astype(letter)
    values[place] = value

    assert numbers_of(values) is None

    values[:] = value
    assert numbers_of(values) is None
    assert numbers_of(values[:1]) is None


@pytest.mark.parametrize("value", [1e-170, 1e160])
def test_doubles_whose_squares_no_double_holds_are_refused(value):
    assert numbers_of(np.array([value, 3 * value])) is None
    assert numbers_of(np.array([value, value])) is None or value < 1


@pytest.mark.parametrize("letter", TYPES)
def test_a_constant_is_exact_and_a_single_value_has_no_spread(letter):
    tenth = float(np.dtype(letter).type(0.1))

    assert numbers_of(np.full(7, 0.1, letter)) == Statistics(tenth, tenth, tenth, 0, 0, 0, 0, 0)
    assert numbers_of(np.zeros(3, letter)) == Statistics(0, 0, 0, 0, 1, 0, 0, 0)
    assert math.isnan(numbers_of(np.array([-2.5], letter)).std)


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("size", [SHARED - 1, SHARED, SHARED + 5, 5 * SHARED + 77])
@pytest.mark.parametrize("threads", [2, 3, 1000])
def test_threads_share_what_is_large(letter, size, threads):
    values = np.random.default_rng(0).standard_normal(size).astype(letter)

    for place in {0, size // 2, size - 1, *range(size // 3 - 1, size // 3 + 2)}:
        changed = values.copy()
        changed[place] = -100
        changed[place - 1] = 0

        together, alone = numbers_of(changed, threads), numbers_of(changed)
        assert together[:2] == alone[:2] == (-100, changed.max())
        assert together.zeros == alone.zeros == 1 / size
        assert together[2:4] == pytest.approx(alone[2:4], rel=1e-12)
        assert_right(together, changed)

        changed[place] = math.nan
        assert numbers_of(changed, threads) is None


def test_threads_share_values_far_from_zero():
    values = np.random.default_rng(0).standard_normal(4 * SHARED).astype("f") + np.float32(1e4)

    assert_right(numbers_of(values, 2), values)
    assert numbers_of(np.full(SHARED, 0.1, "f"), 2) == numbers_of(np.full(SHARED, 0.1, "f"))


FORKED = """
import faulthandler, os, nnmagic, torch
net = torch.nn.Sequential(torch.nn.Linear(1000, 1000))
torch.set_num_threads(2)
nnmagic.trace(net, torch.rand(1000, 1000))
child = os.fork()
if not child:
    faulthandler.dump_traceback_later(60, exit=True)
    print(nnmagic.params(net)["0.weight"].tensor.numel, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)

    assert done.stdout.split() == ["1000000"]


def test_without_openmp_one_thread_reads_all(monkeypatch):
    values = np.random.default_rng(0).standard_normal(2 * SHARED)
    monkeypatch.setattr(kernels, "OPENMP", ("no_such_function",))
    numbers, kernel = kernels.Row(), kernels.compiled("d")

    kernel.one(values.ctypes.data, values.size, numbers, 2)

    assert kernels._openmp() == {}
    assert Statistics(*numbers) == numbers_of(values)


@pytest.mark.skipif(
    sys.platform != "linux" or "backend: OpenMP" not in torch.__config__.parallel_info(),
    reason="torch's threads are others here, or not to be found",
)
def test_the_threads_are_torchs():
    assert set(kernels._openmp()) == set(kernels.OPENMP)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.bool_, np.complex64])
def test_other_types_are_refused(dtype):
    assert numbers_of(np.ones(3, dtype)) is None


def test_values_that_do_not_lie_side_by_side_are_refused():
    assert numbers_of(np.arange(10.0)[::2]) is None


@pytest.mark.parametrize("letter", TYPES)
@given(data=st.data())
@settings(deadline=None)
def test_each_row_is_filled_with_the_numbers_of_its_tensor(letter, data):
    tensors = data.draw(
        st.lists(floats(letter) | st.just(np.array([math.nan], letter)), min_size=1)
    )
    places = st.lists(st.integers(0, 40), min_size=len(tensors), max_size=len(tensors), unique=True)
    rows = data.draw(places)
    numbers = array("d", [math.nan]) * (41 * WIDTH)

    batch = Batch(letter)
    for row, tensor in zip(rows, tensors, strict=True):
        batch.add(row, tensor.tobytes())
    refused = batch.measure(numbers)

    for row, tensor in zip(rows, tensors, strict=True):
        found, alone = numbers[row * WIDTH : (row + 1) * WIDTH], numbers_of(tensor)
        assert refused.get(row) == (tensor.tobytes() if alone is None else None)
        assert found.tobytes() == array("d", alone or NOTHING_KNOWN).tobytes()
    assert batch.bytes == 0
    assert batch.measure(numbers) == {}
    for row in set(range(41)) - set(rows):
        assert all(map(math.isnan, numbers[row * WIDTH : (row + 1) * WIDTH]))


def test_without_llvm_all_is_refused_and_right_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setattr(kernels, "kernel_of", kernels.kernel_of.__wrapped__)
    values = np.random.default_rng(0).standard_normal(5000)

    assert numbers_of(values) is None
    batch = Batch("d")
    batch.add(3, values.tobytes())
    assert batch.measure(array("d")) == {3: values.tobytes()}
    assert statistics_of([values]).std == pytest.approx(values.std(ddof=1), rel=1e-12)
