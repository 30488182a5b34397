"""JSON as the standard has it: no duplicate keys, no NaN, no number that a float cannot hold, nothing nested without end."""

import json
import math
from typing import Any

from curation.errors import PayloadError, shorten
from curation.types import is_nested_beyond

MAX_DIGITS = 40
"""Longest integer that is read; ids have at most 19 digits."""


MAX_LEVELS = 100
"""Lists and objects in one another; ours have ten. Below what any later step can stand."""


def loads(body: bytes) -> Any:
    """The parsed body. Raises PayloadError that says what is wrong and where."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PayloadError(f"body is not UTF-8: {error.reason} at byte {error.start}: {shorten(body)}") from None
    try:
        found = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded
        )
    except json.JSONDecodeError as error:
        raise PayloadError(f"body is not JSON: {error.msg} at character {error.pos}: {shorten(text)}") from None
    except RecursionError:
        found, is_deep = None, True
    else:
        is_deep = is_nested_beyond(found, MAX_LEVELS)
    if is_deep:
        raise PayloadError(f"body is nested too deeply, {MAX_LEVELS} levels are read: {shorten(text)}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
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
