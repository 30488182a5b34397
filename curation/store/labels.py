"""The label ledger: one current label per listing and question, and every change it went through.

Resolution order: moderators' consensus > refurbished (while its evidence holds) > seller or
report. Labels are derived: `recompute` gives the same label from the same annotations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.quality.consensus import majority
from curation.store import annotations
from curation.store.tables import Category, LabelHistory, LabelRow, ListingRow
from curation.types import Event, LabelSource, Question, Vote, join_violations

STAMPED_CONFIDENCE = 0.5
"""Confidence of a label that rests on rubber-stamped suggestions alone."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one event, and the (listing id, question) pairs it touched."""

    outcome: str
    touched: tuple[tuple[int, Question], ...] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A label as it should be now."""

    value: str
    source: LabelSource
    confidence: float | None
    evidence: Mapping[str, Any]


def apply_event(session: Session, event: Event, *, via: str, now: datetime) -> Applied:
    """Log the event and bring the labels it touches up to date, in the caller's transaction.

    Outcomes: applied, duplicate (seen before), stale (an older state), tombstoned (deleted in
    Label Studio), orphan (the listing is not here yet), task (a task was noted).
    """
    logged = annotations.log_event(session, event, via=via, now=now)
    return Applied(logged.outcome, _recompute_refs(session, logged.touched, now=now))


def adopt_orphans(session: Session, refs: Iterable[str], *, now: datetime) -> tuple[tuple[int, Question], ...]:
    """Bring in the annotations that came before these listings did."""
    return _recompute_refs(session, annotations.orphans(session, list(refs)), now=now)


def votes(session: Session, listing_ref: str, question: Question) -> list[Vote]:
    """The votes that count now, oldest first."""
    return annotations.votes(session, listing_ref, question)


def recompute(session: Session, listing_id: int, question: Question, *, now: datetime) -> bool:
    """Resolve one label anew from its votes; True if anything about it changed."""
    listing = session.get_one(ListingRow, listing_id, with_for_update=True)  # one at a time: two votes may come in at once
    current = _current(session, listing_id, question)
    found = annotations.votes(session, listing.ref, question)
    resolved = _from_votes(found, current)
    if resolved is None:
        holds = current is not None and current.source == LabelSource.REFURBISHED.value
        resolved = _as_resolved(current) if holds else _base(session, listing, question)
    return set_label(session, listing_id, question, resolved, now=now)


def refurbish(
    session: Session, question: Question, changes: Mapping[int, tuple[str, float]], *, run_id: int, now: datetime
) -> int:
    """Set labels repaired by a run, and take back earlier repairs that the run no longer supports.

    `changes`: listing id → (value, confidence in [0, 1]). Moderators' labels are never touched.
    Returns how many labels changed.
    """
    held = select(LabelRow).where(LabelRow.question == question.value, LabelRow.source == LabelSource.REFURBISHED.value)
    dropped = [row.listing_id for row in session.execute(held).scalars() if row.listing_id not in changes]
    n_changed = 0
    for listing_id in dropped:
        base = _base(session, session.get_one(ListingRow, listing_id), question)
        n_changed += set_label(session, listing_id, question, base, now=now)
    for listing_id, (value, confidence) in changes.items():
        current = _current(session, listing_id, question)
        if current is None or current.source != LabelSource.MODERATORS.value:
            label = Resolved(value, LabelSource.REFURBISHED, confidence, {"run": run_id, "rule": "refurbished"})
            n_changed += set_label(session, listing_id, question, label, now=now)
    return n_changed


def set_crowd(
    session: Session,
    question: Question,
    consensus: Mapping[int, tuple[str, float]],
    *,
    evidence: Mapping[str, Any],
    now: datetime,
) -> int:
    """Set labels where cleanlab's multi-annotator consensus decides; how many changed.

    `consensus`: listing id → (value, quality in [0, 1]). A listing without votes is left alone.
    """
    n_changed = 0
    for listing_id, (value, quality) in consensus.items():
        found = annotations.votes(session, session.get_one(ListingRow, listing_id).ref, question)
        if found:
            proof = {**evidence, "rule": "crowd", "votes": [_proof(vote) for vote in found]}
            n_changed += set_label(
                session, listing_id, question, Resolved(value, LabelSource.MODERATORS, quality, proof), now=now
            )
    return n_changed


def set_label(session: Session, listing_id: int, question: Question, label: Resolved | None, *, now: datetime) -> bool:
    """Make `label` the current one (None removes it) and keep the change in the history."""
    current = _current(session, listing_id, question)
    if (None if current is None else _as_resolved(current)) == label:
        return False
    session.add(
        LabelHistory(
            listing_id=listing_id,
            question=question.value,
            old_value=current and current.value,
            old_source=current and current.source,
            value=label and label.value,
            source=label and label.source.value,
            confidence=label and label.confidence,
            evidence=dict(label.evidence) if label else {},
            at=now,
        )
    )
    if label is None:
        session.delete(current)
    else:
        row = current or LabelRow(listing_id=listing_id, question=question.value)
        row.value, row.source, row.confidence = label.value, label.source.value, label.confidence
        row.evidence, row.changed_at = dict(label.evidence), now
        session.add(row)
    session.flush()
    return True


def _recompute_refs(session: Session, touched: annotations.Touched, *, now: datetime) -> tuple[tuple[int, Question], ...]:
    found = []
    for ref, question in touched:
        listing_id = session.execute(select(ListingRow.id).where(ListingRow.ref == ref)).scalar_one()
        recompute(session, listing_id, question, now=now)
        found.append((listing_id, question))
    return tuple(found)


def _from_votes(found: list[Vote], current: LabelRow | None) -> Resolved | None:
    """The moderators' label, or None where nobody voted or the votes are tied."""
    independent = [vote for vote in found if not annotations.is_rubber_stamp(vote)]
    consensus = majority(independent or found)
    proof = {"rule": "majority", "votes": [_proof(vote) for vote in found]}
    if consensus.value is not None:
        confidence = consensus.confidence if independent else min(consensus.confidence, STAMPED_CONFIDENCE)
        return Resolved(consensus.value, LabelSource.MODERATORS, confidence, proof)
    decided = current is not None and current.evidence.get("rule") == "crowd" and current.evidence.get("votes") == proof["votes"]
    return _as_resolved(current) if decided and found else None


def _base(session: Session, listing: ListingRow, question: Question) -> Resolved | None:
    """What the listing came with: the seller's category, or users' reports."""
    if question is Question.CATEGORY:
        path = session.execute(select(Category.path).where(Category.id == listing.category_id)).scalar_one_or_none()
        return None if path is None else Resolved(path, LabelSource.SELLER, None, {})
    return Resolved(join_violations(listing.flags), LabelSource.REPORT, None, {}) if listing.flags else None


def _current(session: Session, listing_id: int, question: Question) -> LabelRow | None:
    found = select(LabelRow).where(LabelRow.listing_id == listing_id, LabelRow.question == question.value)
    return session.execute(found).scalar_one_or_none()


def _as_resolved(row: LabelRow | None) -> Resolved | None:
    return None if row is None else Resolved(row.value, LabelSource(row.source), row.confidence, row.evidence)


def _proof(vote: Vote) -> dict[str, Any]:
    return {
        "annotation": vote.annotation_id,
        "annotator": vote.annotator,
        "value": vote.value,
        "at": vote.at.isoformat(),
        "origin": vote.origin.value,
    }
