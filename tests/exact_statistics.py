"""Independent truth for statistics: exact fractions of a tensor's values."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch

INTEGERS = [
    torch.bool,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]
FLOATS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
]
COMPLEX = [torch.complex32, torch.complex64, torch.complex128]

EXPONENTS_ONLY = getattr(torch, "float8_e8m0fnu", None)
if EXPONENTS_ONLY is not None:
    FLOATS.append(EXPONENTS_ONLY)


def exact(tensor):
    """Return the values as Python numbers, which lose nothing; complex ones by absolute value."""
    if tensor.is_complex():
        return tensor.to(torch.complex128).abs().reshape(-1).tolist()
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    return tensor.reshape(-1).tolist()


def moments(values):
    """Return mean and standard deviation as fractions, of many values from exact float sums."""
    if len(values) > 2000:
        scale = max(map(abs, values)) or 1
        mean = math.fsum(value / scale for value in values) / len(values)
        squares = math.fsum((value / scale - mean) ** 2 for value in values)
        std = math.sqrt(squares / (len(values) - 1))
        return Fraction(mean) * Fraction(scale), Fraction(std) * Fraction(scale)
    exactly = [Fraction(value) for value in values]
    mean = sum(exactly) / len(exactly)
    if len(values) == 1:
        return mean, Fraction(0)
    variance = sum((value - mean) ** 2 for value in exactly) / (len(exactly) - 1)
    with localcontext(prec=40):
        std = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
    return mean, Fraction(std)


def check(found, values):
    """Compare a record with fractions, to the exactness that the documentation promises."""
    finite = [value for value in values if math.isfinite(value)]
    assert found.nan == sum(map(math.isnan, values))
    assert found.inf == sum(map(math.isinf, values))
    assert found.negative_inf == values.count(-math.inf)
    if not values:
        assert found.zeros is None
    else:
        assert found.zeros == pytest.approx(values.count(0) / len(values), abs=1e-12)
    if not finite:
        assert (found.min, found.max, found.mean, found.std) == (None, None, None, None)
        return
    assert (found.min, found.max) == (float(min(finite)), float(max(finite)))
    mean, std = moments(finite)
    least = Fraction(5e-324)
    assert abs(Fraction(found.mean) - mean) <= max(abs(mean), std) / 10**5 + least
    if len(finite) == 1 or std > Fraction(1.79e308):
        assert found.std is None
    else:
        assert abs(Fraction(found.std) - std) <= std / 10**5 + least


def noise_of(dtype, size):
    """Return noise in one dimension that a dtype can hold."""
    generator = torch.Generator().manual_seed(0)
    noise = 3 * torch.randn(size, generator=generator, dtype=torch.float64)
    if dtype.is_complex:
        return torch.complex(noise, noise.flip(0)).to(dtype)
    if dtype in (torch.bool, torch.float8_e4m3fn) or dtype in INTEGERS:
        return noise.abs().to(torch.int64).to(dtype)
    return noise.to(dtype)
