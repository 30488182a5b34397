"""Cells of a catalog file made into values."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from curation.catalog import cells
from curation.errors import RowError


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, ""),
        ("  Garden rake ", "Garden rake"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("a\u200bb\u202ec\ufeffd\u2066e\U000e0041f", "abcdef"),
        ("line\nbreak\tand\x07bell", "line\nbreak\tandbell"),
        ("\u0646\u200c\u0627", "\u0646\u200c\u0627"),
        ("Z" + "\u0335\u0300" * 40, "Z" + "\u0335" * 4 + "\u0300" * 4),
        (12, "12"),
        (12.0, "12"),
        (0.1, "0.1"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_text_is_what_a_person_reads(value: Any, wanted: str) -> None:
    """Typed cells are spelled out, hidden characters go, joiners stay."""
    assert cells.text(value, "title", 100) == wanted


@pytest.mark.parametrize(
    "value", [["a"], {"a": 1}, b"bytes", math.nan, "a\x00b", "\ud800", "x" * 101, pytest.param(10**5000, id="endless")]
)
def test_text_refuses_what_is_none(value: Any) -> None:
    """Lists, bytes, NUL, half characters and endless values are refused by field name."""
    with pytest.raises(RowError) as caught:
        cells.text(value, "title", 100)
    assert caught.value.field == "title"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, None), ("", None), (" 12.50 ", 12.5), ("+3", 3.0), (".5", 0.5), ("1e3", 1000.0), (Decimal("2.5"), 2.5), (7, 7.0)],
)
def test_price_is_a_plain_number_or_unknown(value: Any, wanted: float | None) -> None:
    """Empty is unknown, everything else is a decimal number."""
    assert cells.price(value) == wanted


def test_price_has_no_negative_zero() -> None:
    """-0.0 would print as a negative price."""
    assert math.copysign(1, cells.price("-0") or 0.0) == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("nan", "not_finite"),
        ("Infinity", "not_finite"),
        (math.nan, "not_finite"),
        ("-1", "negative"),
        ("1e15", "too_large"),
        pytest.param(10**400, "too_large", id="endless"),
        ("free", "not_a_number"),
        ("1,000", "not_a_number"),
        ("١٢", "not_a_number"),
        (True, "not_a_number"),
        ([1], "not_a_number"),
        ("9" * 200, "not_a_number"),
    ],
)
def test_price_says_what_is_wrong(value: Any, code: str) -> None:
    """Each kind of wrong price has a code of its own."""
    with pytest.raises(RowError) as caught:
        cells.price(value)
    assert (caught.value.field, caught.value.code) == ("price", code)


def test_times_are_aware_utc() -> None:
    """A zone is converted, no zone counts as UTC, a date is its midnight."""
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert cells.moment("2026-01-02T13:00:00+01:00", None) == noon
    assert cells.moment("02.01.2026 12h", "%d.%m.%Y %Hh") == noon
    assert cells.moment(datetime(2026, 1, 2, 12), None) == noon  # noqa: DTZ001 (what Parquet gives)
    assert cells.moment(date(2026, 1, 2), None) == noon - timedelta(hours=12)
    assert cells.moment("", None) is None


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01", datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))])
def test_time_out_of_this_world_is_refused(value: Any) -> None:
    """Neither a word nor a moment beyond year 9999 in UTC is a time."""
    with pytest.raises(RowError, match="time"):
        cells.moment(value, None)


def test_currency_is_three_letters() -> None:
    """Symbols and lower case are understood, words are not."""
    assert [cells.currency(value) for value in ("gbp", "€", " USD ", "")] == ["GBP", "EUR", "USD", None]
    with pytest.raises(RowError, match="'EURO' is not a three-letter code"):
        cells.currency("euro")


def test_flags_are_yes_or_no() -> None:
    """0/1 in the spellings of CSV, JSON and Parquet."""
    assert [cells.flag(value, "x") for value in (1, "1", True, "yes", 1.0)] == [True] * 5
    assert [cells.flag(value, "x") for value in (0, "", None, False, "0.0")] == [False] * 5
    with pytest.raises(RowError, match="column x holds 'maybe', not 0 or 1"):
        cells.flag("maybe", "x")


def test_attributes_are_scalars_or_lists() -> None:
    """What JSON can hold stays as it is; an object inside is refused."""
    assert cells.attribute(["a", None, 2], "x", 10) == ["a", 2]
    assert [cells.attribute(value, "x", 10) for value in (True, 2.5, " red ", "", [])] == [True, 2.5, "red", None, None]
    assert cells.attribute(2**60, "x", 30) == str(2**60), "a number that a double cannot hold is kept as text"
    with pytest.raises(RowError, match="attribute x is a dict"):
        cells.attribute({"a": 1}, "x", 10)
