import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnmagic.records.tally import merged
from nnmagic.records.tensor import Statistics

FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e6])


def truth(values):
    """The statistics of values by NumPy, in float64."""
    values = np.array(values, np.float64)
    finite = values[np.isfinite(values)]
    counts = [np.isnan(values).sum(), np.isinf(values).sum(), (values == -np.inf).sum()]
    zeros = float((values == 0).mean()) if values.size else math.nan
    if not finite.size:
        return Statistics(*[math.nan] * 4, zeros, *map(float, counts))
    std = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
    numbers = float(finite.min()), float(finite.max()), float(finite.mean()), std
    return Statistics(*numbers, zeros, *map(float, counts))


@given(st.lists(st.lists(FLOATS, max_size=30), min_size=1, max_size=6))
def test_the_statistics_of_shards_are_those_of_the_whole(shards):
    whole = truth([value for shard in shards for value in shard])

    found = merged([(truth(shard), len(shard)) for shard in shards])

    exact = [0, 1, 4, 5, 6, 7]
    np.testing.assert_array_equal([found[i] for i in exact], [whole[i] for i in exact])
    scale = max(abs(whole.min), abs(whole.max)) if not math.isnan(whole.min) else 1.0
    assert found[2:4] == pytest.approx(whole[2:4], rel=1e-12, abs=1e-12 * scale, nan_ok=True)


def test_a_large_mean_does_not_swallow_the_spread():
    values = 1e8 + np.random.default_rng(0).standard_normal(4000)
    parts = [(truth(part), len(part)) for part in np.array_split(values, 7)]

    assert merged(parts).std == pytest.approx(float(values.std(ddof=1)), rel=1e-9)


def test_what_is_unknown_of_a_shard_is_unknown_of_the_whole():
    unknown = Statistics(*[math.nan] * 8)

    assert merged([(truth([1.0]), 1), (unknown, 3)]) is None
    assert merged([(truth([1.0]), 1), (unknown, 0)]).mean == 1.0
    beyond = truth([1.0, 2.0])._replace(std=math.nan)
    assert merged([(truth([1.0]), 1), (beyond, 2)]) is None
