from hypothesis import given
from hypothesis import strategies as st

from nnmagic.display.lanes import assigned


@st.composite
def graphs(draw):
    """For each row the rows that it gets something from, mostly above it."""
    count = draw(st.integers(1, 25))
    rows = st.integers(0, count - 1)
    found = [draw(st.frozensets(rows, max_size=4)) - {row} for row in range(count)]
    unchanged = {
        row: draw(st.sampled_from(sorted(above)))
        for row, sources in enumerate(found)
        if (above := {each for each in sources if each < row}) and draw(st.booleans())
    }
    used = set().union(*found)
    return found, {row: source for row, source in unchanged.items() if row not in used}


def runs(sources):
    """The rows between which each row's output has a lane: where it is made, and the last use."""
    last = {each: row for row, found in enumerate(sources) for each in found if each < row}
    return sorted(last.items())


@given(graphs())
def test_no_two_outputs_that_are_still_needed_share_a_lane(graph):
    sources, unchanged = graph

    lanes = assigned(sources, unchanged)

    for made, end in runs(sources):
        assert lanes[made] is not None
        for other, other_end in runs(sources):
            if other != made and lanes[other] == lanes[made]:
                assert end <= other or other_end <= made


@given(graphs())
def test_a_mark_lies_on_no_lane_but_its_own_or_that_of_what_it_returns(graph):
    sources, unchanged = graph

    lanes = assigned(sources, unchanged)

    for row, lane in enumerate(lanes):
        through = [made for made, end in runs(sources) if made < row < end and lanes[made] == lane]
        if lane is None:
            assert row not in set().union(*sources)
            assert not any(each < row for each in sources[row])
        elif through:
            assert through == [unchanged.get(row)]


def test_a_chain_is_one_straight_line():
    assert assigned([[], [0], [1], [2]]) == [0, 0, 0, 0]


def test_a_residual_runs_beside_what_is_added_to_it():
    assert assigned([[], [0], [1], [0, 2], [3]]) == [0, 1, 1, 0, 0]


def test_a_lane_that_is_free_again_is_used_again():
    assert assigned([[], [], [0, 1], [2], [], [3, 4]]) == [0, 1, 0, 0, 1, 0]


def test_a_row_that_returns_what_it_got_lies_on_its_lane():
    assert assigned([[], [0], [0]], {1: 0}) == [0, 0, 0]
    assert assigned([[], [0], [0]]) == [0, 1, 0]


def test_what_no_row_gets_and_gets_nothing_has_no_mark():
    assert assigned([[], [], [1]]) == [None, 0, 0]


def test_what_goes_to_a_row_above_has_a_mark_and_no_lane():
    assert assigned([[1], [], []]) == [None, 0, None]
