import pytest
import torch

from nnmagic.records.kept_slices import LEADING, PICTURE_VALUES, WHOLE
from nnmagic.records.tensor import tensor_record
from nnmagic.tensors.measure import first_items, measure
from nnmagic.tensors.metadata import metadata_of
from nnmagic.tensors.samples import restored


def record(tensor, **options):
    return tensor_record(metadata_of(tensor), *measure(tensor, **options))


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

    assert record(tensor, whole_rows=3).values == tensor[:3].tolist()
    assert record(torch.arange(9.0), whole_rows=2).values == [0.0, 1.0]


@pytest.mark.parametrize(
    "shape",
    [
        (5000,),
        (50_000,),
        (2, 30, 40),
        (3, 20_000),
        (20_000, 3),
        (2, 190, 191),
        (2, 40, 66, 70),
        (9, 3, 9, 20, 31),
    ],
)
def test_a_picture_holds_the_values_of_its_grid(shape):
    tensor = torch.randn(shape)

    _, samples, _ = measure(tensor, picture_values=PICTURE_VALUES)

    picture = samples.picture
    values = torch.tensor(picture.sample.tolist())
    grid = tensor[tuple(slice(None, None, step) for step in picture.steps)]
    assert values.numel() <= PICTURE_VALUES
    assert torch.equal(values, grid[tuple(slice(size) for size in values.shape)])


def test_a_thinned_measure_is_over_values_of_the_whole_tensor():
    tensor = torch.arange(100_000, dtype=torch.float32)

    statistics, samples, _ = measure(tensor, max_values=1000)

    kept = torch.tensor(samples.spread.tolist())
    assert 900 < len(kept) <= 1000
    assert statistics.mean == pytest.approx(kept.double().mean().item(), rel=1e-6)
    assert kept[-1] > 99_000


def test_the_first_items_are_as_many_as_fit():
    tensor = torch.randn(10, 20).half()

    assert first_items(tensor, 70).tolist() == tensor[:3].float().tolist()
    assert first_items(tensor, 200).shape == (10, 20)
    assert first_items(tensor, 19) is None
    assert first_items(torch.tensor(3), 1).tolist() == 3
    assert first_items(torch.ones(3, device="meta"), 9) is None
    assert first_items(torch.empty(0, 3), 9).shape == (0, 3)


@pytest.mark.parametrize("keep", ["sample", "all"])
def test_samples_of_a_nested_tensor_are_spread_over_its_components(keep):
    parts = [torch.arange(3.0), torch.arange(5.0, 2005.0)]
    nested = torch.nested.nested_tensor(parts, layout=torch.jagged)

    found = record(nested, keep=keep)

    assert found.leading is None
    assert found.spread.flat() == torch.cat(parts)[::3].tolist()


@pytest.mark.parametrize(
    "tensor",
    [torch.randn(3, 4), torch.randn(3).to(torch.complex64), torch.randn(4).bfloat16()],
    ids=lambda each: str(each.dtype),
)
def test_a_tensor_can_be_restored_from_a_whole_sample(tensor):
    found = record(tensor)

    assert torch.equal(restored(found.leading, metadata_of(tensor)), tensor)
