"""Opaque places in a list: where the next page begins. They hold no secret, and no list takes another's."""

import base64
import binascii

from curation.errors import InputError, RowError, shorten
from curation.labelstudio import strictjson
from curation.store.db import MAX_ID

LIMIT = 200
"""Longest cursor that is read."""


def write(kind: str, key: int) -> str:
    """The place after `key` in the list `kind`."""
    return base64.urlsafe_b64encode(f'["{kind}",{key}]'.encode()).decode().rstrip("=")


def read(kind: str, cursor: str | None) -> int | None:
    """The key a cursor of this list stands for; None without one. Raises RowError on another list's or garbage."""
    if cursor is None:
        return None
    words = f"cursor {shorten(cursor)} is not one of this list; take the `next` of a page, or leave it out for the first page"
    wrong = RowError("cursor", words)
    if not cursor.isascii() or len(cursor) > LIMIT:
        raise wrong
    try:
        found = strictjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, InputError):
        raise wrong from None
    if (
        not isinstance(found, list)
        or len(found) != 2
        or found[0] != kind
        or type(found[1]) is not int
        or not 0 <= found[1] <= MAX_ID
    ):
        raise wrong
    return found[1]
