"""The labels listings come with, written in batches: the seller's category, and users' reports."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from curation.store.tables import LabelHistory, LabelRow
from curation.store.taxonomy import chunks
from curation.types import LabelSource, Question

SOURCES: Mapping[Question, LabelSource] = {Question.CATEGORY: LabelSource.SELLER, Question.VIOLATION: LabelSource.REPORT}
"""Who gives a listing its first label, by question."""


def insert(session: Session, question: Question, values: Mapping[int, str | None], *, now: datetime) -> None:
    """First labels of new listings: listing id → value, or None for no label."""
    rows = [_label(listing_id, question, value, now) for listing_id, value in values.items() if value is not None]
    if rows:
        session.connection().execute(sa.insert(LabelRow), rows)
        _remember(session, [_history(row["listing_id"], question, None, row["value"], now) for row in rows])


def update(session: Session, question: Question, values: Mapping[int, str | None], *, now: datetime) -> None:
    """Labels of changed listings; a label of a stronger source stays as it is."""
    there = _current(session, question, values)
    source = SOURCES[question].value
    insert(session, question, {key: value for key, value in values.items() if key not in there}, now=now)
    changed = {key: (old, values[key]) for key, (old, by) in there.items() if by == source and old != values[key]}
    mine = (LabelRow.listing_id == sa.bindparam("b_id"), LabelRow.question == question.value)
    gone = [{"b_id": key} for key, (_, new) in changed.items() if new is None]
    if gone:
        session.connection().execute(sa.delete(LabelRow).where(*mine), gone)
    kept = [{"b_id": key, "value": new, "changed_at": now} for key, (_, new) in changed.items() if new is not None]
    if kept:
        session.connection().execute(sa.update(LabelRow).where(*mine), kept)
    _remember(session, [_history(key, question, old, new, now) for key, (old, new) in changed.items()])


def _current(session: Session, question: Question, ids: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Listing id → (value, source) of its label, locked until the transaction ends."""
    query = sa.select(LabelRow.listing_id, LabelRow.value, LabelRow.source).where(LabelRow.question == question.value)
    found: dict[int, tuple[str, str]] = {}
    for part in chunks(ids):
        rows = session.execute(query.where(LabelRow.listing_id.in_(part)).with_for_update())
        found.update((row.listing_id, (row.value, row.source)) for row in rows)
    return found


def _label(listing_id: int, question: Question, value: str, now: datetime) -> dict[str, Any]:
    return {
        "listing_id": listing_id,
        "question": question.value,
        "value": value,
        "source": SOURCES[question].value,
        "confidence": None,
        "evidence": {},
        "changed_at": now,
    }


def _history(listing_id: int, question: Question, old: str | None, new: str | None, now: datetime) -> dict[str, Any]:
    source = SOURCES[question].value
    return {
        "listing_id": listing_id,
        "question": question.value,
        "old_value": old,
        "old_source": source if old is not None else None,
        "value": new,
        "source": source if new is not None else None,
        "confidence": None,
        "evidence": {},
        "at": now,
    }


def _remember(session: Session, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(sa.insert(LabelHistory), rows)
