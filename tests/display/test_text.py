from hypothesis import given
from hypothesis import strategies as st

from nnmagic.display.table import Column, Row, State, Table, TensorShape
from nnmagic.display.text import brief_text, table_text

TABLE = Table(
    heading="net · 2 calls",
    title="layer",
    columns=(Column(key="shape", title="shape", kind="shape", cell=lambda _: TensorShape((1, 2))),),
    rows=(Row("net", ()), Row("a", ("[0.5, 1.5]",), level=1)),
    details=lambda subject: subject,
    notes=("a note that is long enough to be wrapped",),
)


def test_a_table_is_a_heading_a_header_rows_and_notes():
    assert table_text(TABLE) == (
        "net · 2 calls\n"
        " layer  shape\n"
        " net    (1, 2)\n"
        " └─ a   (1, 2)\n"
        " a note that is long enough to be wrapped"
    )


def test_notes_are_wrapped_and_rows_never_are():
    assert table_text(TABLE, 16).splitlines() == [
        "net · 2 calls",
        " layer  shape",
        " net    (1, 2)",
        " └─ a   (1, 2)",
        " a note that is",
        "   long enough",
        "   to be wrapped",
    ]


def test_details_stand_below_their_row_where_they_are_asked_for():
    from dataclasses import replace

    assert "    [0.5, 1.5]" in table_text(replace(TABLE, show_details=True))


def long_table(count, flagged=(), notes=()):
    rows = [Row("net")]
    for i in range(count):
        state = State.FLAGGED if i in flagged else 0
        rows += [Row(f"block{i}", level=1), Row(f"layer{i}", level=2, state=state)]
    return Table(heading="the heading", title="layer", columns=(), rows=rows, notes=notes)


def test_a_display_that_is_short_enough_is_whole():
    table = long_table(20, notes=("a note",))

    assert brief_text(table) == table_text(table)


def test_a_long_display_keeps_what_is_flagged_with_its_parents_and_the_top_levels():
    table = long_table(1000, flagged=(977, 999), notes=("a note",))

    text = brief_text(table)

    lines = text.splitlines()
    assert 5900 < len(text) <= 6000
    assert lines[0] == "the heading"
    for name in ("block977", "layer977", "block999", "layer999", "block0"):
        assert any(line.endswith(name) for line in lines)
    assert not any(line.endswith("layer0") for line in lines)
    shown = sum("block" in line or "─ layer" in line for line in lines) + 1
    assert f" {2001 - shown:,} of 2,001 rows not shown here" in text
    assert lines[-1] == " a note"


def test_very_long_notes_give_way_and_are_counted():
    text = brief_text(long_table(1000, notes=("x" * 1500,) * 9))

    assert len(text) <= 6000
    assert text.count("x" * 1500) == 1
    assert "8 further lines" in text
    assert "block0" in text


@given(st.integers(0, 300), st.sets(st.integers(0, 300)), st.lists(st.integers(0, 3000)))
def test_no_display_is_longer(count, flagged, notes):
    table = long_table(count, flagged, tuple("n" * length for length in notes))

    assert len(brief_text(table, 120)) <= 6000
