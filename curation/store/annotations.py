"""The annotation log: append-only states of annotations, their order, and the votes they leave.

Order is by the data: `updated_at`, and of two states that share it the one without the star, which
Label Studio takes away silently; never by arrival alone. A deleted annotation or task is a
tombstone: no state of it counts, early or late, unless Label Studio was asked and has it.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, select, update
from sqlalchemy.orm import Session

from curation.store import locks
from curation.store.jobs import insert_new
from curation.store.presence import known_refs
from curation.store.service_tables import ErasedListing
from curation.store.tables import AnnotationRow, Category, CategoryAlias, TaskRow, Tombstone
from curation.types import NOBODY, AnnotationsDeleted, Event, LabelEvent, Origin, Outcome, Question, TasksDeleted, TaskSeen, Vote

RUBBER_STAMP_S = 2.0
"""A suggestion accepted untouched in less than this was hardly read (labeling takes 5-30 s)."""

Touched = tuple[tuple[str, Question], ...]
"""(listing ref, question) pairs whose votes may have changed."""


@dataclass(frozen=True, slots=True)
class Logged:
    """What became of one event. `outcome`: applied, duplicate, stale, tombstoned, orphan or task."""

    outcome: str
    touched: Touched = ()


def log_event(session: Session, event: Event, *, via: str, now: datetime) -> Logged:
    """Append one event in the caller's transaction; safe to repeat and in any order.

    `via` says how it came: ``webhook``, ``reconcile`` or ``cli``.
    """
    match event:
        case LabelEvent():
            return _log_label(session, event, via=via, now=now)
        case AnnotationsDeleted():
            _lock(session, event.source, *event.source_ids)
            return _bury(session, event.source, event.source_ids, via=via, now=now)
        case TasksDeleted():
            return _bury_tasks(session, event, via=via, now=now)
        case TaskSeen():
            return _see_task(session, event, now=now)


def _log_label(session: Session, event: LabelEvent, *, via: str, now: datetime) -> Logged:
    _lock_task(session, event.source, event.task_id)  # before the annotation, as where a task is deleted with all of its own
    _lock(session, event.source, event.source_id)
    ref = event.listing_ref or _ref_of_task(session, event.source, event.task_id)
    if _is_erased(session, ref):
        event = replace(event, note="", raw_value=None, is_there=False)
    row = _row(event, ref, via, now) | {"annotator": _person(session, event)}
    is_new = insert_new(session, AnnotationRow, [row], ["source", "source_id", "question", "revision"])
    is_read_anew = not is_new and _read_anew(session, event)
    if not (is_new or is_read_anew or event.is_there):
        return Logged("duplicate")
    moved_from = _bring_back(session, event, ref) if event.is_there else set()
    if _is_buried(session, event):
        return Logged("tombstoned")
    same = _same(event)
    in_order = (AnnotationRow.at.desc(), AnnotationRow.ground_truth, AnnotationRow.id.desc())
    newest = session.execute(select(AnnotationRow.id).where(*same).order_by(*in_order).limit(1)).scalar_one()
    was_current = session.execute(
        update(AnnotationRow)
        .where(*same, AnnotationRow.is_current.is_(True), AnnotationRow.id != newest)
        .values(is_current=False)
        .returning(AnnotationRow.listing_ref)
    ).scalars()
    refs = {one for one in (ref, *was_current, *moved_from) if one is not None}
    fresh = session.execute(
        update(AnnotationRow).where(AnnotationRow.id == newest).values(is_current=True).returning(AnnotationRow.revision)
    )
    if fresh.scalar_one() != event.revision:
        return Logged("stale")
    known = known_refs(session, refs)
    touched = tuple((known_ref, event.question) for known_ref in sorted(known))
    return Logged("applied" if ref in known else "orphan", touched)


def _same(event: LabelEvent) -> tuple[ColumnElement[bool], ...]:
    """All states of one annotation for one question."""
    return (
        AnnotationRow.source == event.source,
        AnnotationRow.source_id == event.source_id,
        AnnotationRow.question == event.question.value,
    )


def _person(session: Session, event: LabelEvent) -> str:
    """Who annotated; after the account was deleted, who had annotated when it was still there."""
    if event.annotator != NOBODY:
        return event.annotator
    mine = (AnnotationRow.source == event.source, AnnotationRow.source_id == event.source_id)
    known = select(AnnotationRow.annotator).where(*mine, AnnotationRow.annotator != NOBODY).limit(1)
    return session.execute(known).scalar_one_or_none() or NOBODY


def _bring_back(session: Session, event: LabelEvent, ref: str | None) -> set[str | None]:
    """Label Studio has it, in this task: no tombstone holds, and all its states belong here. The listings they were of."""
    session.execute(delete(Tombstone).where(Tombstone.source == event.source, Tombstone.source_id == event.source_id))
    elsewhere = (*_same(event), AnnotationRow.task_id != event.task_id)
    refs = set(session.execute(select(AnnotationRow.listing_ref).where(*elsewhere)).scalars())
    session.execute(update(AnnotationRow).where(*elsewhere).values(task_id=event.task_id, listing_ref=ref))
    return refs


def _read_anew(session: Session, event: LabelEvent) -> bool:
    """An answer that was no label when it came, and is one now: its category or policy was added since."""
    if event.outcome is Outcome.UNKNOWN_LABEL:
        return False
    unread = (
        *_same(event),
        AnnotationRow.revision == event.revision,
        AnnotationRow.outcome == Outcome.UNKNOWN_LABEL.value,
    )
    values = {"outcome": event.outcome.value, "value": event.value, "raw_value": event.raw_value}
    return session.execute(update(AnnotationRow).where(*unread).values(**values).returning(AnnotationRow.id)).first() is not None


def _lock(session: Session, source: str, *source_ids: str) -> None:
    """Two workers never order the states of one annotation at once."""
    for source_id in sorted(source_ids):
        locks.alone(session, f"{source}/{source_id}")


def _lock_task(session: Session, source: str, task_id: str) -> None:
    """An annotation is never written while its task is being deleted or given its listing: neither would see the other."""
    locks.alone(session, f"{source}/task/{task_id}")


def _row(event: LabelEvent, ref: str | None, via: str, now: datetime) -> dict[str, object]:
    return {
        "source": event.source,
        "source_id": event.source_id,
        "revision": event.revision,
        "question": event.question.value,
        "task_id": event.task_id,
        "listing_ref": ref,
        "outcome": event.outcome.value,
        "value": event.value,
        "raw_value": event.raw_value,
        "annotator": event.annotator,
        "origin": event.origin.value,
        "lead_time_s": event.lead_time_s,
        "ground_truth": event.ground_truth,
        "note": event.note,
        "updated_by": event.updated_by,
        "parent_prediction": event.parent_prediction,
        "at": event.at,
        "is_current": False,
        "seen_at": now,
        "via": via,
    }


def _is_buried(session: Session, event: LabelEvent) -> bool:
    stone = select(Tombstone.id).where(Tombstone.source == event.source, Tombstone.source_id == event.source_id)
    task = select(TaskRow.id).where(
        TaskRow.source == event.source, TaskRow.task_id == event.task_id, TaskRow.is_deleted.is_(True)
    )
    return session.execute(stone).first() is not None or session.execute(task).first() is not None


def _bury(session: Session, source: str, source_ids: tuple[str, ...], *, via: str, now: datetime) -> Logged:
    """Annotations that are locked: none of their states counts any more."""
    stones = [{"source": source, "source_id": source_id, "at": now, "via": via} for source_id in source_ids]
    n_new = insert_new(session, Tombstone, stones, ["source", "source_id"])
    rows = session.execute(
        update(AnnotationRow)
        .where(AnnotationRow.source == source, AnnotationRow.source_id.in_(source_ids), AnnotationRow.is_current.is_(True))
        .values(is_current=False)
        .returning(AnnotationRow.listing_ref, AnnotationRow.question)
    ).all()
    known = known_refs(session, {row.listing_ref for row in rows if row.listing_ref is not None})
    touched = sorted({(row.listing_ref, Question(row.question)) for row in rows if row.listing_ref in known})
    return Logged("applied" if n_new else "duplicate", tuple(touched))


def _bury_tasks(session: Session, event: TasksDeleted, *, via: str, now: datetime) -> Logged:
    for task_id in sorted(event.task_ids):
        _lock_task(session, event.source, task_id)
        _upsert_task(session, event.source, task_id, ref="", is_deleted=True, now=now)
    _lock(session, event.source, *_current_of(session, event))
    found = _current_of(session, event)  # looked at again: one may have been on its way to another task
    return _bury(session, event.source, found, via=via, now=now) if found else Logged("task")


def _current_of(session: Session, event: TasksDeleted) -> tuple[str, ...]:
    """Ids of the annotations of these tasks that count."""
    mine = (AnnotationRow.source == event.source, AnnotationRow.task_id.in_(event.task_ids), AnnotationRow.is_current.is_(True))
    return tuple(session.execute(select(AnnotationRow.source_id).where(*mine).distinct()).scalars())


def _see_task(session: Session, event: TaskSeen, *, now: datetime) -> Logged:
    _lock_task(session, event.source, event.task_id)
    if _is_erased(session, event.listing_ref):
        _upsert_task(session, event.source, event.task_id, ref=event.listing_ref, is_deleted=True, now=now)
        return Logged("tombstoned")
    _upsert_task(session, event.source, event.task_id, ref=event.listing_ref, is_deleted=False, now=now)
    if event.is_there:
        mine = (TaskRow.source == event.source, TaskRow.task_id == event.task_id)
        session.execute(update(TaskRow).where(*mine).values(is_deleted=False))
    rows = session.execute(
        update(AnnotationRow)
        .where(AnnotationRow.source == event.source, AnnotationRow.task_id == event.task_id, AnnotationRow.listing_ref.is_(None))
        .values(listing_ref=event.listing_ref)
        .returning(AnnotationRow.question)
    ).scalars()
    questions = sorted({Question(question) for question in rows})
    known = known_refs(session, {event.listing_ref})
    return Logged("task", tuple((ref, question) for ref in known for question in questions))


def _upsert_task(session: Session, source: str, task_id: str, *, ref: str, is_deleted: bool, now: datetime) -> None:
    row = {"source": source, "task_id": task_id, "listing_ref": ref, "is_deleted": is_deleted, "created_at": now}
    if insert_new(session, TaskRow, [row], ["source", "task_id"]):
        return
    change = {"is_deleted": True} if is_deleted else {"listing_ref": ref}
    session.execute(update(TaskRow).where(TaskRow.source == source, TaskRow.task_id == task_id).values(**change))


def _ref_of_task(session: Session, source: str, task_id: str) -> str | None:
    found = select(TaskRow.listing_ref).where(TaskRow.source == source, TaskRow.task_id == task_id)
    return session.execute(found).scalar_one_or_none() or None


def _is_erased(session: Session, ref: str | None) -> bool:
    mine = (ErasedListing.ref == ref, ErasedListing.allowed_at.is_(None))
    return session.execute(select(ErasedListing.id).where(*mine).limit(1)).first() is not None


def orphans(session: Session, refs: list[str]) -> Touched:
    """(ref, question) of annotations that came before their listing did."""
    rows = session.execute(
        select(AnnotationRow.listing_ref, AnnotationRow.question)
        .where(AnnotationRow.listing_ref.in_(refs), AnnotationRow.is_current.is_(True))
        .distinct()
    ).all()
    return tuple(sorted((row.listing_ref, Question(row.question)) for row in rows))


def votes(session: Session, listing_ref: str, question: Question) -> list[Vote]:
    """The votes that count now, oldest first; renamed categories under their present path."""
    rows = session.execute(
        select(AnnotationRow)
        .where(AnnotationRow.listing_ref == listing_ref, *_counts(question))
        .order_by(AnnotationRow.at, AnnotationRow.id)
    ).scalars()
    return [
        _vote(row, _present_path(session, row.value or "") if question is Question.CATEGORY else row.value or "") for row in rows
    ]


def answered(question: Question) -> Select[Any]:
    """Query of the refs that have votes, once each; None among them where an answered task's listing is not known yet."""
    return select(AnnotationRow.listing_ref).where(*_counts(question)).group_by(AnnotationRow.listing_ref)


