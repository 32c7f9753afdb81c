import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnmagic.records.tensor import Statistics
from nnmagic.tensors.statistics import PIECE, moments, statistics_of


def truth(values):
    """Return mean and standard deviation (correction 0), summed in the widest floats there are."""
    scale = np.abs(values).max().astype(np.longdouble) or 1
    scaled = values.astype(np.longdouble) / scale
    mean = scaled.mean()
    return float(mean * scale), float(np.sqrt(((scaled - mean) ** 2).mean()) * scale)


def close(found, expected):
    """Tell whether mean and std are as exact as the documentation promises, tenfold."""
    (mean, std), (true_mean, true_std) = found, expected
    return (
        abs(mean - true_mean) <= 1e-6 * max(abs(true_mean), true_std)
        and abs(std - true_std) <= 1e-6 * true_std
    )


KINDS = {
    "noise": lambda noise, share: noise,
    "rectified": lambda noise, share: np.maximum(noise, 0),
    "positive": lambda noise, share: np.exp(noise),
    "far from zero": lambda noise, share: noise + 100 * share,
    "very far from zero": lambda noise, share: noise + 1e4 * share,
    "one outlier": lambda noise, share: np.where(np.arange(noise.size) == 7, 1e4, noise),
    "one value and zeros": lambda noise, share: np.where(noise > share, 0.1, 0.0),
    "two values": lambda noise, share: np.where(noise > share, 4097.3, 4096.7),
    "rising": lambda noise, share: np.arange(noise.size) * share,
    "in steps": lambda noise, share: np.arange(noise.size) // PIECE + 1e-3 * noise,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 99),
    size=st.one_of(st.integers(2, 5000), st.integers(PIECE - 1, 2 * PIECE)),
    share=st.floats(0.01, 1),
    scale=st.sampled_from([1e-18, 1e-9, 1.0, 1e9, 1e18]),
)
@settings(max_examples=settings.default.max_examples // 3)  # each with many sums
def test_fast_sums_are_exact_or_refused(kind, dtype, seed, size, share, scale):
    noise = np.random.default_rng(seed).standard_normal(size)
    values = (KINDS[kind](noise, share) * scale).astype(dtype)

    expected = truth(values)
    for fast in (True, False):
        found = statistics_of(np.split(values, range(PIECE, values.size, PIECE)), fast=fast)

        std = found.std * math.sqrt((size - 1) / size)
        assert close((found.mean, std), expected), fast


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1 + 2**-23, 4097.3, 0.7, 1e-6])
@pytest.mark.parametrize("fast", [True, False])
def test_rounding_that_always_goes_one_way_stays_small(fast, value):
    values = np.zeros(PIECE, np.float32)
    values[::2] = value

    found = statistics_of([values], fast=fast)

    assert close((found.mean, found.std * math.sqrt(1 - 1 / PIECE)), truth(values))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("ends", [(1e-30, 1e-20), (1e20, 1e30), (1e-300, 1e-200), (1e200, 1e300)])
def test_no_square_gets_lost(fast, ends):
    values = np.geomspace(*ends, 5000)
    for dtype in [np.float32, np.float64][ends[0] < 1e-100 or ends[1] > 1e100 :]:
        found = statistics_of([values.astype(dtype)], fast=fast)

        assert close((found.mean, found.std * math.sqrt(4999 / 5000)), truth(values.astype(dtype)))


@pytest.mark.parametrize("value", [1.0, 0.1, 1 / 3, 7e4])
def test_a_single_value_that_differs_in_its_last_digit_is_seen(value):
    values = np.full(PIECE, value, np.float32)
    values[3] = np.nextafter(values[3], np.float32(1e9))

    assert close(moments(values, values.min().item(), values.max().item()), truth(values))


@pytest.mark.parametrize("fast", [True, False])
def test_pieces_add_up_to_the_whole(fast):
    values = np.random.default_rng(0).standard_normal(100_000) + 3
    values[::1000] = 0
    values[7], values[8], values[99_999] = math.nan, math.inf, -math.inf
    finite = values[np.isfinite(values)]

    found = statistics_of(np.array_split(values, 13), zeros=1000, fast=fast)

    whole = np.concatenate([finite, np.zeros(1000)])
    assert (found.nan, found.inf, found.negative_inf) == (1, 2, 1)
    assert (found.min, found.max) == (whole.min(), whole.max())
    assert found.mean == pytest.approx(whole.mean(), rel=1e-12)
    assert found.std == pytest.approx(whole.std(ddof=1), rel=1e-12)
    assert found.zeros == pytest.approx(1100 / 101_000, rel=1e-12)


def test_values_that_stand_many_times_count_many_times():
    values = np.array([1.0, 2.0, 4.0, math.nan])

    found = statistics_of([values], repeats=5)

    repeated = np.repeat(values[:3], 5)
    assert found.nan == 5
    assert found.mean == pytest.approx(repeated.mean())
    assert found.std == pytest.approx(repeated.std(ddof=1))


def test_a_spread_beyond_the_greatest_double_is_unknown():
    found = statistics_of([np.array([1.7e308, -1.7e308])])

    assert found.mean == 0
    assert math.isnan(found.std)


def test_nothing_has_no_numbers_but_counts():
    assert statistics_of([]) == pytest.approx((*[math.nan] * 5, 0, 0, 0), nan_ok=True)


def test_zeros_alone_have_no_spread():
    assert statistics_of([], zeros=7) == Statistics(0, 0, 0, 0, 1, 0, 0, 0)
