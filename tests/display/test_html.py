from html.parser import HTMLParser
from operator import itemgetter

from hypothesis import given
from hypothesis import strategies as st

from nnmagic.display.html import table_html
from nnmagic.display.table import Column, Row, State, Table


class Reader(HTMLParser):
    """Checks that tags are balanced and collects what is seen."""

    VOID = frozenset({"br", "meta"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.styles, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.styles += [value for name, value in attributes if name == "style"]
        assert {name for name, _ in attributes} <= {
            "style",
            "open",
            "lang",
            "charset",
            "name",
            "content",
        }
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.replace("\xa0", " "))


def row(label, level=0, n="", details=(), state=0):
    return Row(label, {"n": n, "details": details}, level, state=state)


def table(*rows, notes=(), heading="heading"):
    return Table(
        heading=heading,
        title="layer",
        columns=(
            Column(key="n", title="n", kind="count", meaning="a count", cell=itemgetter("n")),
        ),
        rows=rows,
        details=lambda subject: subject.get("details", ()),
        notes=notes,
    )


def test_nesting_is_details_within_details():
    rows = (
        row("net"),
        row("a", level=1),
        row("b", level=2),
        row("c", level=1),
    )

    html = table_html(table(*rows))

    assert html.count("<details") == 5  # the header is one, and opens what the columns mean
    assert Reader(html).text[-4:] == ["net", "├─ a", "│  └─ b", "└─ c"]


def test_only_tags_that_an_untrusted_notebook_keeps_are_used():
    html = table_html(table(row("net", n=1, details=("x",)), notes=("note",)))

    assert set(Reader(html).tags) <= {"div", "b", "details", "summary", "samp", "br"}


def test_columns_stay_aligned_when_every_style_is_stripped():
    html = table_html(table(row("net", n=1), row("a", level=1, n=12)))

    lines = [text for text in Reader(html).text if text.endswith(("n", "1", "12"))]
    assert {len(line) for line in lines[:1] + lines[-2:]} == {len("layer   n")}
    assert " " not in html.partition("<samp")[2].partition("</samp>")[0].partition(">")[2]


def test_a_folded_row_is_closed_and_an_open_one_is_open():
    rows = row("net"), row("a", level=1, state=State.MANY_CALLS), row("b", level=2)

    html = table_html(table(*rows))

    assert html.count("<details open>") == 1


def test_an_open_container_shows_its_rows_and_not_its_details():
    rows = row("net", details=("inside",)), row("a", level=1, details=("below",))

    text = "".join(Reader(table_html(table(*rows))).text)

    assert "below" in text
    assert "inside" not in text


def test_what_columns_mean_is_in_the_header():
    assert "n: a count" in "".join(Reader(table_html(table(row("net")))).text)


@given(st.lists(st.text(), min_size=4, max_size=4))
def test_no_text_of_the_user_becomes_markup(texts):
    label, cell, note, detail = (f"{text}<img onerror=alert(1)></script>" for text in texts)

    html = table_html(table(row(label, n=cell, details=(detail,)), notes=(note,), heading=label))

    assert set(Reader(html).tags) <= {"div", "b", "details", "summary", "samp", "br"}


def test_what_leads_to_the_first_row_of_interest_is_open_however_deep_it_is():
    states = {1: State.MANY_CALLS, 3: State.FIRST}
    rows = [
        Row(str(i), level=level, state=states.get(i, 0))
        for i, level in enumerate([0, 1, 2, 3, 1, 2])
    ]
    html = table_html(Table(heading="", title="layer", columns=(), rows=rows, open_levels=1))

    opened = [part.split(">")[0] == " open" for part in html.split("<details")[2:]]
    assert opened == [True, True, True, False, False, False]