def _counts(question: Question) -> tuple[ColumnElement[bool], ...]:
    """What makes an annotation a vote that counts now."""
    return (
        AnnotationRow.question == question.value,
        AnnotationRow.is_current.is_(True),
        AnnotationRow.outcome == Outcome.LABEL.value,
    )


def n_skips(session: Session, listing_ref: str, question: Question) -> int:
    """How many people skipped the listing and have not answered since."""
    rows = session.execute(
        select(AnnotationRow.annotator, AnnotationRow.outcome).where(
            AnnotationRow.listing_ref == listing_ref, AnnotationRow.question == question.value, AnnotationRow.is_current.is_(True)
        )
    ).all()
    answered = {row.annotator for row in rows if row.outcome == Outcome.LABEL.value}
    return len({row.annotator for row in rows if row.outcome == Outcome.SKIP.value} - answered)


def is_rubber_stamp(vote: Vote) -> bool:
    """A suggestion taken over untouched and unread: never an independent vote."""
    return vote.origin is Origin.PREDICTION and (vote.lead_time_s is None or vote.lead_time_s < RUBBER_STAMP_S)


def _vote(row: AnnotationRow, value: str) -> Vote:
    origin = Origin(row.origin)
    if origin is Origin.UNKNOWN and row.parent_prediction and row.lead_time_s is None:
        origin = Origin.PREDICTION  # the bulk action "create annotations from predictions"
    return Vote(row.annotator, value, row.at, origin, row.lead_time_s, row.ground_truth, row.id)


def _present_path(session: Session, path: str) -> str:
    renamed = (
        select(Category.path).join(CategoryAlias, CategoryAlias.category_id == Category.id).where(CategoryAlias.old_path == path)
    )
    return session.execute(renamed).scalar_one_or_none() or path
