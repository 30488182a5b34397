"""Which listings are here, asked by those who write what belongs to them."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.store import locks
from curation.store.tables import ListingRow
from curation.store.taxonomy import chunks


def known_refs(session: Session, refs: Collection[str]) -> set[str]:
    """Which of these are here; where one is not, once nobody is bringing it just now."""
    found = _here(session, refs)
    if found.issuperset(refs):
        return found
    locks.beside(session, locks.LISTINGS)
    return _here(session, refs)


def _here(session: Session, refs: Collection[str]) -> set[str]:
    parts = chunks(sorted(refs))
    return {ref for part in parts for ref in session.execute(select(ListingRow.ref).where(ListingRow.ref.in_(part))).scalars()}
