"""Cells of a catalog file made into values: text, prices, currencies, times. Every rule is stated here.

Text is stored in Unicode NFC, without surrounding spaces and without characters that hide or
reorder text: zero-width spaces, word joiners, soft hyphens, byte order marks, bidirectional
marks, embeddings and overrides, tag characters, and control characters other than tab and line
breaks. Zero-width joiners stay, since emoji and several scripts need them. Of more than eight
combining marks in a row only eight are kept: no script has more, and piles of them cover the
lines around and take quadratic time to normalise.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from curation.errors import RowError, shorten

MAX_PRICE = 1e15
"""The table's own bound; larger prices are typing errors in every currency."""

HIDDEN = re.compile(
    "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
MARK = (
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u06d6-\u06dc\u0730-\u074a\u08d3-\u08ff"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
PILE = re.compile(f"({MARK}{{8}}){MARK}+")
SURROGATE = re.compile("[\ud800-\udfff]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
CURRENCY = re.compile("[A-Z]{3}")
SYMBOLS: Mapping[str, str] = {"£": "GBP", "€": "EUR", "$": "USD"}
YES = frozenset({"1", "true", "yes", "y", "t", "1.0"})
NO = frozenset({"0", "false", "no", "n", "f", "", "0.0"})


def text(value: Any, field: str, limit: int) -> str:
    """The cell as clean text of at most `limit` characters; a missing cell is ``""``."""
    if value is None:
        return ""
    said = value if isinstance(value, str) else _plain(value, field)
    if len(said) > limit:
        raise RowError(field, f"{field} has {len(said):,} characters, {limit:,} are allowed; shorten it", "too_long")
    return said.strip() if said.isascii() and said.isprintable() else _clean(said, field, limit)


def _clean(value: str, field: str, limit: int) -> str:
    if "\x00" in value:
        raise RowError(field, f"{field} holds a NUL character: {shorten(value)}; remove it", "nul")
    if found := SURROGATE.search(value):
        raise _surrogate(value, field, found.group())
    cleaned = unicodedata.normalize("NFC", PILE.sub(r"\1", HIDDEN.sub("", value))).strip()
    if len(cleaned) > limit:  # NFC makes a few characters longer
        raise RowError(field, f"{field} has {len(cleaned):,} characters, {limit:,} are allowed; shorten it", "too_long")
    return cleaned


def _surrogate(value: str, field: str, found: str) -> RowError:
    if 0xDC80 <= ord(found) <= 0xDCFF:  # how the reader shows a byte that is not UTF-8
        byte = ord(found) - 0xDC00
        return RowError(field, f"{field} is not UTF-8 (byte 0x{byte:02X}): {shorten(value)}; save the file as UTF-8", "not_utf8")
    return RowError(field, f"{field} holds half a surrogate pair: {shorten(value)}; remove it", "surrogate")


def _plain(value: Any, field: str) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowError(field, f"{field} is {value}, not text", "not_text")
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int | Decimal | UUID):
        return _digits(value, field)
    if isinstance(value, date):
        return value.isoformat()
    raise RowError(field, f"{field} is a {type(value).__name__}, not text: {shorten(value)}", "not_text")


def _digits(value: int | Decimal | UUID, field: str) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        raise RowError(field, f"{field} is a number of thousands of digits", "too_long") from None


def price(value: Any) -> float | None:
    """A finite number from 0 up to 1e15, or None where the cell is empty."""
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        value = float(value) if NUMBER.fullmatch(value) and len(value) < 100 else _words(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RowError("price", f"price {shorten(value)} is not a number; write it as 12.50", "not_a_number")
    if isinstance(value, int) and abs(value) > MAX_PRICE:
        raise RowError("price", "price is 1e15 or more; correct it", "too_large")
    return _checked_price(float(value))


def _words(value: str) -> float | str:
    """NaN and infinities are told apart from other text, for a message that fits."""
    try:
        found = float(value) if value.isascii() and "_" not in value else 0.0
    except ValueError:
        return value
    return value if math.isfinite(found) else found


def _checked_price(value: float) -> float:
    if not math.isfinite(value):
        raise RowError("price", f"price is {value}, not a finite number; leave it empty if it is unknown", "not_finite")
    if value < 0:
        raise RowError("price", f"price {value:g} is negative; correct it", "negative")
    if value >= MAX_PRICE:
        raise RowError("price", f"price {value:g} is 1e15 or more; correct it", "too_large")
    return value + 0.0  # -0.0 becomes 0.0


def currency(value: Any) -> str | None:
    """Three capital letters (ISO 4217), or None where the cell is empty; £, € and $ are understood."""
    found = text(value, "currency", 20).upper()
    found = SYMBOLS.get(found, found)
    if found and not CURRENCY.fullmatch(found):
        raise RowError("currency", f"currency {shorten(found)} is not a three-letter code such as GBP", "not_a_currency")
    return found or None


def moment(value: Any, fmt: str | None) -> datetime | None:
    """An aware UTC time; without a zone it is taken as UTC. `fmt` as in strptime, else ISO 8601."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        said = text(value, "listed_at", 100)
        if not said:
            return None
        try:
            value = datetime.strptime(said, fmt) if fmt else datetime.fromisoformat(said)  # noqa: DTZ007 (made UTC below)
        except ValueError:
            hint = f"time {shorten(said)} is not {fmt or 'ISO 8601'}; say how it is written in listed_at.format"
            raise RowError("listed_at", hint, "not_a_time") from None
    try:
        found: datetime = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise RowError("listed_at", f"time {shorten(value)} is out of range", "not_a_time") from None
    return found.replace(fold=0)


def flag(value: Any, column: str) -> bool:
    """A 0/1 cell; empty counts as 0."""
    said = text(value, "flags", 20).casefold() if not isinstance(value, bool) else str(value).casefold()
    if said not in YES | NO:
        raise RowError("flags", f"column {column} holds {shorten(said)}, not 0 or 1", "not_a_flag")
    return said in YES


def attribute(value: Any, name: str, limit: int) -> str | int | float | bool | list[Any] | None:
    """A scalar or a list of scalars, as JSON can hold it; None where the cell is empty."""
    if isinstance(value, list | tuple):
        return [found for one in value if (found := _scalar(one, name, limit)) is not None] or None
    return _scalar(value, name, limit)


def _scalar(value: Any, name: str, limit: int) -> str | int | float | bool | None:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return text(value, f"attribute {name}"[:60], limit) or None
