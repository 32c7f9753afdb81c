"""The rules against torch's own kernels on meta, for whatever they claim."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meta_tensors import LAST, ROWS, X, empty, form, outcome
from torch import nn

from nnmagic.structure import meta_rules
from nnmagic.structure.meta_cache import MetaCache, MetaMode
from nnmagic.structure.meta_rules import RULES

aten = torch.ops.aten

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

LAYOUTS = ("new", "new", "channels last", "permuted", "sliced", "expanded", "odd")


@st.composite
def laid_out(draw, shape, dtype):
    """A tensor of a shape, laid out in one of the ways that tensors are in networks."""
    layout = draw(st.sampled_from(LAYOUTS))
    if layout == "channels last" and len(shape) == 4:
        return empty(shape, dtype, memory_format=torch.channels_last)
    if layout == "permuted":
        order = draw(st.permutations(range(len(shape))))
        back = [order.index(axis) for axis in range(len(shape))]
        return empty([shape[axis] for axis in order], dtype).permute(back)
    if layout == "sliced":
        return empty([n + 1 for n in shape], dtype)[tuple(slice(n) for n in shape)]
    if layout == "expanded":
        return empty([draw(st.sampled_from((1, n))) for n in shape], dtype).expand(shape)
    new = empty(shape, dtype)
    if layout == "odd":  # a stride of a single value says nothing, and kernels differ in it
        odd = [7 if n == 1 else stride for n, stride in zip(shape, new.stride(), strict=True)]
        return torch.empty_strided(shape, odd, dtype=dtype, device="meta")
    return new


def shapes(fewest=0, most=5, sizes=(0, 1, 1, 2, 3, 4)):
    return st.lists(st.sampled_from(sizes), min_size=fewest, max_size=most)


@st.composite
def one_tensor(draw):
    return (draw(laid_out(draw(shapes()), draw(st.sampled_from(FLOATS)))),)


@st.composite
def two_tensors(draw):
    shape, dtype = draw(shapes()), draw(st.sampled_from(FLOATS))
    small = [draw(st.sampled_from((1, n, n))) for n in shape][draw(st.integers(0, len(shape))) :]
    other = draw(st.sampled_from((shape, small)))
    x, y = draw(laid_out(shape, dtype)), draw(laid_out(other, dtype))
    return draw(st.sampled_from(((x, y), (y, x), (x, 2), (x, 0.5))))


@st.composite
def a_tensor_and_a_number(draw):
    return *draw(one_tensor()), draw(st.sampled_from((2, 0.5)))


@st.composite
def added_matrices(draw):
    m, k, n = (draw(st.sampled_from((0, 1, 2, 3))) for _ in range(3))
    dtype = draw(st.sampled_from(FLOATS))
    return [draw(laid_out(shape, dtype)) for shape in ([n], [m, k], [k, n])]


@st.composite
def convolved(draw):
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    one_or_two = st.integers(1, 2)
    dtype = draw(st.sampled_from(FLOATS))

    def each(values):
        return [draw(st.sampled_from(values)) for _ in range(axes)]

    inside, out = draw(one_or_two), groups * draw(one_or_two)
    x = draw(laid_out([draw(one_or_two), groups * inside, *each((1, 2, 5, 6))], dtype))
    weight = draw(laid_out([out, inside, *each((1, 2, 3))], dtype))
    bias = draw(st.sampled_from((None, draw(laid_out([out], dtype)))))
    steps = each((1, 2)), each((0, 1)), each((1, 2))
    return x, weight, bias, *steps, False, [0] * axes, groups


@st.composite
def batch_normed(draw):
    x = draw(laid_out(draw(shapes(2, 5, (1, 2, 3))), draw(st.sampled_from(FLOATS))))
    training = draw(st.booleans())
    weight, bias, mean, variance = (draw(laid_out([x.shape[1]], x.dtype)) for _ in range(4))
    if draw(st.booleans()):
        weight = bias = None
    if training and (x.numel() == x.shape[1] or draw(st.booleans())):
        mean = variance = None
    return x, weight, bias, mean, variance, training, 0.1, 1e-5


@st.composite
def layer_normed(draw):
    shape = draw(shapes(1, 5, (1, 2, 3)))
    last = shape[-draw(st.integers(1, len(shape))) :]
    dtype = draw(st.sampled_from(FLOATS))
    weight, bias = (draw(st.sampled_from((None, draw(laid_out(last, dtype))))) for _ in "wb")
    return draw(laid_out(shape, dtype)), last, weight, bias, 1e-5


@st.composite
def averaged(draw):
    x = draw(laid_out(draw(shapes(1)), draw(st.sampled_from(FLOATS))))
    axes = draw(st.permutations(range(x.dim())))[: draw(st.integers(1, x.dim()))]
    return x, [axis - draw(st.sampled_from((0, x.dim()))) for axis in axes], draw(st.booleans())


@st.composite
def joined(draw):
    shape, dtype = draw(shapes(1)), draw(st.sampled_from(FLOATS))
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    parts = [[*shape[:axis], size, *shape[axis + 1 :]] for size in sizes]
    tensors = [draw(laid_out(part, dtype)) for part in parts]
    return tensors, axis - draw(st.sampled_from((0, len(shape))))


ARGUMENTS = {
    meta_rules._unary: one_tensor(),
    meta_rules._in_place: one_tensor(),
    meta_rules._binary: two_tensors(),
    meta_rules._added_matrix_product: added_matrices(),
    meta_rules._convolution: convolved(),
    meta_rules._batch_norm: batch_normed(),
    meta_rules._layer_norm: layer_normed(),
    meta_rules._mean: averaged(),
    meta_rules._cat: joined(),
}


def arguments_of(op):
    scalar = op._overloadname == "Scalar"
    return a_tensor_and_a_number() if scalar else ARGUMENTS[RULES[op]]


# grouped products have no kernel on meta in these dtypes; their rule is held against the CPU's
ON_META = [op for op, rule in RULES.items() if rule is not meta_rules._grouped_product]


@pytest.mark.parametrize("op", ON_META, ids=str)
@settings(max_examples=settings.default.max_examples // 2)  # many have the same rule
@given(st.data())
def test_what_a_rule_gives_is_what_torchs_kernel_gives(op, data):
    args = data.draw(arguments_of(op))

    found = RULES[op](*args)

    if found is not NotImplemented:
        expected = op(*args)
        assert form(found) == form(expected)
        assert (found is args[0]) == (expected is args[0])


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (aten.relu.default, (X,)),
        (aten.hardswish.default, (LAST,)),
        (aten.silu_.default, (LAST,)),
        (aten.add.Tensor, (X, X)),
        (aten.mul.Tensor, (empty((3, 1, 1)), LAST)),
        (aten.mul.Tensor, (X, empty((2, 3, 1, 1)))),
        (aten.mul.Scalar, (X, 0.125)),
        (aten.addmm.default, (empty((4,)), ROWS, ROWS.t())),
        (
            aten.convolution.default,
            (X, empty((6, 3, 3, 3)), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        ),
        (aten.native_batch_norm.default, (X, *[empty((3,))] * 4, False, 0.1, 1e-5)),
        (aten.native_batch_norm.default, (LAST, *[empty((3,))] * 4, True, 0.1, 1e-5)),
        (aten.native_layer_norm.default, (ROWS, [6], empty((6,)), empty((6,)), 1e-5)),
        (aten.native_layer_norm.default, (X.permute(0, 2, 3, 1), [3], None, None, 1e-5)),
        (aten.mean.dim, (X, [-1, -2], True)),
        (aten.cat.default, ([X, X], 1)),
    ],
    ids=lambda value: str(value) if not isinstance(value, tuple) else "",
)
def test_a_rule_claims_what_networks_do(op, args):
    assert RULES[op](*args) is not NotImplemented


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.rand(2, 3),
        lambda: torch.zeros(2, 3, dtype=torch.int64, device="meta"),
        lambda: torch.zeros(2, 3, dtype=torch.complex64, device="meta"),
        lambda: torch.sparse_coo_tensor(size=(2, 3), device="meta"),
    ],
    ids=["on the CPU", "integers", "complex", "sparse"],
)
def test_a_rule_claims_only_floats_on_meta(make):
    x = make()

    assert RULES[aten.relu.default](x) is NotImplemented
    assert RULES[aten.relu_.default](x) is NotImplemented
    assert RULES[aten.mul.Tensor](x, 2) is NotImplemented
    assert RULES[aten.mul.Tensor](empty((2, 3)), x) is NotImplemented
    assert RULES[aten.addmm.default](empty((2,)), x, empty((3, 2))) is NotImplemented
    assert RULES[aten.cat.default]([x, x]) is NotImplemented


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(4, 3), (2, 5)),
        (nn.Conv2d(3, 4, 3), (2, 5, 8, 8)),
        (nn.Conv2d(3, 4, 9), (2, 3, 8, 8)),
        (nn.BatchNorm2d(3), (2, 5, 8, 8)),
        (nn.BatchNorm1d(3).train(), (1, 3)),
        (nn.LayerNorm(4), (2, 5)),
        (nn.Bilinear(2, 3, 4), (2, 2)),
    ],
    ids=str,
)
def test_what_does_not_fit_ends_as_it_does_without_rules(layer, shape):
    layer = copy.deepcopy(layer).to("meta")
    inputs = [empty(shape)] * (2 if isinstance(layer, nn.Bilinear) else 1)
    expected = outcome(layer, inputs)

    with MetaMode(MetaCache()):
        found = outcome(layer, inputs)

    assert found == expected
