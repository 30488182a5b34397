"""What programs ask of stored listings: their labels, and how labels changed, page by page."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from curation.store.tables import LabelHistory, LabelRow, ListingRow, ReviewItem
from curation.types import OPEN

SETTLED = timedelta(seconds=10)
"""A change is told when it is that old: others that began earlier and end later would be passed over else."""


@dataclass(frozen=True, slots=True)
class Held:
    """The label in force for one question."""

    question: str
    value: str
    source: str
    confidence: float | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Changed:
    """One change of a label. `id` grows with time."""

    id: int
    ref: str
    question: str
    at: datetime
    old_value: str | None
    old_source: str | None
    value: str | None
    source: str | None
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Queue:
    """Questions to moderators: n by (question, state), and since when the oldest open one waits."""

    counts: dict[tuple[str, str], int]
    oldest_open_at: datetime | None


def labels(session: Session, refs: Collection[str]) -> dict[str, list[Held]]:
    """Ref → its labels, for the refs that are here."""
    columns = (LabelRow.question, LabelRow.value, LabelRow.source, LabelRow.confidence, LabelRow.changed_at)
    rows = session.execute(
        select(ListingRow.ref, *columns)
        .outerjoin(LabelRow, LabelRow.listing_id == ListingRow.id)
        .where(ListingRow.ref.in_(refs))
        .order_by(ListingRow.ref, LabelRow.question)
    )
    found: dict[str, list[Held]] = {}
    for row in rows:
        held = found.setdefault(row.ref, [])
        if row.question is not None:
            held.append(Held(row.question, row.value, row.source, row.confidence, row.changed_at))
    return found


def changes(session: Session, *, limit: int, after_id: int, now: datetime) -> list[Changed]:
    """Changes of labels after the one with this id, oldest first, that are SETTLED by `now`."""
    columns: list[Any] = [getattr(LabelHistory, name) for name in Changed.__slots__ if name != "ref"]
    columns.insert(1, ListingRow.ref)
    query = (
        select(*columns)
        .join(ListingRow, ListingRow.id == LabelHistory.listing_id)
        .where(LabelHistory.id > after_id, LabelHistory.at <= now - SETTLED)
        .order_by(LabelHistory.id)
        .limit(limit)
    )
    return [Changed(*row) for row in session.execute(query)]


def review_counts(session: Session) -> Queue:
    """How many questions are in which state. Reads an index over all of them."""
    by = (ReviewItem.question, ReviewItem.state)
    rows = session.execute(select(*by, func.count(), func.min(ReviewItem.created_at)).group_by(*by)).all()
    oldest = min((at for _, state, _, at in rows if state in OPEN), default=None)
    return Queue({(question, state): n for question, state, n, _ in rows}, oldest)
