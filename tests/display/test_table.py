from operator import itemgetter

from hypothesis import given
from hypothesis import strategies as st

from nnmagic.display.lines import aligned, clipped, width_of
from nnmagic.display.table import (
    Column,
    Histogram,
    Row,
    State,
    Table,
    bounded,
    parents_of,
    shortened,
    with_ancestors,
)


def column(place=0, kind="count", **options):
    options = {"key": f"c{place}", "title": "n", **options}
    return Column(kind=kind, cell=itemgetter(place), **options)


def row(label, *cells, level=0, **options):
    return Row(label, cells, level, **options)


COUNT = column()


def table(*rows, columns=(COUNT,)):
    return Table(heading="h", title="layer", columns=columns, rows=rows)


def test_rows_are_drawn_as_a_tree_with_aligned_columns():
    rows = [
        row("net", 10),
        row("a", 1, level=1),
        row("b", 200, level=2),
        row("c", "", level=1),
        row("other", 7),
    ]

    drawn = aligned(table(*rows))

    assert drawn.header == "layer      n"
    assert drawn.lines == (
        "net       10",
        "├─ a       1",
        "│  └─ b  200",
        "└─ c",
        "other      7",
    )


def test_pairs_are_aligned_at_their_joiner():
    pairs = column(kind="pair", joiner="±")
    rows = row("a", (1.0, 10.0)), row("b", (-12.0, 2.0)), row("c", (3.0, None))

    drawn = aligned(table(*rows, columns=(pairs,)))

    assert drawn.lines == (
        "a        1.000 ± 10.000",
        "b      -12.000 ±  2.000",
        "c        3.000",
    )


def test_what_is_unknown_is_told_from_what_is_not_there():
    rows = row("a", None), row("b", ""), row("c", 0)

    assert aligned(table(*rows)).lines == ("a      unknown", "b", "c            0")


def test_where_room_is_short_columns_leave_by_priority_then_text_is_cut():
    columns = (
        column(0, "text", title="first", narrowest=6),
        column(1, "text", title="second", priority=1),
        column(2, "text", title="third", priority=2),
    )
    wide = table(row("x" * 20, "abcdefghij", "222222", "333333"), columns=columns)

    assert aligned(wide, 60).header.split() == ["layer", "first", "second", "third"]
    assert aligned(wide, 40).header.split() == ["layer", "first", "second"]
    assert aligned(wide, 40).left == ("third",)
    assert aligned(wide, 32).lines == ("xxxxxxxxxxxxxxxxxxxx  abcdefghij",)
    assert aligned(wide, 26).lines == ("xxxxxxxxxxxxxxxxx…  abcde…",)
    assert aligned(wide, 26).left == ("third", "second")


def test_a_message_stands_in_place_of_the_numbers():
    columns = (column(0, "text", title="type", always=True), column(1))
    rows = row("a", "Linear", 1), row("b", "ReLU", 2, message="FAILED")

    assert aligned(table(*rows, columns=columns)).lines == (
        "a      Linear  1",
        "b      ReLU    FAILED",
    )


def test_wide_characters_take_two_places():
    assert width_of("层") == 2
    assert clipped("层层层", 5) == "层层…"


def test_the_zero_of_a_histogram_is_where_it_lies_in_the_range():
    assert Histogram((1,) * 10, -1.0, 1.0).zero == 5
    assert Histogram((1,) * 10, 0.0, 1.0).zero == 0
    assert Histogram((1,) * 10, 0.1, 1.0).zero is None


def test_a_bounded_table_keeps_what_is_needed_and_its_ancestors():
    levels = [0, 1, 2, 2, 1, 2, 2]

    assert bounded(levels, [6], 4) == [0, 1, 4, 6]
    assert bounded(levels, [], 3) == [0, 1, 4]
    assert bounded(levels, range(7), 100) == list(range(7))


def test_wanted_rows_are_found_with_those_that_lead_to_them():
    assert with_ancestors(parents_of([0, 1, 2, 1]), [2]) == {0, 1, 2}


def test_a_row_that_only_leads_to_others_has_no_cells_but_the_first():
    columns = column(0, "text", always=True), column(1)

    cells = table(row("a", "t", 1, state=State.CONTEXT), row("b", "t", 2), columns=columns)

    assert (cells.cells("c0"), cells.cells("c1")) == (["t", "t"], ["", 2])


def test_a_flagged_row_is_drawn_however_deep_and_text_unfolds_nothing():
    rows = [
        row("net"),
        row("a × 6", level=1, state=State.MANY_CALLS),
        row("a", level=2),
        row("a", level=2, state=State.FLAGGED),
        row("b", level=1),
        row("c", level=2),
    ]

    def labels(*, text, depth, limit=9):
        drawn = shortened(table(*rows), depth=depth, text=text, limit=limit)
        return [each.label for each in drawn.rows], list(drawn.notes)

    assert labels(text=True, depth=None) == (["net", "a × 6", "a", "b", "c"], [])
    assert labels(text=False, depth=1) == (
        ["net", "a × 6", "a", "b"],
        ["2 rows below level 1 not shown; see them with --depth 2"],
    )
    assert labels(text=False, depth=None, limit=3)[0] == ["net", "a × 6", "a"]


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
        row(label, cell, level=level) for level, (_, label, cell) in zip(levels, rows, strict=True)
    ]

    lines = aligned(table(*drawn), width).lines

    assert all(width_of(line) <= width for line in lines)
