"""Any tensor: dtypes, layouts and subclasses."""

from math import inf, nan, sqrt

import torch
from torch import nn

from corpus.case import Net, case, names

VALUES = (1.0, 2.0, 3.0, 6.0)
SPREAD = {"min": 1.0, "max": 6.0, "mean": 3.0, "std": sqrt((4 + 1 + 0 + 9) / 3), "zeros": 0.0}
FULL = SPREAD | {"nan": 0, "inf": 0}
BLANK = dict.fromkeys(("min", "max", "mean", "std", "zeros", "nan", "inf"))


def _tensor(name, make_tensor, shape, stats, **truth):
    def make():
        return names(net=nn.Identity(), x=make_tensor())

    make.__name__ = name
    case(layers=("Identity",), input=shape, output=shape, stats={"": stats}, **truth)(make)


for _dtype in (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.complex64,
    torch.complex128,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
):
    _text = str(_dtype).removeprefix("torch.")
    _tensor(
        f"a_tensor_of_{_text}",
        lambda dtype=_dtype: torch.tensor(VALUES).to(dtype),
        (4,),
        FULL | {"dtype": _text, "device": "cpu"},
    )

_tensor(
    "a_tensor_of_bool",
    lambda: torch.tensor([True, False, False, False]),
    (4,),
    {"min": 0.0, "max": 1.0, "mean": 0.25, "std": 0.5, "zeros": 0.75, "dtype": "bool"},
)
_tensor(
    "a_complex_tensor_by_absolute_value",
    lambda: torch.tensor([3 + 4j, -5j]),
    (2,),
    {"min": 5.0, "max": 5.0, "mean": 5.0, "std": 0.0, "zeros": 0.0},
)
_tensor(
    "a_quantized_tensor",
    lambda: torch.quantize_per_tensor(torch.tensor(VALUES), 0.5, 0, torch.qint8),
    (4,),
    FULL | {"dtype": "qint8"},
    summary="net(x.int_repr())",
)
_tensor(
    "a_sparse_tensor",
    lambda: torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse(),
    (2, 2),
    {"min": 0.0, "max": 2.0, "mean": 0.5, "std": 1.0, "zeros": 0.75, "nan": 0},
)
_tensor(
    "a_compressed_sparse_tensor",
    lambda: torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse_csr(),
    (2, 2),
    {"min": 0.0, "max": 2.0, "mean": 0.5, "std": 1.0, "zeros": 0.75, "nan": 0},
)
_tensor("a_meta_tensor", lambda: torch.empty(3, 2, device="meta"), (3, 2), BLANK)
_tensor(
    "a_tensor_without_elements",
    lambda: torch.empty(0, 3),
    (0, 3),
    {"min": None, "max": None, "mean": None, "std": None, "zeros": None, "nan": 0, "inf": 0},
)
_tensor(
    "a_tensor_of_no_dimension",
    lambda: torch.tensor(2.5),
    (),
    {"min": 2.5, "max": 2.5, "mean": 2.5, "std": None, "zeros": 0.0},
)
_tensor(
    "an_expanded_tensor",
    lambda: torch.tensor([[0.0], [2.0]]).expand(2, 1000),
    (2, 1000),
    {"mean": 1.0, "std": sqrt(2000 / 1999), "zeros": 0.5},
)
_tensor(
    "a_tensor_that_is_not_contiguous",
    lambda: torch.tensor([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0], [6.0, 9.0]])[:, 0],
    (4,),
    FULL,
)
_tensor(
    "a_tensor_with_nan_and_inf",
    lambda: torch.tensor([*VALUES, nan, inf, -inf, nan]),
    (8,),
    SPREAD | {"nan": 2, "inf": 2},
)
_tensor(
    "a_tensor_far_from_zero",
    lambda: torch.tensor([10_000.0, 10_001.0, 9_999.0]),
    (3,),
    {"mean": 10_000.0, "std": 1.0},
)
_tensor(
    "a_tensor_at_the_limit_of_its_dtype",
    lambda: torch.tensor([3e38, -3e38]),
    (2,),
    {"mean": 0.0, "std": sqrt(2) * float(torch.tensor(3e38)), "inf": 0},
)
_tensor(
    "a_tensor_of_denormals",
    lambda: torch.tensor([0.0, 2.0**-149, 2.0**-148, 2.0**-149]),
    (4,),
    {"min": 0.0, "max": 2.0**-148, "mean": 2.0**-149, "zeros": 0.25},
)


class Tagged(torch.Tensor):
    """A subclass that stays one through every function."""


_tensor(
    "a_tensor_of_a_subclass",
    lambda: torch.tensor(VALUES).as_subclass(Tagged),
    (4,),
    FULL,
)


@case(
    layers=("Net",),
    input=({"a": (3,)},),
    expression="net({'a': x})",
    output={"ids": (3,), "scores": (2,)},
    stats={"": {"dtype": "float32", "mean": 0.5}},
)
def statistics_are_of_the_first_floating_tensor():
    net = Net(lambda net, d: {"ids": d["a"].argsort(), "scores": torch.full((2,), 0.5)})
    return names(net=net, x=torch.rand(3))


@case(
    layers=("Identity",),
    input=(2, None),
    output=(2, None),
    stats={"": {"mean": 3.0, "std": sqrt((4 + 1 + 0 + 1 + 4) / 4), "nan": 0}},
)
def a_nested_tensor():
    x = torch.nested.nested_tensor([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0])])
    return names(net=nn.Identity(), x=x)
