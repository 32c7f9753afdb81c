from itertools import product

import numpy as np
import pytest

from nnmagic.records.kept_slices import slices_of, with_nonfinite


@pytest.mark.parametrize("shape", [(7,), (9, 10), (2, 5, 11, 7)])
@pytest.mark.parametrize("kind", ["f", "d", "D"])
def test_a_cell_is_odd_where_a_value_that_it_stands_for_is(shape, kind):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=shape).astype(kind)
    odd = rng.choice([np.nan, np.inf, -np.inf], shape)
    whole = np.where(rng.random(shape) < 0.15, odd, whole).astype(kind)
    real = np.abs(whole) if kind == "D" else whole
    slices = slices_of(shape, None, whole.size // 6)
    assert max(slices.steps) > 1

    grid = with_nonfinite(whole[slices.picture], real, slices.steps)

    for cell in product(*map(range, grid.shape)):
        places = zip(cell, slices.steps, strict=True)
        block = real[tuple(slice(i * step, (i + 1) * step) for i, step in places)]
        own = whole[slices.picture][cell]
        if np.isnan(block).any():
            own = np.nan
        elif np.isinf(block).any():
            own = block.max() if np.isposinf(block).any() else block.min()
        assert np.array_equal(grid[cell], own, equal_nan=True)
