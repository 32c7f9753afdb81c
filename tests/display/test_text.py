from nnmagic.display.table import Column, Row, Table, TensorShape
from nnmagic.display.text import table_text

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
