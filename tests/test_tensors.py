from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnmagic.tensors import LEADING, WHOLE, form_of, measure, tensors_in, tensors_of_call
from nnmagic.trace_log import tensor_record

ALL_DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.complex128,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
]


def record(tensor, **options):
    return tensor_record(form_of(tensor), *measure(tensor, **options))


def check(tensor):
    """Compare with numpy in float64, to the exactness that the documentation promises."""
    found = record(tensor)
    values = tensor.detach()
    values = values.to(torch.complex128).abs() if values.is_complex() else values.to(torch.float64)
    values = values.numpy().ravel()
    finite = values[np.isfinite(values)]
    assert found.nan == np.isnan(values).sum()
    assert found.inf == np.isinf(values).sum()
    assert found.negative_inf == np.isneginf(values).sum()
    assert found.zeros == pytest.approx((values == 0).mean(), abs=1e-12)
    if finite.size == 0:
        assert (found.min, found.max, found.mean, found.std) == (None, None, None, None)
        return
    assert (found.min, found.max) == (finite.min(), finite.max())
    scale = max(np.abs(finite).max(), np.finfo(float).tiny)
    mean = scale * (finite / scale).mean()
    if finite.size > 1:
        std = scale * np.sqrt(((finite / scale - mean / scale) ** 2).sum() / (finite.size - 1))
        assert found.std == pytest.approx(std, rel=1e-5, abs=1e-13 * scale)
    else:
        std = 0.0
        assert found.std is None
    assert abs(found.mean - mean) <= 1e-5 * max(abs(mean), std) + 1e-15 * scale


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_statistics_equal_float64_for_every_dtype(dtype):
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 7, 1000, 5000, 70_001):
        noise = torch.randn(size, generator=generator, dtype=torch.float64) * 3
        check(
            noise.to(dtype)
            if not dtype.is_complex
            else torch.complex(noise, noise.flip(0)).to(dtype)
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mean", [0, 1, 100, 1e4, -1e4])
@pytest.mark.parametrize("size", [100, 40_000])
def test_a_small_spread_around_a_large_mean_is_exact(dtype, mean, size):
    noise = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    check((noise + mean).to(dtype))


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-20, 1e18, 1e30, 3e38])
def test_values_near_the_limits_of_float32_are_exact(scale):
    check(torch.rand(20_000, generator=torch.Generator().manual_seed(2)) * scale)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-160, 1e160, 1e308])
def test_values_near_the_limits_of_float64_are_exact(scale):
    noise = torch.rand(20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    check(noise * scale)


def test_a_sparse_row_of_equal_values_is_exact():
    tensor = torch.zeros(100_000)
    tensor[::2] = 0.1

    check(tensor)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(max_dims=3, min_side=0, max_side=40),
        elements={"allow_nan": True, "allow_infinity": True},
    )
)
@example(np.array([np.nan], np.float32))
@example(np.array([np.inf, -np.inf, 0, 1], np.float32))
def test_statistics_equal_float64_for_any_values(values):
    if values.size:
        check(torch.from_numpy(values))


def test_an_empty_tensor_has_no_mean():
    found = record(torch.empty(0, 3))

    assert (found.numel, found.mean, found.zeros, found.nan) == (0, None, None, 0)


def test_a_0d_tensor_has_a_mean_and_no_spread():
    found = record(torch.tensor(2.5))

    assert (found.shape, found.mean, found.std, found.values) == ((), 2.5, None, 2.5)


def test_an_expanded_tensor_is_measured_as_if_it_were_whole():
    tensor = torch.randn(3, 1).expand(3, 5000)

    check(tensor)
    assert record(torch.ones(1).expand(10**12)).std == 0.0


def test_a_tensor_that_is_not_contiguous_is_measured_whole():
    check(torch.randn(30, 40, 50).transpose(0, 2)[::2, :, 1:])


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.empty(3, device="meta"), "on the meta device"),
        (torch.eye(3).to_sparse(), "sparse_coo"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    ],
    ids=["meta", "sparse", "nested"],
)
def test_what_cannot_be_measured_is_blank_with_the_reason(tensor, reason):
    statistics, samples, why = measure(tensor)

    assert why == reason
    assert np.isnan(statistics).all()
    assert samples == (None, None, None)


