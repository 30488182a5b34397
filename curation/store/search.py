"""Listings by the start of their ref or title: on both databases by an index, never by a scan."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from curation.store.tables import ListingRow
from curation.types import Photo

TITLE_START = 64
"""Characters of a title that are searched."""

TITLE_SHOWN = 200
"""Characters of a title that are read for a list."""

LAST = "\U0010ffff"
"""Sorts after whatever begins alike."""


@dataclass(frozen=True, slots=True)
class Found:
    """One listing in a list. `title` has at most TITLE_SHOWN characters, of `n_chars`."""

    id: int
    ref: str
    title: str
    n_chars: int
    photos: tuple[Photo, ...]


def by_ref(session: Session, start: str, *, limit: int) -> list[Found]:
    """Listings whose ref begins so (case matters), in the order of refs."""
    query = select(*COLUMNS).where(*_between(session, ListingRow.ref, start, start + LAST)).order_by(_by(session, ListingRow.ref))
    return [found(row) for row in session.execute(query.limit(limit))]


def by_title(session: Session, start: str, *, limit: int) -> list[Found]:
    """Listings whose title begins so, in capitals or not, by title; its first 64 characters count."""
    words = start[:TITLE_START]
    between = _between(session, ListingRow.title_start, func.lower(words), func.lower(words + LAST))
    query = select(*COLUMNS).where(*between)
    return [
        found(row) for row in session.execute(query.order_by(_by(session, ListingRow.title_start), ListingRow.id).limit(limit))
    ]


COLUMNS: tuple[Any, ...] = (
    ListingRow.id,
    ListingRow.ref,
    func.substr(ListingRow.title, 1, TITLE_SHOWN).label("title"),
    func.length(ListingRow.title).label("n_chars"),
    ListingRow.images,
)
"""What `found` is made of."""


def found(row: Any) -> Found:
    """The listing of a row with COLUMNS."""
    return Found(row.id, row.ref, row.title, row.n_chars, tuple(Photo(**photo) for photo in row.images))


def _between(session: Session, column: Any, start: Any, end: Any) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Byte by byte, whatever the database's language is."""
    if _is_postgresql(session):
        return column.op("~>=~", is_comparison=True)(start), column.op("~<~", is_comparison=True)(end)
    return column >= start, column < end


def _by(session: Session, column: Any) -> Any:
    """The order of the index that `_between` goes by."""
    return column.op("USING")(text("~<~")) if _is_postgresql(session) else column


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"
