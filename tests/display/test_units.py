import re
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnmagic.display import units


def test_a_count_is_in_full_up_to_a_million():
    assert [units.count(n) for n in (0, 999, 669_706, 999_999)] == [
        "0",
        "999",
        "669,706",
        "999,999",
    ]


def test_a_larger_count_has_three_digits_and_a_decimal_prefix():
    assert [units.count(n) for n in (1_337_344, 11_689_512, 405_000_000_000, 999_600_000)] == [
        "1.34 M",
        "11.7 M",
        "405 G",
        "1.00 G",
    ]


def test_what_is_unknown_says_so():
    assert (units.count(None), units.size(None), units.percent(None)) == ("unknown", "unknown", "")


def test_bytes_have_binary_units():
    assert [units.size(n) for n in (0, 1023, 1024, 2_678_824, 1 << 40)] == [
        "0 B",
        "1023 B",
        "1.00 KiB",
        "2.55 MiB",
        "1.00 TiB",
    ]


def test_a_percentage_reads_as_all_or_nothing_only_where_it_is():
    shown = [units.percent(f) for f in (0.0, 1e-9, 0.004, 0.48, 0.9999, 1.0)]

    assert shown == ["0 %", "<1 %", "<1 %", "48 %", ">99 %", "100 %"]


def test_numbers_that_are_compared_share_a_format():
    assert units.numbers(0.0331, 0.0934) == ("0.033", "0.093")
    assert units.numbers(-0.0001, 2.0) == ("0.000", "2.000")
    assert units.numbers(1.5e-7, 3e-6) == ("1.50e-07", "3.00e-06")
    assert units.numbers(12.0, 4321.0) == ("12.0", "4321.0")
    assert units.numbers(1.0, None) == ("1.000", "")


def test_a_shape_reads_as_python():
    shape = ({"logits": (1, 10), "state": ((2,), ())},)

    assert units.shape(shape) == "({logits: (1, 10), state: ((2,), ())},)"
    assert units.shape((3,)) == "(3,)"
    assert units.shape(()) == "()"
    assert units.shape(None) == ""


@given(st.floats(-1e300, 1e300))
def test_a_number_parses_back_to_what_it_was(value):
    (text,) = units.numbers(value)

    assert abs(float(text) - value) <= max(0.0005, 0.05 * (abs(value) >= 1000), 0.006 * abs(value))
    assert len(text) <= 10


@given(st.integers(min_value=0, max_value=10**17))
def test_a_count_parses_back_to_three_digits(number):
    digits, _, prefix = units.count(number).partition(" ")
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}[prefix]

    assert abs(float(digits.replace(",", "")) * factor - number) <= 0.0051 * number


@given(st.text())
def test_printable_text_holds_nothing_that_a_terminal_obeys(text):
    assert re.search(r"[\x00-\x1f\x7f-\x9f]", units.printable(text)) is None


@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("Tensor", "a Tensor"),
        ("Int8Tensor", "an Int8Tensor"),
        ("LSTM", "an LSTM"),
        ("GRU", "a GRU"),
        ("ReLU", "a ReLU"),
        ("UNet", "a UNet"),
    ],
)
def test_a_class_has_the_article_that_is_spoken(noun, text):
    assert units.with_article(noun) == text


def test_an_error_has_few_digits_and_none_at_all_is_0():
    errors = (0.0, 3.14e-7, 0.009, 0.4, 12.5, 1234.56, inf)

    assert [*map(units.error, errors)] == [
        "0",
        "3.1e-07",
        "9.0e-03",
        "0.400",
        "12.500",
        "1234.6",
        "inf",
    ]
