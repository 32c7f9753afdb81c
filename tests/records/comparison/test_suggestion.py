"""A map of names that is offered where names are others."""

import json
import re

import pytest
import torch
from torch import nn

import nnmagic
from nnmagic.records.comparison.suggestion import suggested_rename


def stacked(outer, inner, last, blocks=3):
    """Return a network of blocks, and its names."""
    net = nn.Sequential()
    for i in range(blocks):
        block = nn.Sequential()
        for name, part in zip(inner, (nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU()), strict=True):
            block.add_module(name, part)
        net.add_module(outer.format(i), block)
    net.add_module(last, nn.Linear(4, 2))
    return net.eval()


def compared(mine, other, **options):
    other.load_state_dict(dict(zip(other.state_dict(), mine.state_dict().values(), strict=True)))
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    return nnmagic.trace(mine, x).compare(nnmagic.trace(other, x), **options)


@pytest.mark.parametrize(
    ("mine", "other", "rename"),
    [
        (("block_{}", "abc", "head"), ("h_{}", "abc", "head"), {"block_*": "h_*"}),
        (("block_{}", "abc", "head"), ("h_{}", "abc", "out"), {"block_*": "h_*", "head": "out"}),
        (
            ("b_{}", ("norm1", "fc1", "act"), "head"),
            ("b_{}", ("ln_1", "fc1", "act"), "head"),
            {"b_*.norm*": "b_*.ln_*"},
        ),
    ],
)
def test_numbers_become_stars_and_common_endings_go(mine, other, rename):
    comparison = compared(stacked(*mine), stacked(*other))

    found = comparison.suggested_rename

    assert found == rename
    again = compared(stacked(*mine), stacked(*other), rename=found)
    assert [pair[:2] for pair in again.pairs] == [pair[:2] for pair in comparison.pairs]
    assert {row.matched_by for row in again} <= {"rename", "name"}


def test_at_most_five_patterns_are_offered_and_a_note_can_be_copied():
    names = [f"{letter}{letter}" for letter in "abcdefgh"]
    mine, other = nn.Sequential(), nn.Sequential()
    for name in names:
        mine.add_module(name, nn.Linear(4, 4))
        other.add_module(name.upper() + "x", nn.Linear(4, 4))

    comparison = compared(mine, other)

    assert len(comparison.suggested_rename) == 5
    (note,) = (note for note in comparison.table().notes if "rename" in note)
    assert note.startswith("8 pairs matched by order")
    assert json.loads(re.search(r"rename=(.*)", note)[1]) == comparison.suggested_rename
    assert re.sub(r"\s+", " ", note) in re.sub(r"\s+", " ", str(comparison))
    assert note.replace('"', "&quot;") in comparison._repr_html_()


def test_nothing_is_offered_where_names_are_the_same_or_a_map_was_given():
    names = "b_{}", "abc", "head"

    assert compared(stacked(*names), stacked(*names)).suggested_rename == {}
    other = "c_{}", "xyz", "out"
    given = compared(stacked(*names), stacked(*other), rename={"head": "out"})
    assert given.suggested_rename == {}


def test_no_pattern_maps_a_name_wrongly():
    mine, other = nn.Sequential(), nn.Sequential()
    for name, twin in (("a.0", "x.0"), ("a.1", "x.2"), ("a.2", "x.1")):  # not x.*
        for net, path in ((mine, name), (other, twin)):
            net.add_module(path.replace(".", "_"), nn.Linear(4, 4))

    comparison = compared(mine, other)

    found = suggested_rename(comparison.mine, comparison.other, comparison.pairs)
    assert found == {"a_0": "x_0", "a_1": "x_2", "a_2": "x_1"}
