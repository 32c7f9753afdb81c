"""Marks tell a tensor that was written to from one that was not, and read nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from nnmagic.tensors import marks as module
from nnmagic.tensors.marks import marks_of

SHAPES = [(), (1,), (3,), (64,), (65,), (7, 11), (784, 512), (64, 3, 7, 7)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.complex64, torch.bool]


def changed(tensor, write):
    before = marks_of([tensor])
    assert marks_of([tensor], before).values == before.values
    write(tensor)
    return marks_of([tensor], before).values != before.values


def filled(shape, dtype):
    return (torch.rand(shape) * 9 + 1).to(dtype)


@pytest.fixture(params=["machine code", "torch"])
def reader(request, monkeypatch):
    """Read values by the machine code, and as where LLVM cannot be loaded."""
    if request.param == "torch":
        monkeypatch.setattr(module, "_machine_code", lambda: None)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_write_of_a_whole_tensor_is_seen(reader, shape, dtype):
    assert changed(filled(shape, dtype), lambda tensor: tensor.data.zero_())


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.data.clamp_(-0.01, 0.01),
        lambda t: t.data.mul_(1.0001),
        lambda t: np.from_dlpack(t.detach()).fill(0),
        lambda t: t.data.copy_(torch.rand_like(t)),
    ],
)
def test_a_write_without_a_version_is_seen_in_a_weight(reader, write):
    weight = nn.Linear(784, 512).weight

    version = weight._version
    assert changed(weight, write)
    assert weight._version == version


@pytest.mark.parametrize("column", [0, 100, 448])
def test_a_write_of_some_columns_is_seen(reader, column):
    weight = torch.rand(4096, 512)

    assert changed(weight, lambda t: t.data[:, column : column + 64].zero_())


VIEWS = {
    "rows of a larger tensor": lambda flat: flat[100:300],
    "every other value": lambda flat: flat[::2],
    "transposed": lambda flat: flat[:200].view(10, 20).t(),
    "expanded": lambda flat: flat[:10].expand(7, 10),
    "overlapping, at an offset": lambda flat: flat.as_strided((500, 2), (0, 1), 998),
    "channels last": lambda flat: flat.view(2, 10, 10, 5).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_seen_to_change_by_its_own_values(reader, name):
    flat = torch.rand(1000)
    view = VIEWS[name](flat)

    of_its_own = name == "channels last"
    assert changed(view, lambda t: t.mul_(0.5) if of_its_own else flat.mul_(0.5))


def test_what_else_a_storage_holds_is_not_the_tensors(reader):
    flat = torch.rand(1000)

    assert not changed(flat[100:300], lambda t: flat[300:].zero_())


def test_a_storage_that_was_freed_or_cut_is_not_read(reader):
    freed, cut = torch.rand(1000), torch.rand(1000)
    before = marks_of([freed, cut])
    freed.untyped_storage().resize_(0)
    cut.untyped_storage().resize_(16)

    assert list(marks_of([freed, cut], before).values) == [None, None]


def test_a_tensor_that_was_read_can_be_resized(reader):
    tensor = torch.rand(1000)
    marks_of([tensor])

    tensor.untyped_storage().resize_(0)

    assert tensor.untyped_storage().nbytes() == 0


def test_what_has_no_values_has_one_mark():
    on_meta, lazy = torch.empty(3, device="meta"), nn.LazyLinear(3).weight
    marks = marks_of([on_meta, lazy, torch.rand(3)])

    assert marks_of([on_meta, lazy, torch.rand(3)]).values[:2] == marks.values[:2]
    assert None not in marks.values


class Wrapper(torch.Tensor):
    """Holds its values in two tensors, as a quantised weight does."""

    @staticmethod
    def __new__(cls, values, scale):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=scale.dtype)

    def __init__(self, values, scale):
        self.inside, self.scale = values, scale

    def __tensor_flatten__(self):
        return ["inside", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError


@pytest.mark.parametrize("part", ["inside", "scale"])
def test_a_subclass_is_read_through_the_tensors_that_it_holds(part):
    tensor = Wrapper(torch.ones(4, 4, dtype=torch.int8), torch.rand(4))

    assert changed(tensor, lambda t: getattr(t, part).zero_())
