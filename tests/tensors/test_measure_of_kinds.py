"""Tensors that are no plain array of numbers: sparse, nested, quantised, without values."""

import numpy as np
import pytest
import torch
from exact_statistics import check, exact
from measured import record
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

import nnmagic
from nnmagic.records.tensor import NOTHING_KNOWN
from nnmagic.tensors.measure import measure

SPARSE = {
    "coo": lambda dense: dense.to_sparse(),
    "csr": lambda dense: dense.to_sparse_csr(),
    "csc": lambda dense: dense.to_sparse_csc(),
    "bsr": lambda dense: dense.to_sparse_bsr((2, 2)),
    "bsc": lambda dense: dense.to_sparse_bsc((2, 2)),
    "hybrid": lambda dense: dense.to_sparse(1),
    "twice at one place": lambda dense: torch.sparse_coo_tensor(
        torch.cat([dense.nonzero().t()] * 2, 1),
        torch.cat([dense[dense != 0] / 2] * 2),
        dense.shape,
        check_invariants=True,
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("sides", [(6, 8), (300, 400)])
@pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE)
def test_zeros_that_a_sparse_tensor_does_not_store_count(make, sides):
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(sides, generator=generator) * (torch.rand(sides, generator=generator) < 0.1)

    found = record(make(dense))

    check(found, exact(dense))
    assert found.shape == sides


def test_the_stored_values_of_a_large_sparse_tensor_are_not_shown_as_its_distribution():
    small, large = record(torch.eye(4).to_sparse()), record(torch.eye(400).to_sparse())

    assert small.values == torch.eye(4).tolist()
    assert (large.mean, large.values, large.histogram) == (1 / 400, None, None)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_a_nested_tensor_is_measured_over_its_components(layout):
    parts = [torch.randn(2, 5), torch.randn(700, 5)]

    found = record(torch.nested.nested_tensor(parts, layout=layout))

    check(found, exact(torch.cat(parts)))
    assert (found.shape, found.numel, found.dtype) == ((2, None, 5), 3510, "float32")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_nested_tensor_with_gaps_is_measured_without_them():
    starts, lengths = torch.tensor([0, 1, 2]), torch.tensor([2, 3, 4])
    rows = torch.arange(24.0).view(3, 8)

    nested = torch.nested.narrow(rows, 1, starts, lengths, layout=torch.jagged)

    check(record(nested), [0, 1, 9, 10, 11, 18, 19, 20, 21])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("by_channel", [False, True])
def test_a_quantised_tensor_has_the_values_that_it_stands_for(by_channel):
    noise, scales = torch.randn(40, 50), torch.linspace(0.1, 0.3, 40)
    if by_channel:
        tensor = torch.quantize_per_channel(noise, scales, torch.zeros(40), 0, torch.qint8)
    else:
        tensor = torch.quantize_per_tensor(noise, 0.1, 3, torch.quint8)

    check(record(tensor), exact(tensor.dequantize()))


@pytest.mark.parametrize("name", ["uint4", "int3", "bits8", "float4_e2m1fn_x2"])
def test_a_dtype_without_arithmetic_is_blank_with_the_reason(name):
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f"this torch has no {name}")
    tensor = torch.arange(4, dtype=torch.uint8).view(dtype)

    statistics, samples, why = measure(tensor)

    assert np.isnan(statistics).all()
    assert samples == (None, None, None)
    assert name.replace("_", "") in why.lower().replace("_", "")


def test_a_meta_or_a_fake_tensor_is_blank_with_the_reason():
    fake = FakeTensorMode().from_tensor(torch.ones(3))
    functional = torch._to_functional_tensor(torch.ones(3))

    assert measure(torch.empty(3, device="meta"))[2] == "on the meta device"
    assert measure(fake)[2] == "a FakeTensor hides its values"
    assert measure(functional)[2] == "a functional tensor"
    assert measure(functional)[0] is NOTHING_KNOWN


def transform_cases():
    def over_rows(layer):
        torch.func.vmap(layer)(torch.ones(3, 4))

    def gradient(layer):
        torch.func.grad(lambda x: layer(x).sum())(torch.ones(3, 4))

    def forward_gradient(layer):
        torch.func.jvp(layer, (torch.ones(3, 4),), (torch.ones(3, 4),))

    def functionalized(layer):
        torch.func.functionalize(layer)(torch.ones(3, 4))

    return [over_rows, gradient, forward_gradient, functionalized]


@pytest.mark.parametrize("transform", transform_cases())
def test_a_tensor_inside_a_transform_is_blank_and_one_from_outside_is_not(transform):
    outside, seen = torch.arange(5000.0), []

    def layer(x):
        seen.append((measure(x), record(outside)))
        return x * 2

    transform(layer)

    (statistics, _, why), known = seen[0]
    assert why in ("inside a torch.func transform", "a functional tensor")
    assert np.isnan(statistics).all()
    assert known.max == 4999


class Refusing(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError("not me")


def test_a_subclass_that_refuses_every_function_is_blank_with_the_reason():
    found = record(torch.Tensor._make_subclass(Refusing, torch.randn(3, 4)))

    assert (found.shape, found.dtype, found.mean) == ((3, 4), "float32", None)
    assert found.unknown == "a Refusing refuses every function"


def test_a_subclass_without_memory_of_its_own_is_blank_with_the_reason():
    one = torch.ones(3)

    found = record(TwoTensor(one, one))

    assert (found.shape, found.mean, found.unknown) == (
        (3,),
        None,
        "a TwoTensor hides its values",
    )


@pytest.mark.parametrize(
    ("size", "left"), [(10, 0), (2000, 0), (2000, 4000), (2_000_000, 0), (2_000_000, 4000)]
)
def test_a_tensor_whose_memory_is_given_back_is_blank(size, left):
    tensor = torch.randn(size)
    tensor.untyped_storage().resize_(left)

    (found,) = nnmagic.trace(torch.nn.Identity(), tensor)[""].inputs

    assert found.unknown == "its storage was freed"
    assert found.mean is None
