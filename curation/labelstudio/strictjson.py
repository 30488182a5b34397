"""JSON as the standard has it: no duplicate keys, no NaN, no number that a float cannot hold."""

import json
import math
from typing import Any

from curation.errors import PayloadError, shorten

MAX_DIGITS = 40
"""Longest integer that is read; ids have at most 19 digits."""


def loads(body: bytes) -> Any:
    """The parsed body. Raises PayloadError that says what is wrong and where."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PayloadError(f"body is not UTF-8: {error.reason} at byte {error.start}: {shorten(body)}") from None
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded
        )
    except json.JSONDecodeError as error:
        raise PayloadError(f"body is not JSON: {error.msg} at character {error.pos}: {shorten(text)}") from None
    except RecursionError:
        raise PayloadError(f"body is nested too deeply: {shorten(text)}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise PayloadError(f"body has the key {shorten(twice)} twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise PayloadError(f"body holds {name}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise PayloadError(f"body holds a number that is too large: {shorten(text)}")
    return value


def _bounded(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise PayloadError(f"body holds a number of {len(text)} digits: {shorten(text)}")
    return int(text)
