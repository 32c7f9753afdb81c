import pytest

from nnmagic.records.ranks.rank_sets import Classes, ranks_named, ranks_text, short


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ([0], "0"),
        ([1, 0], "0, 1"),
        ([0, 1, 2, 3, 4, 5, 7], "0-5, 7"),
        ([*range(1000)], "0-999"),
        ([0, 2, 3, 4, 9, 10], "0, 2-4, 9, 10"),
        ([], ""),
    ],
)
def test_neighbouring_ranks_are_written_as_a_span(ranks, text):
    assert ranks_text(ranks) == text


def test_ranks_are_named_in_a_sentence():
    assert ranks_named([6]) == "rank 6"
    assert ranks_named([6, 1]) == "ranks 1 and 6"
    assert ranks_named([0, 1, 2, 7]) == "ranks 0-2, 7"


def test_the_ranks_that_differ_from_most_are_odd():
    classes = Classes({rank: "b" if rank == 6 else "a" for rank in range(8)})

    assert classes.classes == ((0, 1, 2, 3, 4, 5, 7), (6,))
    assert (classes.has_majority, classes.odd, classes.odd_rank) == (True, (6,), 6)
    assert classes.parting("from fc on") == "ranks 0-5, 7 equal; 6 differs from fc on"
    assert str(classes) == "0-5, 7 ≠ 6"


def test_of_two_ranks_none_is_said_to_be_right():
    classes = Classes({0: "a", 1: "b"})

    assert (classes.has_majority, classes.odd, classes.odd_rank) == (False, (), None)
    assert classes.parting("from fc on") == "ranks 0 and 1 part from fc on"


def test_halves_and_ranks_that_all_differ_have_no_odd_one():
    halves = Classes({0: "a", 1: "b", 2: "a", 3: "b"})
    lonely = Classes(dict.fromkeys(range(4)) | {rank: rank for rank in range(4)})

    assert halves.parting("here") == "ranks 0, 2 ≠ 1, 3 part here"
    assert lonely.parting("here") == "ranks 0-3 all part here"
    assert (halves.odd_rank, lonely.odd_rank) == (None, None)
    assert str(lonely) == "each differs"


def test_ranks_that_agree_are_one_class():
    classes = Classes(dict.fromkeys(range(8), "a"))

    assert (classes.agree, classes.odd, str(classes)) == (True, (), "0-7")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.03, "3e-2"), (0.3, "0.3"), (2.0, "2"), (1.4e-7, "1e-7"), (float("inf"), "inf")],
)
def test_an_error_has_one_digit(number, text):
    assert short(number) == text
