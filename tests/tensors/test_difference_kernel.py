"""How far two arrays lie apart, as machine code finds it and as NumPy does in float64."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnmagic.tensors import difference_kernel as kernels
from nnmagic.tensors.difference_kernel import apart
from nnmagic.tensors.differences import difference_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 4095, 4096, 4097, 70000])
def test_it_finds_what_float64_does(dtype, size):
    rng = np.random.default_rng(size)
    a = rng.normal(size=size).astype(dtype)
    b = (a + rng.normal(size=size) * 1e-3).astype(dtype)
    wide = a.astype(np.float64) - b

    found = apart(a, b)

    assert found.gap == pytest.approx(np.linalg.norm(wide), rel=1e-12)
    assert found.length == pytest.approx(np.linalg.norm(a.astype(np.float64)), rel=1e-12)
    assert found.other == pytest.approx(np.linalg.norm(b.astype(np.float64)), rel=1e-12)
    assert found.largest == np.abs(wide).max()
    assert found.at == np.abs(wide).argmax()


@given(
    st.lists(st.floats(width=32, min_value=-(2.0**99), max_value=2.0**99), min_size=1, max_size=40),
    st.integers(0, 2**32),
)
def test_it_finds_it_for_any_finite_values(values, seed):
    a = np.array(values, np.float32)
    b = np.random.default_rng(seed).permutation(a)

    found = apart(a, b)

    wide = np.abs(a.astype(np.float64) - b)
    assert found.largest == wide.max()
    assert found.at == wide.argmax()
    assert found.gap == pytest.approx(np.linalg.norm(wide), rel=1e-12)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 5000])
def test_it_refuses_what_is_not_finite(odd, place):
    a = np.ones(9000, np.float32)
    b = a.copy()
    b[place] = odd

    assert apart(a, b) is None
    assert apart(b, a) is None
    assert apart(b, b) is None


def test_it_refuses_what_it_cannot_read_or_square():
    a = np.ones((4, 4), np.float32)

    assert apart(a, a.astype(np.float64)) is None
    assert apart(a.T[:2], a.T[:2]) is None
    assert apart(a.astype(np.int64), a.astype(np.int64)) is None
    assert apart(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None
    assert apart(np.full(3, 1e200), np.zeros(3)) is None
    assert apart(np.full(3, 1e-200), np.zeros(3)) is None


def test_equal_arrays_have_no_gap():
    a = np.linspace(-1, 1, 5000)

    assert apart(a, a.copy())._replace(length=0, other=0) == (0, 0, 0, 0, 0)
    assert apart(np.zeros(3), np.zeros(3)) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float32", "bfloat16")])
def test_without_llvm_the_difference_is_the_same(monkeypatch, dtypes):
    a = torch.rand(70, 7000).to(getattr(torch, dtypes[0]))
    b = (a + 1e-3 * torch.rand(70, 7000)).to(getattr(torch, dtypes[1]))
    fast = difference_of(a, b)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setattr(kernels, "kernel_of", kernels.kernel_of.__wrapped__)

    slow = difference_of(a, b)

    assert apart(a.numpy(), a.numpy()) is None
    assert (slow.max_abs, slow.max_at) == (fast.max_abs, fast.max_at)
    assert slow.error == pytest.approx(fast.error, rel=1e-9)
    assert slow.cosine == pytest.approx(fast.cosine, rel=1e-9)
