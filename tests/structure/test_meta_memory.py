"""What is remembered of an operation on the meta device is what torch's own kernel gives."""

import pytest
import torch
from meta_tensors import LAST, ROWS, X, empty, form, run

from nnmagic.structure.meta_cache import MetaCache, MetaMode

aten = torch.ops.aten


def remembered(op, *args, **kwargs):
    """What an operation gives for the third time."""
    kernels = MetaCache()
    for _ in range(2):
        run(kernels, op, args, kwargs)
    return run(kernels, op, args, kwargs)


@pytest.mark.parametrize(
    ("op", "args", "kwargs"),
    [
        (aten._softmax.default, (X, 1, False), {}),
        (aten.max_pool2d_with_indices.default, (LAST, [3, 3], [2, 2], [1, 1]), {}),
        (aten.pow.Tensor_Scalar, (X, 2), {}),
        (aten.sum.dim_IntList, (ROWS, [0]), {"dtype": torch.float64}),
        (aten.arange.default, (7,), {"device": torch.device("meta")}),
        (aten.sort.default, (ROWS,), {}),
        (aten.cumsum.default, (torch.zeros(3, dtype=torch.bool, device="meta"), 0), {}),
        (aten.embedding.default, (ROWS, torch.zeros(2, 3, dtype=torch.int64, device="meta")), {}),
        (aten._unsafe_view.default, (X, [6, 25]), {}),
        (aten.view.default, (X, [6, 25]), {}),
        (aten.clone.default, (X.permute(0, 2, 3, 1),), {}),
        (aten.cat.default, ([LAST, LAST], 1), {}),
        (aten.gelu.default, (X,), {"approximate": "tanh"}),
        (aten.split.Tensor, (X, 2, 1), {}),
    ],
    ids=str,
)
def test_what_is_remembered_has_the_form_that_torch_gives(op, args, kwargs):
    assert form(remembered(op, *args, **kwargs)) == form(op(*args, **kwargs))


@pytest.mark.parametrize("others", [(1, 1.0, True), (1.0, True, 1), (True, 1, 1.0)])
def test_numbers_that_are_equal_are_remembered_apart(others):
    kernels, x = MetaCache(), torch.zeros(3, dtype=torch.bool, device="meta")

    found = [run(kernels, aten.add.Tensor, (x, other)).dtype for other in others]

    assert found == [aten.add.Tensor(x, other).dtype for other in others]


def test_a_result_that_is_remembered_is_a_tensor_of_its_own():
    kernels = MetaCache()

    first, second = (run(kernels, aten._softmax.default, (X, 1, False)) for _ in range(2))

    assert first.untyped_storage()._cdata != second.untyped_storage()._cdata


def test_a_view_stays_a_view():
    view = remembered(aten._unsafe_view.default, X, [6, 25])

    assert view.untyped_storage()._cdata == X.untyped_storage()._cdata


def test_an_operation_in_place_returns_its_tensor_whatever_it_does_to_its_form():
    counted = torch.zeros((), dtype=torch.int64, device="meta")
    kernels = MetaCache()
    for _ in range(3):
        turned, grown = empty((2, 3)), empty((2,))

        assert run(kernels, aten.add_.Tensor, (counted, 1)) is counted
        assert run(kernels, aten.t_.default, (turned,)) is turned
        assert run(kernels, aten.resize_.default, (grown, [5])) is grown
        assert (turned.shape, grown.shape) == ((3, 2), (5,))


def test_values_are_never_remembered():
    x = torch.rand(3)

    found = remembered(aten.cumsum.default, x, 0)

    assert torch.equal(found, x.cumsum(0))


def test_the_default_dtype_is_remembered_with_the_rest():
    kernels, x = MetaCache(), torch.zeros(3, dtype=torch.int64, device="meta")
    usual = torch.get_default_dtype()
    dtypes = [run(kernels, aten.sigmoid.default, (x,)).dtype]

    torch.set_default_dtype(torch.float64)
    try:
        dtypes.append(run(kernels, aten.sigmoid.default, (x,)).dtype)
    finally:
        torch.set_default_dtype(usual)

    assert dtypes == [torch.float32, torch.float64]


def test_tensors_of_a_subclass_are_left_to_it():
    class Doubled(torch.Tensor):
        """A tensor whose operations give twice as many rows."""

        @staticmethod
        def __new__(cls, inner):
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, device="meta")

        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            return empty((2 * args[0].shape[0], *args[0].shape[1:]))

    with MetaMode(MetaCache()):
        assert torch.relu(Doubled(empty((2, 3)))).shape == (4, 3)
