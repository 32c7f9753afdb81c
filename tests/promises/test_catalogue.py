"""The catalogue of failures: each program fails as the page says, and runs with its remedy."""

from collections import Counter

import pytest
from catalogue.page import PAGE, SECTIONS, message, messages, page, run

CASES = [case for cases in SECTIONS.values() for case in cases]


def test_the_page_says_what_nnmagic_says(session):
    said = messages(session)

    assert [title for title, text in said.items() if not text.partition(": ")[2]] == []
    assert PAGE.read_text(encoding="utf-8") == page(said), "python tests/catalogue/page.py"


@pytest.mark.slow
def test_each_program_runs_with_its_remedy(session):
    errors = {case.title: run(session, *case.mended, case.title) for case in CASES}
    misled = [case.title for case in CASES if case.shows and message(session, case.as_mended)]

    assert {title: error for title, error in errors.items() if error is not None} == {}
    assert misled == []


def test_the_catalogue_holds_at_least_60_failures_each_once():
    titles = Counter(case.title for case in CASES)

    assert len(titles) >= 60
    assert max(titles.values()) == 1
