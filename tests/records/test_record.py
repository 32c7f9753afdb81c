import numpy as np
import pytest
import torch

from nnmagic.records.record import View, leading_rows
from nnmagic.records.tensor import Sample
from nnmagic.structure.parameters import params
from nnmagic.tensors.samples import sample


def test_a_sample_gives_its_values_back_in_their_shape():
    for tensor in (
        torch.arange(6.0).view(2, 3),
        torch.arange(6).view(3, 2),
        torch.tensor([True, False]),
        torch.tensor(2.5, dtype=torch.float64),
        torch.tensor([1 + 2j, 3 - 1j]),
        torch.empty(0, 3),
        torch.tensor([0.5], dtype=torch.bfloat16),
    ):
        assert sample(tensor).tolist() == tensor.tolist()


def test_a_samples_flat_values_are_absolute_for_complex_numbers():
    assert sample(torch.tensor([3 + 4j, 0j])).flat() == [5.0, 0.0]


def test_a_sample_is_plain_bytes():
    values = np.arange(4, dtype=np.float32)

    assert Sample("f", (4,), values.tobytes()).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_rows_of_values_are_cut_after_some_entries():
    values = torch.arange(16.0).view(2, 8)

    assert leading_rows(values.tolist(), (2, 8), 1) == [
        "[0.000, 1.000, 2.000, 3.000, 4.000, 5.000, …]"
    ]
    assert leading_rows([1, 2, 3], (3,), 2) == ["[1, 2, …]"]
    assert leading_rows(1.5, (), 2) == ["1.500"]
    assert leading_rows([[[1.0], [2.0]]], (1, 2, 1), 2) == ["[[1.000], …]"]


def test_show_changes_the_display_and_not_the_record():
    record = params(torch.nn.Linear(2, 3))

    shown = record.show(layers="bias")

    assert shown == record
    assert "weight" not in str(shown)
    assert "weight" in str(record)


def test_show_refuses_what_does_not_exist():
    record = params(torch.nn.Linear(2, 3))

    with pytest.raises(TypeError, match="no display option 'colour'; there are classes, depth"):
        record.show(colour="red")
    with pytest.raises(ValueError, match="no column 'flops' to sort by; there are count, percent"):
        record.show(sort="flops")


def test_a_view_matches_dotted_names_by_patterns_that_cross_dots():
    assert View(layers=("layer1.*",)).matches("layer1.0.conv1")
    assert not View(layers=("layer1.*",)).matches("layer1")
    assert View().matches("anything")


def test_a_record_writes_a_page_of_its_own(tmp_path):
    path = tmp_path / "page.html"

    params(torch.nn.Linear(2, 3)).to_html(path)

    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
