"""Tasks that are read again though nothing has moved their `updated_at` since.

A webhook may come after reconciliation has passed its task: if the annotation's deletion was lost
meanwhile, nobody would tell us. And “Remove Duplicated Tasks” moves annotations to the first of
equal tasks without a word, and without touching that task's time.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from curation.labelstudio.apply import WEBHOOK
from curation.store.tables import AnnotationRow, TaskRow, Tombstone

STATE = "labelstudio.revisits"
"""Up to which annotation state and which tombstone all was looked at."""


def late(session: Session, source: str, marks: Mapping[str, Any], start: datetime) -> set[str]:
    """Tasks of which a webhook has told something older than `start`, from where this pass reads."""
    told = select(AnnotationRow.task_id).where(
        AnnotationRow.id > marks.get("annotation", 0),
        AnnotationRow.source == source,
        AnnotationRow.via == WEBHOOK,
        AnnotationRow.is_current.is_(True),
        AnnotationRow.at < start,
    )
    return set(session.execute(told.distinct()).scalars())


def twins(session: Session, source: str, marks: Mapping[str, Any]) -> set[str]:
    """Tasks of listings of which another task was deleted, with annotations that may have moved here."""
    dead, other = aliased(TaskRow), aliased(TaskRow)
    found = (
        select(other.task_id)
        .join(dead, (dead.source == other.source) & (dead.listing_ref == other.listing_ref) & dead.is_deleted.is_(True))
        .join(AnnotationRow, (AnnotationRow.source == dead.source) & (AnnotationRow.task_id == dead.task_id))
        .join(Tombstone, (Tombstone.source == dead.source) & (Tombstone.source_id == AnnotationRow.source_id))
        .where(Tombstone.id > marks.get("tombstone", 0), other.source == source, other.is_deleted.is_(False))
    )
    return set(session.execute(found.distinct()).scalars())


def marks(session: Session, before: Mapping[str, Any], until: datetime) -> dict[str, int]:
    """The new marks: rows seen before `until`; a slow transaction may still bring one with a lower id."""
    newest = {
        "annotation": select(func.max(AnnotationRow.id)).where(
            AnnotationRow.id > before.get("annotation", 0), AnnotationRow.seen_at < until
        ),
        "tombstone": select(func.max(Tombstone.id)).where(Tombstone.id > before.get("tombstone", 0), Tombstone.at < until),
    }
    return {name: session.execute(query).scalar_one() or before.get(name, 0) for name, query in newest.items()}
