"""Everything known of one listing's labels: who said what, when, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import NotFoundError, shorten
from curation.store.service_tables import ErasedListing, Erasure
from curation.store.tables import (
    AnnotationRow,
    Category,
    LabelHistory,
    LabelRow,
    ListingRow,
    ReviewItem,
    SuspectRow,
    TaskRow,
    Tombstone,
)


@dataclass(frozen=True, slots=True)
class Current:
    """The label in force for one question."""

    question: str
    value: str
    source: str
    confidence: float | None
    evidence: Mapping[str, Any]
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a label. `old_value` is None at its birth, `value` at its withdrawal."""

    at: datetime
    question: str
    old_value: str | None
    old_source: str | None
    value: str | None
    source: str | None
    confidence: float | None
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """One state of one annotation. Only current states that are labels count as votes."""

    at: datetime
    question: str
    annotator: str
    outcome: str
    value: str | None
    raw_value: str | None
    origin: str
    lead_time_s: float | None
    is_current: bool
    is_deleted: bool
    source: str
    source_id: str
    task_id: str
    via: str
    seen_at: datetime
    note: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the moderators."""

    question: str
    state: str
    batch: str
    priority: float
    suggestion: str | None
    suggestion_score: float | None
    n_wanted: int
    reasons: tuple[Mapping[str, Any], ...]
    created_at: datetime
    pushed_at: datetime | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class Doubted:
    """What the newest run thinks of one label."""

    question: str
    run_id: int | None
    rank: int
    given: str | None
    suggested: str
    suggested_score: float
    score: float
    is_issue: bool


@dataclass(frozen=True, slots=True)
class History:
    """All of it, oldest first. `listing_id` is None if only annotations of this ref are known (orphans).

    Of an erased listing only ids, changes and answers are left.
    """

    ref: str
    listing_id: int | None
    title: str | None
    seller_category: str | None
    flags: tuple[str, ...]
    group_key: str | None
    tasks: tuple[str, ...]
    labels: tuple[Current, ...]
    changes: tuple[Change, ...]
    annotations: tuple[Said, ...]
    review: tuple[Asked, ...]
    suspects: tuple[Doubted, ...]
    erased_at: datetime | None = None


def of(session: Session, ref: str) -> History:
    """The history of the listing with this ref. Raises NotFoundError if nothing is known of it."""
    listing = session.execute(
        select(ListingRow, Category.path).outerjoin(Category, Category.id == ListingRow.category_id).where(ListingRow.ref == ref)
    ).one_or_none()
    annotations, erased = _annotations(session, ref), None if listing is not None else _erased(session, ref)
    if listing is None and not annotations and erased is None:
        raise NotFoundError(f"no listing and no annotation has the ref {shorten(ref)}; refs are those of the ingested file")
    row = None if listing is None else listing[0]
    listing_id = row.id if row is not None else -1 if erased is None else erased.listing_id
    return History(
        ref=ref,
        listing_id=None if row is None else row.id,
        title=None if row is None else row.title,
        seller_category=None if listing is None else listing[1],
        flags=() if row is None else tuple(row.flags),
        group_key=None if row is None else row.group_key,
        tasks=_tasks(session, ref),
        labels=_all(session, LabelRow, Current, listing_id, LabelRow.question),
        changes=_all(session, LabelHistory, Change, listing_id, LabelHistory.id),
        annotations=annotations,
        review=_review(session, listing_id),
        suspects=_all(session, SuspectRow, Doubted, listing_id, SuspectRow.question),
        erased_at=None if erased is None else erased.at,
    )


def _erased(session: Session, ref: str) -> Any | None:
    """Id and time of the last erasure of a listing with this ref."""
    mine = select(ErasedListing.listing_id, Erasure.at).join(Erasure, Erasure.id == ErasedListing.erasure_id)
    return session.execute(mine.where(ErasedListing.ref == ref).order_by(ErasedListing.id.desc()).limit(1)).one_or_none()


def _all(session: Session, table: Any, record: Any, listing_id: int, order: Any) -> tuple[Any, ...]:
    """Rows of the listing as records; a record's fields are named as the table's columns."""
    columns = [getattr(table, name) for name in record.__slots__]
    rows = session.execute(select(*columns).where(table.listing_id == listing_id).order_by(order))
    return tuple(record(*row) for row in rows)


def _review(session: Session, listing_id: int) -> tuple[Asked, ...]:
    columns = [getattr(ReviewItem, name) for name in Asked.__slots__]
    rows = session.execute(select(*columns).where(ReviewItem.listing_id == listing_id).order_by(ReviewItem.question))
    return tuple(Asked(**{**row._asdict(), "reasons": tuple(row.reasons)}) for row in rows)


def _tasks(session: Session, ref: str) -> tuple[str, ...]:
    rows = session.execute(select(TaskRow).where(TaskRow.listing_ref == ref).order_by(TaskRow.id)).scalars()
    return tuple(f"{row.source}/{row.task_id}{' (deleted)' if row.is_deleted else ''}" for row in rows)


def _annotations(session: Session, ref: str) -> tuple[Said, ...]:
    names = [name for name in Said.__slots__ if name != "is_deleted"]
    buried = (
        select(Tombstone.id)
        .where(Tombstone.source == AnnotationRow.source, Tombstone.source_id == AnnotationRow.source_id)
        .exists()
        .label("is_deleted")
    )
    rows = session.execute(
        select(*(getattr(AnnotationRow, name) for name in names), buried)
        .where(AnnotationRow.listing_ref == ref)
        .order_by(AnnotationRow.at, AnnotationRow.id)
    )
    return tuple(Said(**row._asdict()) for row in rows)
