"""Listings, rankings and moderators' answers for the tests of the review room."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.quality.validate import OutOfSample
from curation.release import registry
from curation.review import probabilities, queue, suspects
from curation.review.repair_evidence import DRAW, Opinion
from curation.store import labels
from curation.store.tables import LabelRow, ListingRow, ReviewItem
from curation.store.workspace import Workspace
from curation.types import LabelEvent, LabelSource, Listing, Origin, Outcome, Question, Reason, Suspect
from tests import builders
from tests.conftest import NOW

PATHS = ("Home / Garden", "Home / Lamps", "Sport / Balls", "Sport / Bikes")


def catalog(workspace: Workspace, n: int = 40, **changes: object) -> list[Listing]:
    """`n` listings, one near-duplicate group each, cycling through four categories."""
    builders.add(workspace, *(builders.record(f"r{i:03d}", category=PATHS[i % 4], **changes) for i in range(n)))
    return builders.all_listings(workspace)


def confident(listings: Sequence[Listing], wrong: Mapping[str, str] | None = None, p: float = 0.91) -> OutOfSample:
    """A model that agrees with every label but those named: ref → what it says instead, with probability `p`."""
    said = [PATHS.index((wrong or {}).get(listing.ref, listing.category or PATHS[0])) for listing in listings]
    probs = np.full((len(listings), 4), (1 - p) / 3)
    probs[np.arange(len(listings)), said] = p
    return OutOfSample(probs, PATHS, tuple(listing.ref for listing in listings), np.arange(len(listings)) % 3)


def held(listings: Sequence[Listing]) -> dict[str, tuple[str, LabelSource]]:
    """The sellers' labels."""
    return {listing.ref: (listing.category, LabelSource.SELLER) for listing in listings if listing.category}


def suspect(ref: str, given: str, suggested: str, p: float, *, is_issue: bool = True) -> Suspect:
    """One doubted category."""
    reason = Reason("label_issue", p, f"The seller chose {given}; it looks like {suggested}.")
    return Suspect(ref, Question.CATEGORY, given, suggested, round(1 - p, 6), is_issue, p, (reason,))


def flagged(ref: str, name: str, p: float) -> Suspect:
    """One violation the model sees."""
    reason = Reason("model_violation", p, f"The model sees {name}.")
    return Suspect(ref, Question.VIOLATION, "none", name, round(1 - p, 6), True, p, (reason,))


def rank(workspace: Workspace, question: Question, *found: Suspect, run_id: int | None = None) -> None:
    """Store a ranking."""
    with workspace.db.write() as session:
        suspects.replace(session, question, found, run_id=run_id)


def finish_run(workspace: Workspace, oos: OutOfSample, opinion: Opinion | None = None) -> int:
    """A finished run that left these probabilities, and its opinion."""
    with workspace.db.write() as session:
        run_id = registry.start_run(
            session, kind="retrain", snapshot_id=None, trigger="test", config={}, device="cpu", n_corrections=0, now=NOW
        )
        report = {probabilities.REPORT_KEY: probabilities.store(workspace.files, oos, opinion=opinion)}
        registry.finish_run(session, run_id, state="finished", report=report, n_seconds=1.0, now=NOW)
    return run_id


def draw(workspace: Workspace, refs: Iterable[str], reason: Reason = DRAW) -> None:
    """Ask about the category of these listings because they were drawn at random, or for another reason."""
    item = {"question": Question.CATEGORY.value, "state": "pushed", "reasons": [dataclasses.asdict(reason)], "priority": 0.5}
    with workspace.db.write() as session:
        for listing_id in session.execute(select(ListingRow.id).where(ListingRow.ref.in_(refs))).scalars().all():
            session.add(ReviewItem(listing_id=listing_id, **item, batch="b", n_wanted=1, created_at=NOW, pushed_at=NOW))


def answer(workspace: Workspace, ref: str, value: str | None, who: str = "anna", **details: Any) -> str:
    """One moderator's answer (None = skip) and what becomes of the question, as the worker does it."""
    return answer_all(workspace, [(ref, value, who)], **details)[0]


def answer_all(workspace: Workspace, said: Iterable[tuple[str, str | None, str]], **details: Any) -> list[str]:
    """Many answers (ref, value, who) in one transaction; what becomes of each question."""
    states = []
    with workspace.db.write() as session:
        for ref, value, who in said:
            event = _event(ref, value, who, **details)
            touched = labels.apply_event(session, event, via="webhook", now=NOW).touched
            found = [queue.settle(session, listing_id, asked, now=event.at) for listing_id, asked in touched]
            states.append(found[0] if found else "none")
    return states


def _event(
    ref: str,
    value: str | None,
    who: str,
    *,
    question: Question = Question.CATEGORY,
    origin: Origin = Origin.MANUAL,
    lead_time_s: float = 9.0,
    after_s: float = 1.0,
    annotation: str = "",
) -> LabelEvent:
    return LabelEvent(
        source="labelstudio:1",
        source_id=annotation or f"{ref}-{who}-{question}",
        task_id=f"task-{ref}",
        listing_ref=ref,
        question=question,
        outcome=Outcome.SKIP if value is None else Outcome.LABEL,
        value=value,
        annotator=who,
        at=NOW + timedelta(seconds=after_s),
        state_hash=f"{abs(hash((value, after_s))) % 16**16:016x}",
        origin=origin,
        lead_time_s=lead_time_s,
    )


def item(workspace: Workspace, ref: str, question: Question = Question.CATEGORY) -> ReviewItem:
    """The question as it stands, to look at."""
    with workspace.db.read() as session:
        found = item_in(session, ref, question)
        session.expunge_all()
    return found


def item_in(session: Session, ref: str, question: Question = Question.CATEGORY) -> ReviewItem:
    """The question of the listing, in a session."""
    mine = select(ReviewItem).join(ListingRow, ListingRow.id == ReviewItem.listing_id)
    return session.execute(mine.where(ListingRow.ref == ref, ReviewItem.question == question.value)).scalar_one()


def items(workspace: Workspace) -> list[ReviewItem]:
    """All questions, in the order they were opened."""
    with workspace.db.read() as session:
        found = list(session.execute(select(ReviewItem).order_by(ReviewItem.id)).scalars())
        session.expunge_all()
    return found


def label(workspace: Workspace, ref: str) -> LabelRow:
    """The listing's category label."""
    mine = select(LabelRow).join(ListingRow, ListingRow.id == LabelRow.listing_id)
    with workspace.db.read() as session:
        found = session.execute(mine.where(ListingRow.ref == ref, LabelRow.question == Question.CATEGORY.value)).scalar_one()
        session.expunge_all()
    return found


def with_shares(workspace: Workspace, **shares: float) -> Workspace:
    """The same workspace with these shares of a batch; the others are 0."""
    none = dict.fromkeys(("audit_share", "violation_share", "blind_share", "second_opinion_share", "repair_share"), 0.0)
    return dataclasses.replace(workspace, settings=workspace.settings.model_copy(update=none | shares))
