"""What we hold of the tasks that Label Studio lists, so that only what is new is written."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from curation.store.tables import AnnotationRow, TaskRow, Tombstone
from curation.types import Event, LabelEvent, Outcome, TaskSeen


def displaced(session: Session, source: str, events: Iterable[Event]) -> set[tuple[str, str]]:
    """(annotation, task) of states that Label Studio lists, where we hold the annotation for deleted or for another task's."""
    listed = {event.source_id: event.task_id for event in events if isinstance(event, LabelEvent)}
    mine = (AnnotationRow.source == source, AnnotationRow.source_id.in_(listed))
    held = session.execute(select(AnnotationRow.source_id, AnnotationRow.task_id).where(*mine).distinct())
    moved = {row.source_id for row in held if row.task_id != listed[row.source_id]}
    stones = select(Tombstone.source_id).where(Tombstone.source == source, Tombstone.source_id.in_(listed))
    return {(source_id, listed[source_id]) for source_id in {*moved, *session.execute(stones).scalars()}}


def logged(session: Session, source: str, task_ids: list[str]) -> set[tuple[str, str, str]]:
    """(annotation, question, revision) of the states we have logged of these tasks."""
    is_read = AnnotationRow.outcome != Outcome.UNKNOWN_LABEL.value  # those are read again: the taxonomy may have grown
    found = select(AnnotationRow.source_id, AnnotationRow.question, AnnotationRow.revision)
    rows = session.execute(found.where(AnnotationRow.source == source, AnnotationRow.task_id.in_(task_ids), is_read))
    return {(row.source_id, row.question, row.revision) for row in rows}


def seen(session: Session, source: str, task_ids: list[str]) -> set[TaskSeen]:
    """Which of these tasks we know, as of which listing."""
    mine = (TaskRow.source == source, TaskRow.task_id.in_(task_ids), TaskRow.is_deleted.is_(False))
    rows = session.execute(select(TaskRow.task_id, TaskRow.listing_ref).where(*mine))
    return {TaskSeen(source, row.task_id, row.listing_ref, is_there=True) for row in rows}


def annotation(event: Event) -> str | None:
    """The annotation that an event is about."""
    return event.source_id if isinstance(event, LabelEvent) else None


def key(event: Event) -> tuple[str, str, str] | None:
    """An event as `logged` names it."""
    return (event.source_id, event.question.value, event.revision) if isinstance(event, LabelEvent) else None


def annotations(session: Session, source: str, task_ids: list[str]) -> set[str]:
    """The annotations of these tasks that count now."""
    mine = (AnnotationRow.source == source, AnnotationRow.task_id.in_(task_ids), AnnotationRow.is_current.is_(True))
    return set(session.execute(select(AnnotationRow.source_id).where(*mine).distinct()).scalars())


def live_tasks(session: Session, source: str) -> set[str]:
    """The tasks of our listings that are not known to be gone."""
    return set(session.execute(select(TaskRow.task_id).where(*_live(source))).scalars())


def n_live_tasks(session: Session, source: str) -> int:
    """How many there are."""
    return session.execute(select(func.count()).select_from(TaskRow).where(*_live(source))).scalar_one()


def answered_foreign(session: Session, source: str) -> set[str]:
    """Tasks that are none of ours and were answered."""
    mine = (AnnotationRow.source == source, AnnotationRow.is_current.is_(True), AnnotationRow.listing_ref.is_(None))
    return set(session.execute(select(AnnotationRow.task_id).where(*mine).distinct()).scalars())


def _live(source: str) -> tuple[ColumnElement[bool], ...]:
    return TaskRow.source == source, TaskRow.is_deleted.is_(False)
