from nnmagic.display.lane_glyphs import lane_glyphs
from nnmagic.display.table import Lanes


def drawn(*sources, unchanged=None):
    cells = [Lanes(each) for each in sources]
    for row, maker in (unchanged or {}).items():
        cells[row] = Lanes(cells[row].sources, maker)
    return lane_glyphs(cells)


def test_a_residual_block_reads_as_a_branch():
    found = drawn((), (), (0,), (2,), (0, 3), (4,))

    assert found == ["●", "│", "├●", "│●", "●╯", "○"]


def test_a_chain_says_nothing():
    assert drawn((), (0,), (), (1,)) == ["", "", "", ""]


def test_a_lane_that_is_only_crossed_is_not_joined():
    found = drawn((), (), (0,), (0, 1, 2))

    assert found == ["●", "│●", "├│●", "○┴╯"]


def test_a_row_that_only_gets_something_is_hollow_and_the_lane_goes_on():
    assert drawn((), (0,), (0,)) == ["●", "├○", "○"]
    assert drawn((), (0,), (0,), (0,), unchanged={1: 0}) == ["●", "○", "├○", "○"]


def test_what_goes_to_a_row_above_was_made_all_the_same():
    assert drawn((2,), (0,), (0,)) == ["●", "├○", "●"]
