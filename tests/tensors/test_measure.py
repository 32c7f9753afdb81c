import warnings
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest
import torch
from exact_statistics import COMPLEX, FLOATS, INTEGERS, check, exact, noise_of
from hypothesis import example, given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode

import nnmagic
from nnmagic.records.kept_slices import PICTURE_VALUES, WHOLE
from nnmagic.records.tensor import NOTHING_KNOWN, tensor_record
from nnmagic.tensors.measure import measure
from nnmagic.tensors.metadata import metadata_of, version_of


def record(tensor, **options):
    return tensor_record(metadata_of(tensor), *measure(tensor, **options))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX, ids=str)
@given(data=st.binary(max_size=96))
@example(data=b"")
def test_statistics_are_exact_for_any_bits_of_every_dtype(dtype, data):
    tensor = torch.empty(0, dtype=dtype)
    size = tensor.element_size()
    if len(data) >= size:
        bits = np.frombuffer(data[: len(data) // size * size], np.uint8)
        tensor = torch.tensor(bits & 1 if dtype is torch.bool else bits).view(dtype)

    check(record(tensor), exact(tensor))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + COMPLEX, ids=str)
@pytest.mark.parametrize("size", [WHOLE + 1, 5000, 140_001])
def test_statistics_of_a_large_tensor_are_exact_for_every_dtype(dtype, size):
    tensor = noise_of(dtype, size)

    check(record(tensor), exact(tensor))


@pytest.mark.parametrize("low", [2**62, -(2**63), 2**53 + 1, -5])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64], ids=str)
def test_integers_that_no_float_holds_are_exact(dtype, low):
    if dtype is torch.uint64:
        low %= 2**63
    above = [0, 1, 3, 3, 1000]
    tensor = torch.tensor([low + each for each in above], dtype=dtype)

    found = record(tensor)

    check(found, tensor.tolist())
    assert found.std == pytest.approx(np.std(above, ddof=1), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mean", [0, 1, 100, 1e4, -1e4, 1e6])
@pytest.mark.parametrize("size", [100, 20_000])
def test_a_small_spread_around_a_large_mean_is_exact(dtype, mean, size):
    noise = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tensor = (noise + mean).to(dtype)

    check(record(tensor), exact(tensor))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float32, each) for each in (1e-44, 1e-30, 1e-20, 1e18, 1e30, 3e38)]
    + [(torch.float64, each) for each in (5e-324, 1e-300, 1e-160, 1e160, 1e308)]
    + [(torch.float16, each) for each in (6e-8, 6e4)]
    + [(torch.bfloat16, each) for each in (1e-40, 3e38)],
)
def test_values_near_the_limits_of_a_dtype_are_exact(dtype, scale):
    noise = torch.rand(5000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    tensor = (noise * 2 * scale - scale).to(dtype)

    check(record(tensor), exact(tensor))


def test_an_empty_tensor_has_no_mean():
    found = record(torch.empty(0, 3))

    assert (found.numel, found.mean, found.zeros, found.nan) == (0, None, None, 0)


def test_a_0d_tensor_has_a_mean_and_no_spread():
    found = record(torch.tensor(2.5))

    assert (found.shape, found.mean, found.std, found.values) == ((), 2.5, None, 2.5)


def test_an_expanded_tensor_is_measured_as_if_it_were_whole():
    tensor = torch.randn(3, 1).expand(3, 5000)

    check(record(tensor), exact(tensor))
    assert record(torch.ones(1).expand(10**12)).std == 0.0


SHAPED = {
    "transposed": lambda: torch.randn(30, 40, 5).transpose(0, 2),
    "cut": lambda: torch.randn(30, 40, 5).transpose(0, 2)[::2, :, 1:],
    "channels last": lambda: torch.randn(2, 3, 20, 20).to(memory_format=torch.channels_last),
    "negative": lambda: torch.randn(600, 2, dtype=torch.complex64).conj().imag,
    "conjugate": lambda: torch.randn(1100, dtype=torch.complex64).conj(),
    "half, transposed": lambda: torch.randn(30, 50).half().t(),
    "bfloat16, expanded": lambda: torch.randn(3, 1).bfloat16().expand(3, 500),
    "in a graph": lambda: torch.randn(40, 40, requires_grad=True) * 2,
    "of inference mode": torch.inference_mode()(lambda: torch.randn(40, 40)),
    "mkldnn": lambda: torch.randn(40, 40).to_mkldnn(),
    "broadcast view": lambda: torch.randn(5).expand(3, 4, 5)[:, 1:],
}


@pytest.mark.parametrize("make", SHAPED.values(), ids=SHAPED)
def test_a_tensor_is_measured_whole_however_it_lies_in_memory(make):
    tensor = make()
    dense = tensor.to_dense() if tensor.is_mkldnn else tensor

    found = record(tensor)

    check(found, exact(dense.detach()))


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


class Functions(TorchFunctionMode):
    def __init__(self, seen):
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


class Logging(torch.Tensor):
    seen: ClassVar = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})


