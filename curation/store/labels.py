"""The label ledger: one current label per listing and question, and every change it went through.

Resolution order: moderators' consensus > refurbished (while its evidence holds) > seller or
report. Labels are derived: `recompute` gives the same label from the same annotations.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, type_coerce
from sqlalchemy.orm import Session

from curation.quality.consensus import majority
from curation.store import annotations
from curation.store.db import SafeText
from curation.store.tables import Category, LabelHistory, LabelRow, ListingRow
from curation.store.taxonomy import chunks
from curation.types import Event, LabelSource, Question, Vote, join_violations

STAMPED_CONFIDENCE = 0.5
"""Confidence of a label that rests on rubber-stamped suggestions alone."""

UNDONE = "undone"
"""The rule by which somebody took a repair back."""


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
    session: Session,
    question: Question,
    changes: Mapping[int, tuple[str, float]],
    *,
    run_id: int,
    now: datetime,
    evidence: Mapping[int, Mapping[str, Any]] | None = None,
) -> int:
    """Set labels repaired by a run, and take back earlier repairs that the run no longer supports.

    `changes`: listing id → (value, confidence in [0, 1]); `evidence`: listing id → what is kept with the change besides
    the run. Moderators' labels and repairs that were undone are never touched; a repair that the run upholds stays as it
    is, with the run that made it. Returns how many labels changed.
    """
    barred, proofs, n_changed = undone(session, question), evidence or {}, 0
    for part in chunks(sorted({*changes, *repaired(session, question)})):
        current = _locked(session, part, question)
        dropped = [i for i in part if i not in changes and _is_repaired(current.get(i))]
        n_changed += _take_back(session, dropped, current, question, {"rule": "unsupported", "run": run_id}, now=now)
        for listing_id in part:
            value, confidence = changes.get(listing_id, (None, 0.0))
            if value is None or listing_id in barred or _stands(current.get(listing_id), value):
                continue
            proof = {**proofs.get(listing_id, {}), "run": run_id, "rule": "refurbished"}
            label = Resolved(value, LabelSource.REFURBISHED, confidence, proof)
            n_changed += _set(session, listing_id, question, current.get(listing_id), label, now=now)
        session.flush()
    return n_changed


def repaired(session: Session, question: Question, *, run_id: int | None = None) -> dict[int, str]:
    """Listing id → the value of its repaired label; only those that this run made, if one is named."""
    columns = select(LabelRow.listing_id, LabelRow.value, LabelRow.evidence)
    rows = session.execute(columns.where(LabelRow.question == question.value, LabelRow.source == LabelSource.REFURBISHED.value))
    return {row.listing_id: row.value for row in rows if run_id is None or row.evidence.get("run") == run_id}


def undo_repairs(
    session: Session,
    question: Question,
    listing_ids: Iterable[int],
    *,
    now: datetime,
    why: Mapping[str, str] | None = None,
) -> int:
    """Give these listings the labels they came with and never repair them again; how many were repaired until now.

    `why`: what is kept with the change besides the run, such as who undid it and for what reason.
    """
    n_undone = 0
    for part in chunks(sorted(set(listing_ids))):
        current = _locked(session, part, question)
        held = {i: row.evidence.get("run") for i, row in current.items() if _is_repaired(row)}
        for run_id in dict.fromkeys(held.values()):
            mine = [i for i, run in held.items() if run == run_id]
            n_undone += _take_back(session, mine, current, question, {**(why or {}), "rule": UNDONE, "run": run_id}, now=now)
        session.flush()
    return n_undone


def undone(session: Session, question: Question) -> set[int]:
    """Listings whose repair somebody undid: the history remembers it."""
    mark = type_coerce(LabelHistory.evidence, SafeText).contains(f'"rule":"{UNDONE}"')
    mine = (LabelHistory.question == question.value, LabelHistory.old_source == LabelSource.REFURBISHED.value, mark)
    return set(session.execute(select(LabelHistory.listing_id).where(*mine)).scalars())


def set_crowd(
    session: Session,
    question: Question,
    consensus: Mapping[int, tuple[str, float]],
    *,
    evidence: Mapping[str, Any],
    now: datetime,
) -> int:
    """Set labels where the consensus of several annotators decides; how many changed.

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
    changed = _set(session, listing_id, question, _current(session, listing_id, question), label, now=now)
    session.flush()
    return changed


def _set(
    session: Session,
    listing_id: int,
    question: Question,
    current: LabelRow | None,
    label: Resolved | None,
    *,
    now: datetime,
    why: Mapping[str, Any] | None = None,
) -> bool:
    """`set_label` of a label that was read already, not flushed; `why` stands in the history instead of its evidence."""
    if _as_resolved(current) == label:
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
            evidence=dict(why or (label.evidence if label else {})),
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
    return True


def _locked(session: Session, listing_ids: Collection[int], question: Question) -> dict[int, LabelRow]:
    """The current labels of these listings, which nobody votes on until the transaction ends."""
    mine = select(ListingRow.id).where(ListingRow.id.in_(listing_ids)).order_by(ListingRow.id).with_for_update()
    session.execute(mine).all()
    rows = select(LabelRow).where(LabelRow.listing_id.in_(listing_ids), LabelRow.question == question.value)
    found = session.execute(rows, execution_options={"populate_existing": True}).scalars()
    return {row.listing_id: row for row in found}


def _is_repaired(row: LabelRow | None) -> bool:
    return row is not None and row.source == LabelSource.REFURBISHED.value


def _stands(row: LabelRow | None, value: str) -> bool:
    """A repair to `value` changes nothing: moderators decided, or it was made before."""
    return row is not None and (row.source == LabelSource.MODERATORS.value or (_is_repaired(row) and row.value == value))


def _take_back(
    session: Session,
    listing_ids: Collection[int],
    current: Mapping[int, LabelRow],
    question: Question,
    why: Mapping[str, Any],
    *,
    now: datetime,
) -> int:
    rows = session.execute(select(ListingRow).where(ListingRow.id.in_(listing_ids))).scalars().all()
    paths = _paths(session, rows)
    return sum(
        _set(session, row.id, question, current[row.id], _came_with(row, question, paths), now=now, why=why) for row in rows
    )


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
    return _came_with(listing, question, _paths(session, [listing]))


def _came_with(listing: ListingRow, question: Question, paths: Mapping[int | None, str]) -> Resolved | None:
    if question is Question.CATEGORY:
        path = paths.get(listing.category_id)
        return None if path is None else Resolved(path, LabelSource.SELLER, None, {})
    return Resolved(join_violations(listing.flags), LabelSource.REPORT, None, {}) if listing.flags else None


def _paths(session: Session, found: Iterable[ListingRow]) -> dict[int | None, str]:
    """Category id → path, of the categories that these listings came with."""
    ids = {listing.category_id for listing in found} - {None}
    rows = session.execute(select(Category.id, Category.path).where(Category.id.in_(ids)))
    return {row.id: row.path for row in rows}


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
