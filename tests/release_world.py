"""Listings, votes and runs written straight into the tables, for the tests of the release room."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.store import labels
from curation.store.tables import Category, ListingRow
from curation.types import LabelEvent, LabelSource, Origin, Outcome, Question

PATHS = ("Home / Garden", "Home / Lamps", "Sport / Balls", "Sport / Bikes")


def add_categories(session: Session, paths: Sequence[str] = PATHS) -> dict[str, int]:
    """Flat category rows by path."""
    for path in paths:
        session.add(Category(path=path, name=path.split(" / ")[-1], parent_id=None, is_leaf=True))
    session.flush()
    return {row.path: row.id for row in session.execute(select(Category)).scalars()}


def add_listings(session: Session, n: int, *, now: datetime, start: int = 0, **fields: object) -> list[int]:
    """`n` listings with a seller label each, cycling through the categories; their ids."""
    ids = {row.path: row.id for row in session.execute(select(Category)).scalars()} or add_categories(session)
    rows = [_listing(i, ids[PATHS[i % len(PATHS)]], now, fields) for i in range(start, start + n)]
    session.add_all(rows)
    session.flush()
    for row, i in zip(rows, range(start, start + n), strict=True):
        seller = labels.Resolved(PATHS[i % len(PATHS)], LabelSource.SELLER, None, {})
        labels.set_label(session, row.id, Question.CATEGORY, seller, now=now)
    return [row.id for row in rows]


def _listing(i: int, category_id: int, now: datetime, fields: dict[str, object]) -> ListingRow:
    values = {
        "ref": f"ad-{i:05d}",
        "seller_ref": f"seller-{i % 7}",
        "title": f"Lamp no {i}",
        "description": f"A description of {i}",
        "price": float(i % 90) + 0.5,
        "currency": "EUR",
        "attributes": {"brand": "Acme"},
        "images": [],
        "flags": [],
        "content_sha256": f"{i:064x}",
        "group_key": f"ad-{i:05d}",
        "listed_at": now,
        "created_at": now,
    }
    return ListingRow(category_id=category_id, **{**values, **fields})


def vote(
    session: Session,
    ref: str,
    value: str,
    *,
    now: datetime,
    annotator: str = "anna",
    question: Question = Question.CATEGORY,
    lead_time_s: float = 9.0,
) -> None:
    """A moderator's answer, through the annotation log."""
    event = LabelEvent(
        source="labelstudio:1",
        source_id=f"{ref}-{annotator}",
        task_id=f"task-{ref}",
        listing_ref=ref,
        question=question,
        outcome=Outcome.LABEL,
        value=value,
        annotator=annotator,
        at=now + timedelta(microseconds=1),
        state_hash=f"{abs(hash(value)) % 16**16:016x}",
        origin=Origin.MANUAL,
        lead_time_s=lead_time_s,
    )
    labels.apply_event(session, event, via="cli", now=now)