def kinds():
    noise = torch.randn(100, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            noise,
            noise[:3, :3],
            noise.t(),
            noise.bfloat16(),
            noise.to(torch.complex64),
            noise.relu().to_sparse(),
            noise.to_sparse_csr(),
            torch.nested.nested_tensor([noise, noise[:5]]),
            torch.nested.nested_tensor([noise, noise[:5]], layout=torch.jagged),
            torch.quantize_per_tensor(noise, 0.1, 0, torch.qint8),
            noise.clone().requires_grad_(),
        ]


@pytest.mark.parametrize("tensor", kinds(), ids=lambda each: f"{each.dtype}, {each.layout}")
def test_no_code_of_the_users_sees_a_measurement(tensor):
    seen = []
    with Functions(seen), Dispatches(seen):
        found = record(tensor, picture_values=PICTURE_VALUES)
        record(tensor, whole_rows=2)
        record(tensor, max_values=100)
        version_of(tensor)

    assert seen == []
    assert found.mean == record(tensor).mean


def test_a_subclass_that_logs_its_functions_sees_no_measurement():
    plain = torch.randn(100, 100)
    tensor = plain.as_subclass(Logging)
    Logging.seen.clear()

    found = record(tensor, picture_values=PICTURE_VALUES)
    version_of(tensor)

    assert Logging.seen == []
    check(found, exact(plain))


@pytest.mark.parametrize("tensor", kinds(), ids=lambda each: f"{each.dtype}, {each.layout}")
def test_a_measurement_changes_nothing(tensor):
    values = tensor._values if tensor.is_nested and tensor.layout is torch.jagged else tensor
    before = values.dequantize() if values.is_quantized else values.detach().clone()
    state = tensor._version, tensor.requires_grad, tensor.grad, tensor.layout

    for options in (
        {},
        {"keep": "all"},
        {"whole_rows": 2},
        {"picture_values": PICTURE_VALUES},
        {"max_values": 100},
    ):
        measure(tensor, **options)

    after = values.dequantize() if values.is_quantized else values.detach()
    assert (tensor._version, tensor.requires_grad, tensor.grad, tensor.layout) == state
    if tensor.is_nested and tensor.layout is torch.strided:
        before, after = torch.cat(before.unbind()), torch.cat(after.unbind())
    assert torch.equal(before.to_dense(), after.to_dense())


def test_a_coalesced_view_is_not_forced_on_a_sparse_tensor():
    tensor = torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,), check_invariants=True)

    measure(tensor)

    assert not tensor.is_coalesced()


@contextmanager
def devices(backend, store, number):
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=number)
    try:
        yield torch.distributed.device_mesh.init_device_mesh("cpu", (number,))
    finally:
        torch.distributed.destroy_process_group()


def test_a_distributed_tensor_of_which_all_is_here_is_measured():
    plain = torch.randn(6, 4)
    with devices("gloo", torch.distributed.HashStore(), 1) as mesh:
        for placement in (Shard(0), Replicate(), Partial()):
            found = record(DTensor.from_local(plain, mesh, [placement]))

            check(found, exact(plain))
            assert (found.shape, found.values) == ((6, 4), plain.tolist())


def test_of_a_distributed_tensor_the_part_that_is_here_is_measured():
    plain = torch.randn(6, 4)
    with devices("fake", FakeStore(), 2) as mesh:
        found = [
            record(DTensor.from_local(plain, mesh, [placement]))
            for placement in (Shard(0), Partial(), Replicate())
        ]

    for each in found:
        check(each, exact(plain))
        assert (each.shape, each.mesh) == ((6, 4), ((0, 2),))
    assert [each.global_shape for each in found] == [(12, 4), (6, 4), (6, 4)]
    assert [each.placements for each in found] == [
        ("Shard(0)",),
        ("Partial(sum)",),
        ("Replicate()",),
    ]


def test_distributed_tensors_are_compared_by_what_is_here_and_tied_ones_are_one():
    plain, short = torch.randn(6, 4), torch.randn(6, 4).bfloat16()
    expected = nnmagic.compare(
        {"w": plain, "v": short}, {"w": plain.bfloat16(), "v": short.float()}
    )
    with devices("fake", FakeStore(), 2) as mesh:
        w, rounded, v, wide = (
            DTensor.from_local(each, mesh, [Shard(0)])
            for each in (plain, plain.bfloat16(), short, short.float())
        )

        found = nnmagic.compare({"w": w, "v": v}, {"w": rounded, "v": wide})
        params = nnmagic.params({"w": w, "tied": w.detach(), "v": v})

    assert [row.verdict for row in found.rows] == [row.verdict for row in expected.rows]
    assert [row.rounded for row in found.rows] == [True, True]
    assert [row.tied_to for row in params.rows] == [None, "w", None]
    assert (params["w"].shape, params["w"].count, params.total) == ((12, 4), 48, 96)


@pytest.mark.parametrize(
    ("size", "left"), [(10, 0), (2000, 0), (2000, 4000), (2_000_000, 0), (2_000_000, 4000)]
)
def test_a_tensor_whose_memory_is_given_back_is_blank(size, left):
    tensor = torch.randn(size)
    tensor.untyped_storage().resize_(left)

    (found,) = nnmagic.trace(torch.nn.Identity(), tensor)[""].inputs

    assert found.unknown == "its storage was freed"
    assert found.mean is None
