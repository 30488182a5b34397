"""Erasure on request: what is known of a listing goes from the database, its ids stay as tombstones.

The label history keeps its rows, without words; the annotation log keeps its answers, which count no more. Nothing brings
an erased listing back, neither an ingest nor a late delivery, until it is allowed again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from curation.errors import InputError, NotFoundError, shorten
from curation.store import annotations, locks
from curation.store.service_tables import ErasedListing, Erasure, Report
from curation.store.tables import (
    AnnotationRow,
    LabelHistory,
    LabelRow,
    ListingRow,
    ReviewItem,
    SuspectRow,
    TaskRow,
)
from curation.store.taxonomy import chunks
from curation.types import AnnotationsDeleted, TasksDeleted

LOCK = "state/erasure"
VIA = "erase"
KEPT_EVIDENCE = ("rule", "run")
"""What stays of the proof of a change: nothing that anybody wrote."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an erasure would take: listings by id, and their photos by sha256."""

    refs: Mapping[int, str]
    photos: tuple[str, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Done:
    """One erasure as it stands in the log. `leftover`: photos and titles that its files are looked through for."""

    id: int
    by: str
    reason: str
    counts: Mapping[str, Any]
    leftover: Mapping[str, Any]
    at: datetime
    finished_at: datetime | None
    refs: Mapping[int, str]


def find(session: Session, *, seller: str | None = None, refs: Collection[str] | None = None) -> Found:
    """What would go: a seller's listings, or those of `refs` that are there.

    Raises NotFoundError where there is none, InputError unless one of the two is named.
    """
    if (seller is None) == (refs is None):
        raise InputError("name what to erase: --seller or --listing or --from")
    columns = select(ListingRow.id, ListingRow.ref, ListingRow.images).order_by(ListingRow.id)
    conditions = [ListingRow.seller_ref == seller] if refs is None else [ListingRow.ref.in_(part) for part in chunks(refs)]
    rows = [row for mine in conditions for row in session.execute(columns.where(mine))]
    if not rows:
        known = f"seller {shorten(seller)} has no listing" if refs is None else f"listing {shorten(', '.join(refs))} is not there"
        raise NotFoundError(f"{known}; it may be erased already: refurbish erase --log")
    found = {row.id: row.ref for row in rows}
    photos = dict.fromkeys(photo["sha256"] for row in rows for photo in row.images)
    return Found(found, tuple(photos), _counts(session, found))


def erase(session: Session, found: Found, *, by: str, reason: str, now: datetime) -> int:
    """Erase these listings in the caller's transaction; the erasure's id. Their files are still to be removed."""
    hold(session, alone=True)
    titles = _titles(session, found.refs)
    leftover = {"photos": list(found.photos), "titles": titles}
    row = Erasure(by=by[:120], reason=reason, counts=dict(found.counts), leftover=leftover, at=now, finished_at=None)
    session.add(row)
    session.flush()
    for ids in chunks(found.refs):
        refs = [found.refs[listing_id] for listing_id in ids]
        session.add_all(ErasedListing(erasure_id=row.id, listing_id=i, ref=found.refs[i], allowed_at=None) for i in ids)
        _silence(session, refs, now=now)
        _strip_history(session, ids)
        session.execute(update(Report).where(Report.listing_ref.in_(refs)).values(words=""))
        for table in (SuspectRow, ReviewItem, LabelRow):
            session.execute(delete(table).where(table.listing_id.in_(ids)))  # type: ignore[attr-defined]
        session.execute(delete(ListingRow).where(ListingRow.id.in_(ids)))
    return row.id


def finish(session: Session, erasure_id: int, counts: Mapping[str, int], *, now: datetime) -> None:
    """Note that its files are gone too; only counts and ids are left of it."""
    row = session.get_one(Erasure, erasure_id)
    row.counts, row.leftover, row.finished_at = {**row.counts, **counts}, {}, now


def get(session: Session, erasure_id: int) -> Done:
    """One erasure. Raises NotFoundError."""
    row = session.get(Erasure, erasure_id)
    if row is None:
        raise NotFoundError(f"erasure {erasure_id} is not known; see: refurbish erase --log")
    mine = select(ErasedListing.listing_id, ErasedListing.ref).where(ErasedListing.erasure_id == erasure_id)
    refs = {one.listing_id: one.ref for one in session.execute(mine.order_by(ErasedListing.listing_id))}
    return Done(row.id, row.by, row.reason, row.counts, row.leftover, row.at, row.finished_at, refs)


def log(session: Session, *, limit: int = 1000) -> list[Done]:
    """The last erasures, newest first."""
    ids = session.execute(select(Erasure.id).order_by(Erasure.id.desc()).limit(limit)).scalars().all()
    return [get(session, erasure_id) for erasure_id in ids]


def unfinished(session: Session) -> list[int]:
    """Erasures whose files are still to be removed, oldest first."""
    return list(session.execute(select(Erasure.id).where(Erasure.finished_at.is_(None)).order_by(Erasure.id)).scalars())


def newest(session: Session) -> int:
    """The last erasure's id, 0 before the first: whoever read listings before it must read them again."""
    return session.execute(select(func.coalesce(func.max(Erasure.id), 0))).scalar_one()


def hold(session: Session, *, alone: bool = False) -> None:
    """Nobody erases (`alone`: or writes listings) until the transaction ends."""
    if alone:
        locks.alone(session, LOCK)
    else:
        locks.beside(session, LOCK)


def barred(session: Session, refs: Collection[str]) -> frozenset[str]:
    """Which of these were erased and may not come back."""
    found: set[str] = set()
    for part in chunks(refs):
        mine = (ErasedListing.ref.in_(part), ErasedListing.allowed_at.is_(None))
        found.update(session.execute(select(ErasedListing.ref).where(*mine)).scalars())
    return frozenset(found)


def every_barred(session: Session) -> frozenset[str]:
    """Refs of all listings that were erased and may not come back."""
    mine = select(ErasedListing.ref).where(ErasedListing.allowed_at.is_(None))
    return frozenset(session.execute(mine).scalars())


def allow(session: Session, ref: str, *, now: datetime) -> None:
    """Let a listing be ingested again; what was erased stays erased. Raises NotFoundError if it is not barred."""
    mine = (ErasedListing.ref == ref, ErasedListing.allowed_at.is_(None))
    if session.execute(update(ErasedListing).where(*mine).values(allowed_at=now).returning(ErasedListing.id)).first() is None:
        raise NotFoundError(f"listing {shorten(ref)} is not barred; see: refurbish erase --log")


def last_erased_id(session: Session) -> int:
    """The largest listing id that was ever erased, 0 if none was: SQLite would give it out anew."""
    return session.execute(select(func.coalesce(func.max(ErasedListing.listing_id), 0))).scalar_one()


def tasks_of(session: Session, source: str, refs: Collection[str]) -> list[str]:
    """Ids of the tasks that were made for these listings in one Label Studio project, oldest first."""
    found: set[str] = set()
    for part in chunks(refs):
        mine = (TaskRow.source == source, TaskRow.listing_ref.in_(part))
        found.update(session.execute(select(TaskRow.task_id).where(*mine)).scalars())
    return sorted(found, key=lambda task_id: (len(task_id), task_id))


def _counts(session: Session, refs: Mapping[int, str]) -> dict[str, int]:
    counts = dict.fromkeys(("labels", "changes", "annotations", "reports", "questions", "tasks"), 0)
    for ids in chunks(refs):
        names = [refs[listing_id] for listing_id in ids]
        wanted: dict[str, Any] = {
            "labels": LabelRow.listing_id.in_(ids),
            "changes": LabelHistory.listing_id.in_(ids),
            "annotations": AnnotationRow.listing_ref.in_(names),
            "reports": Report.listing_ref.in_(names),
            "questions": ReviewItem.listing_id.in_(ids),
            "tasks": TaskRow.listing_ref.in_(names),
        }
        for name, condition in wanted.items():
            counts[name] += session.execute(select(func.count()).where(condition)).scalar_one()
    return {"listings": len(refs), **counts}


def _titles(session: Session, refs: Mapping[int, str]) -> list[str]:
    found: set[str] = set()
    for ids in chunks(refs):
        found.update(session.execute(select(ListingRow.title).where(ListingRow.id.in_(ids))).scalars())
    return sorted(found - {""})


def _silence(session: Session, refs: Sequence[str], *, now: datetime) -> None:
    """Answers on these listings count no more, whatever still comes, and keep no words."""
    tasks: dict[str, list[str]] = {}
    for row in session.execute(select(TaskRow.source, TaskRow.task_id).where(TaskRow.listing_ref.in_(refs))):
        tasks.setdefault(row.source, []).append(row.task_id)
    for source, task_ids in tasks.items():
        annotations.log_event(session, TasksDeleted(source, tuple(task_ids)), via=VIA, now=now)
    answers: dict[str, set[str]] = {}
    said = select(AnnotationRow.source, AnnotationRow.source_id).where(AnnotationRow.listing_ref.in_(refs))
    for one in session.execute(said):
        answers.setdefault(one.source, set()).add(one.source_id)
    for source, source_ids in answers.items():
        annotations.log_event(session, AnnotationsDeleted(source, tuple(sorted(source_ids))), via=VIA, now=now)
    session.execute(update(AnnotationRow).where(AnnotationRow.listing_ref.in_(refs)).values(note="", raw_value=None))


def _strip_history(session: Session, ids: Sequence[int]) -> None:
    for row in session.execute(select(LabelHistory).where(LabelHistory.listing_id.in_(ids))).scalars():
        row.evidence = {name: row.evidence[name] for name in KEPT_EVIDENCE if name in row.evidence} | {"erased": True}
    session.flush()