def test_a_small_tensor_is_kept_whole():
    tensor = torch.randn(2, WHOLE // 2)

    assert record(tensor).values == tensor.tolist()


def test_of_a_large_tensor_a_bounded_corner_is_kept():
    tensor = torch.randn(64, 32, 56, 56)

    found = record(tensor)

    a, b, c, d = found.leading.shape
    assert found.leading.numel <= LEADING
    assert found.spread.numel <= WHOLE
    assert found.values == tensor[:a, :b, :c, :d].tolist()


def test_keep_says_what_is_kept():
    tensor = torch.randn(100, 100)

    assert record(tensor, keep="none").values is None
    assert record(tensor, keep="none").mean is not None
    assert record(tensor, keep="all").values == tensor.tolist()


def test_rows_are_kept_whole_where_they_are_asked_for():
    tensor = torch.randn(100, 100)

    assert record(tensor, rows=3).values == tensor[:3].tolist()
    assert record(torch.arange(9.0), rows=2).values == [0.0, 1.0]


Point = namedtuple("Point", "x y")


@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


def test_shapes_are_nested_as_the_values_are():
    one, two = torch.zeros(1), torch.zeros(2)
    cases = {
        (1,): one,
        None: "text",
        ((1,), ((2,),)): (one, [two, None]),
        ((1,), (2,)): Point(one, two),
        ((1,),): (one, None),
    }
    for shape, value in cases.items():
        assert tensors_in(value)[0] == shape
    assert tensors_in({"a": one, "b": 3})[0] == {"a": (1,)}
    assert tensors_in(OrderedDict(a=(one, two)))[0] == {"a": ((1,), (2,))}
    assert tensors_in(Output(one))[0] == {"logits": (1,)}
    assert tensors_in(torch.tensor(1.0))[0] == ()
    assert tensors_in([None, (None,)])[0] is None


def test_a_container_that_holds_itself_is_no_trap():
    value = [torch.zeros(1)]
    value.append(value)

    assert tensors_in(value)[0] == ((1,),)


def test_the_shape_of_a_call_has_its_keywords_last():
    one, two = torch.zeros(1), torch.zeros(2)

    assert tensors_of_call((one,), {})[0] == (1,)
    assert tensors_of_call((one, two), {})[0] == ((1,), (2,))
    assert tensors_of_call((one,), {"mask": two})[0] == ((1,), {"mask": (2,)})
    assert tensors_of_call((one,), {"flag": True})[0] == ((1,),)
    assert tensors_of_call((), {"x": one})[0] == ({"x": (1,)},)
    assert tensors_of_call(([one],), {})[0] == (((1,),),)
    assert tensors_of_call((), {})[0] is None


nested = st.recursive(
    st.sampled_from([None, 3, "text"]) | st.lists(st.integers(0, 3), max_size=3).map(torch.zeros),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inside, max_size=3)
    ),
    max_leaves=12,
)


@given(nested)
def test_every_tensor_of_a_nested_value_is_found_in_order(value):
    shape, tensors = tensors_in(value)

    leaves = [
        leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)
    ]
    assert {id(t) for t in tensors} == {id(t) for t in leaves}
    assert len(tensors) == len(leaves)
    assert (shape is None) == (not tensors)


@pytest.mark.parametrize(
    "shape", [(5000,), (2, 30, 40), (3, 5000), (2, 90, 91), (2, 40, 33, 35), (2, 3, 9, 20, 31)]
)
def test_a_picture_holds_the_values_of_its_grid(shape):
    tensor = torch.randn(shape)

    _, samples, _ = measure(tensor, drawn=True)

    picture = samples.picture
    values = torch.tensor(picture.sample.tolist())
    grid = tensor[tuple(slice(None, None, step) for step in picture.steps)]
    assert values.numel() <= 4096
    assert torch.equal(values, grid[tuple(slice(size) for size in values.shape)])


def test_a_thinned_measure_is_over_values_of_the_whole_tensor():
    tensor = torch.arange(100_000, dtype=torch.float32)

    statistics, samples, _ = measure(tensor, at_most=1000)

    kept = torch.tensor(samples.spread.tolist())
    assert 900 < len(kept) <= 1000
    assert statistics.mean == pytest.approx(kept.double().mean().item(), rel=1e-6)
    assert kept[-1] > 99_000
