"""What an address or a form says, checked: 400 for what no form of ours sends."""

import math
from collections.abc import Sequence
from typing import TypeVar

from flask import abort, request

from curation.store.db import MAX_ID

TEXT_LIMIT = 1000
"""Characters of a category's path, a ref or words to search for."""

Choice = TypeVar("Choice", bound=str)


def text(name: str, limit: int = TEXT_LIMIT) -> str:
    """One line of text without surrounding spaces; ``""`` if it is not there."""
    return _clean(request.values.get(name, ""), limit).strip()


def exact(name: str, limit: int = TEXT_LIMIT) -> str:
    """As it is, spaces too."""
    return _clean(request.values.get(name, ""), limit)


def choice(name: str, among: Sequence[Choice]) -> Choice:
    """One of these, the first if it is not there."""
    value = request.values.get(name, "")
    found = next((one for one in among if one == value), None)
    if found is None and value:
        abort(400)
    return found or among[0]


def whole(name: str) -> int:
    """A number from 0 to 2,147,483,647; 0 if it is not there."""
    found = number(request.values.get(name, "") or "0")
    return abort(400) if found is None else found


def ids(name: str) -> list[int]:
    """Numbers of database rows, as checkboxes send them."""
    found = [number(value) for value in request.form.getlist(name)]
    return [abort(400) if one is None else one for one in found]


def number(value: str) -> int | None:
    """What these digits stand for, up to the largest id of a row; None for anything else."""
    is_number = value.isascii() and value.isdecimal() and len(value) <= 10 and int(value) <= MAX_ID
    return int(value) if is_number else None


def share(name: str) -> float:
    """A share given in percent, 0 to 100; 0 if it is not there."""
    value = request.values.get(name, "") or "0"
    try:
        found = float(value) / 100 if len(value) <= 20 else math.nan
    except ValueError:
        abort(400)
    if not 0 <= found <= 1:
        abort(400)
    return found


def _clean(value: str, limit: int) -> str:
    if "\x00" in value or len(value) > limit:
        abort(400)
    return value
