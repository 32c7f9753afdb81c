from nnmagic.display.lane_glyphs import lane_glyphs
from nnmagic.display.table import Lanes


def drawn(*cells):
    return lane_glyphs([Lanes(*cell) for cell in cells])


def test_a_residual_block_reads_as_a_branch():
    found = drawn((0,), (None,), (1, (0,)), (1, (2,)), (0, (0, 3)), (0, (4,)))

    assert found == ["●", "│", "├●", "│●", "●╯", "○"]


def test_a_chain_says_nothing():
    assert drawn((0,), (0, (0,)), (None,), (0, (1,))) == ["", "", "", ""]


def test_a_lane_that_is_only_crossed_is_not_joined():
    found = drawn((0,), (1,), (2, (0,)), (0, (0, 1, 2)))

    assert found == ["●", "│●", "├│●", "○┴╯"]


def test_a_row_that_only_gets_something_is_hollow_and_the_lane_goes_on():
    assert drawn((0,), (1, (0,)), (0, (0,))) == ["●", "├○", "○"]
    assert drawn((0,), (0, (0,)), (1, (0,)), (0, (0,))) == ["●", "○", "├○", "○"]


def test_what_goes_to_a_row_above_was_made_all_the_same():
    assert drawn((0, (1,)), (1, (0,))) == ["●", "╰●"]
