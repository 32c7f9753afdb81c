import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnmagic.records.tensor import Statistics
from nnmagic.tensors import kernel as kernels
from nnmagic.tensors.kernel import statistics_of_floats
from nnmagic.tensors.machine_code import LLVM_TYPES
from nnmagic.tensors.statistics import statistics_of


def floats(dtype):
    """Return arrays of any finite values, of few and of many magnitudes."""
    width = np.dtype(dtype).itemsize * 8
    some = st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e4]).map(lambda v: float(np.dtype(dtype).type(v)))
    usual = st.floats(-1e6, 1e6, width=width)
    any_ = st.floats(width=width, allow_nan=False, allow_infinity=False)
    return arrays.arrays(dtype, st.integers(1, 150), elements=some | usual | any_)


def assert_right(found, values):
    """Compare numbers with exact sums of doubles; mean and spread may differ in the last digits."""
    exact = statistics_of([values], fast=False)
    assert (found.min, found.max, found.zeros) == (exact.min, exact.max, exact.zeros)
    assert (found.nan, found.inf, found.negative_inf) == (0, 0, 0)
    doubles = values.astype(np.float64)
    largest = np.abs(doubles).max() or 1.0
    mean = math.fsum(doubles / largest) / values.size
    assert found.mean / largest == pytest.approx(mean, rel=1e-12, abs=1e-13)
    if values.size == 1:
        assert math.isnan(found.std)
        return
    spread = math.fsum((doubles / largest - mean) ** 2) / (values.size - 1)
    assert found.std / largest == pytest.approx(math.sqrt(spread), rel=1e-9)


@pytest.mark.parametrize("letter", LLVM_TYPES)
@given(data=st.data())
def test_the_numbers_are_those_of_exact_sums(letter, data):
    values = data.draw(floats(letter))

    found = statistics_of_floats(values)

    if found is not None:
        assert_right(found, values)
    usual = np.abs(values[values != 0].astype(np.float64))
    if not usual.size or (usual.min() > 1e-90 and usual.max() < 1e90):
        assert found is not None or np.ptp(values.astype(np.float64)) < 1e-90


@pytest.mark.parametrize(
    "size", [1, 2, 7, 15, 16, 17, 63, 64, 65, 127, 128, 129, 256, 1000, 4097, 262_144]
)
@pytest.mark.parametrize("letter", LLVM_TYPES)
def test_no_value_is_left_out_whatever_the_length(letter, size):
    values = np.arange(1, size + 1).astype(letter)[::-1].copy()
    for place in {0, size // 2, size - 1}:
        changed = values.copy()
        changed[place] = -3 * size

        assert_right(statistics_of_floats(changed), changed)
        assert statistics_of_floats(changed).min == -3 * size

        changed[place] = 0
        assert statistics_of_floats(changed).zeros == 1 / size


@pytest.mark.parametrize("letter", LLVM_TYPES)
@pytest.mark.parametrize("far", [0.0, 10.0, 1e3, 1e6])
def test_a_spread_far_from_zero_keeps_its_digits(letter, far):
    values = (np.random.default_rng(0).standard_normal(100_000) + far).astype(letter)

    assert_right(statistics_of_floats(values), values)


@pytest.mark.parametrize("letter", LLVM_TYPES)
@pytest.mark.parametrize("size", [2001, 2048])
@pytest.mark.parametrize("place", [0, 5, 999, 2000])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(letter, size, place, value):
    values = np.random.default_rng(0).standard_normal(size).astype(letter)
    values[place] = value

    assert statistics_of_floats(values) is None

    values[:] = value
    assert statistics_of_floats(values) is None
    assert statistics_of_floats(values[:1]) is None


@pytest.mark.parametrize("value", [1e-170, 1e160])
def test_doubles_whose_squares_no_double_holds_are_refused(value):
    assert statistics_of_floats(np.array([value, 3 * value])) is None
    assert statistics_of_floats(np.array([value, value])) is None or value < 1


@pytest.mark.parametrize("letter", LLVM_TYPES)
def test_a_constant_is_exact_and_a_single_value_has_no_spread(letter):
    tenth = float(np.dtype(letter).type(0.1))

    assert statistics_of_floats(np.full(7, 0.1, letter)) == Statistics(
        tenth, tenth, tenth, 0, 0, 0, 0, 0
    )
    assert statistics_of_floats(np.zeros(3, letter)) == Statistics(0, 0, 0, 0, 1, 0, 0, 0)
    assert math.isnan(statistics_of_floats(np.array([-2.5], letter)).std)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.bool_, np.complex64])
def test_other_types_are_refused(dtype):
    assert statistics_of_floats(np.ones(3, dtype)) is None


def test_values_that_do_not_lie_side_by_side_are_refused():
    assert statistics_of_floats(np.arange(10.0)[::2]) is None


def test_without_llvm_all_is_refused_and_right_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setattr(kernels, "kernel_of", kernels.kernel_of.__wrapped__)
    values = np.random.default_rng(0).standard_normal(5000)

    assert statistics_of_floats(values) is None
    assert statistics_of([values]).std == pytest.approx(values.std(ddof=1), rel=1e-12)
