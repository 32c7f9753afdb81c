from hypothesis import given
from hypothesis import strategies as st

from nnmagic.display.lines import aligned, clipped, width_of
from nnmagic.display.table import (
    Column,
    Histogram,
    Pair,
    Row,
    Table,
    bounded,
    parents_of,
    with_ancestors,
)

LABEL = Column(title="layer")


def draw(histogram):
    return "#" * len(histogram.counts)


NUMBER = Column(title="n", right=True)


def table(*rows, columns=(NUMBER,)):
    return Table(heading="h", label=LABEL, columns=columns, rows=rows)


def test_rows_are_drawn_as_a_tree_with_aligned_columns():
    rows = [
        Row(label="net", cells=("10",)),
        Row(label="a", level=1, cells=("1",)),
        Row(label="b", level=2, cells=("200",)),
        Row(label="c", level=1),
        Row(label="other", cells=("7",)),
    ]

    drawn = aligned(table(*rows), draw)

    assert drawn.header == "layer      n"
    assert drawn.lines == (
        "net       10",
        "├─ a       1",
        "│  └─ b  200",
        "└─ c",
        "other      7",
    )


def test_pairs_are_aligned_at_their_joiner():
    rows = [
        Row(label="a", cells=(Pair("1.0", "±", "10.0"),)),
        Row(label="b", cells=(Pair("-12.0", "±", "2.0"),)),
        Row(label="c", cells=(Pair("3.0", "±", ""),)),
    ]

    drawn = aligned(table(*rows), draw)

    assert drawn.lines == ("a        1.0 ± 10.0", "b      -12.0 ±  2.0", "c        3.0")


def test_where_room_is_short_columns_go_by_rank_then_text_is_cut():
    columns = (
        Column(title="first", least=6),
        Column(title="second", rank=1),
        Column(title="third", rank=2),
    )
    wide = table(Row(label="x" * 20, cells=("abcdefghij", "222222", "333333")), columns=columns)

    assert aligned(wide, draw, 60).header.split() == ["layer", "first", "second", "third"]
    assert aligned(wide, draw, 40).header.split() == ["layer", "first", "second"]
    assert aligned(wide, draw, 32).lines == ("xxxxxxxxxxxxxxxxxxxx  abcdefghij",)
    assert aligned(wide, draw, 26).lines == ("xxxxxxxxxxxxxxxxx…  abcde…",)


def test_a_message_stands_in_place_of_the_numbers():
    columns = (Column(title="type"), Column(title="n", right=True))
    rows = Row(label="a", cells=("Linear", "1")), Row(label="b", cells=("ReLU",), message="FAILED")

    assert aligned(table(*rows, columns=columns), draw).lines == (
        "a      Linear  1",
        "b      ReLU    FAILED",
    )


def test_wide_characters_take_two_places():
    assert width_of("层") == 2
    assert clipped("层层层", 5) == "层层…"


def test_a_histogram_counts_what_lies_in_its_range():
    histogram = Histogram.of([0.0, 0.05, 0.95, 1.0, 7.0, float("nan")], 0.0, 1.0)

    assert histogram.counts == (2, 0, 0, 0, 0, 0, 0, 0, 0, 2)


def test_the_zero_of_a_histogram_is_where_it_lies_in_the_range():
    assert Histogram((1,) * 10, -1.0, 1.0).zero == 5
    assert Histogram((1,) * 10, 0.0, 1.0).zero == 0
    assert Histogram((1,) * 10, 0.1, 1.0).zero is None


def test_a_bounded_table_keeps_what_is_needed_and_its_ancestors():
    levels = [0, 1, 2, 2, 1, 2, 2]

    assert bounded(levels, [6], 4) == [0, 1, 4, 6]
    assert bounded(levels, [], 3) == [0, 1, 4]
    assert bounded(levels, range(7), 100) == list(range(7))


def test_what_is_kept_is_shown_with_its_ancestors_dimmed():
    rows = [
        Row(label=str(i), level=level, cells=("t", "1")) for i, level in enumerate([0, 1, 2, 1])
    ]

    shown = with_ancestors(rows, lambda i: i == 2, always=lambda i: False)

    assert [(row.label, row.dimmed, row.cells) for row in shown] == [
        ("0", True, ("t",)),
        ("1", True, ("t",)),
        ("2", False, ("t", "1")),
    ]


def nested_levels(draws):
    levels = [0]
    for step in draws:
        levels.append(max(0, min(levels[-1] + 1, levels[-1] + step)))
    return levels


@given(st.lists(st.integers(-3, 1), max_size=40), st.data(), st.integers(1, 20))
def test_a_bounded_table_is_a_tree_of_at_most_the_limit(steps, data, limit):
    levels = nested_levels(steps)
    needed = data.draw(st.lists(st.integers(0, len(levels) - 1), unique=True))

    kept = bounded(levels, needed, limit)

    parents = parents_of(levels)
    assert len(kept) == min(limit, len(levels))
    assert all(parents[i] is None or parents[i] in kept for i in kept)


@given(
    st.lists(
        st.tuples(st.integers(-3, 1), st.text(max_size=30), st.text(max_size=30)), max_size=20
    ),
    st.integers(12, 120),
)
def test_no_line_is_wider_than_asked_for(rows, width):
    levels = nested_levels([step for step, _, _ in rows])[1:]
    drawn = [
        Row(label=label, level=level, cells=(cell,))
        for level, (_, label, cell) in zip(levels, rows, strict=True)
    ]

    lines = aligned(table(*drawn), draw, width).lines

    assert all(width_of(line) <= width for line in lines)
