"""The history of one listing as a time line: what happened, when, by whom, and on what evidence, in words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.store import history, listings, search
from curation.store.history import Asked, Change, History, Said
from curation.store.labels import UNDONE
from curation.store.search import Found
from curation.store.service_tables import ExportRow, Report
from curation.store.tables import ListingRow, RunRow, SnapshotRow
from curation.types import LabelSource, Listing, Outcome, Question

SHOWN_SNAPSHOTS = 20
SHOWN_SIMILAR = 12
VALUE_SHOWN = 300

OUTCOMES = {
    Outcome.SKIP.value: "Skipped the question",
    Outcome.EMPTY.value: "Sent no answer",
    Outcome.UNKNOWN_LABEL.value: "Answered with what is no label",
    Outcome.CONTRADICTORY.value: "Gave answers that exclude each other",
}
SOURCES = {
    LabelSource.SELLER.value: "the seller",
    LabelSource.REPORT.value: "a report",
    LabelSource.REFURBISHED.value: "automatic repair",
    LabelSource.MODERATORS.value: "the moderators",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `kind`: listed, read, report, asked, answer, label, repair or snapshot."""

    at: datetime
    kind: str
    question: str  #: ``""`` where it is about no question
    who: str
    words: str
    evidence: tuple[str, ...] = ()  #: one sentence each


@dataclass(frozen=True, slots=True)
class Page:
    """All that is known of a listing. `listing` is None where only annotations of its ref are known."""

    history: History
    listing: Listing | None
    events: tuple[Event, ...]  #: newest first
    similar: tuple[Found, ...]  #: near-duplicates, up to 12
    is_repaired: bool  #: the category was changed by a repair that can be undone


def of(session: Session, ref: str) -> Page:
    """Everything about the listing with this ref. Raises NotFoundError if nothing is known of it."""
    known = history.of(session, ref)
    listing = listings.load(session, ids=[known.listing_id])[0] if known.listing_id is not None else None
    events = list(_read(session, known.listing_id)) if known.listing_id is not None else []
    snapshots = list(_snapshots(session, known, first_at=events[-1].at)) if events else []
    if known.erased_at is not None:
        events.append(Event(known.erased_at, "erased", "", "", "The listing was erased on request; ids and answers are left"))
    events += [*_reports(session, ref), *_asked(known), *_said(known), *_changes(known), *snapshots]
    order = sorted(range(len(events)), key=lambda i: (events[i].at, i), reverse=True)
    is_repaired = any(
        one.question == Question.CATEGORY.value and one.source == LabelSource.REFURBISHED.value for one in known.labels
    )
    return Page(known, listing, tuple(events[i] for i in order), _similar(session, known), is_repaired)


def _said(known: History) -> Iterator[Event]:
    for one in known.annotations:
        yield Event(one.at, "answer", one.question, one.annotator, _answer(one), tuple(_circumstances(one)))


def _answer(one: Said) -> str:
    if one.outcome != Outcome.LABEL.value:
        return OUTCOMES.get(one.outcome, one.outcome) + (f": {_short(one.raw_value)}" if one.raw_value else "")
    return f"Answered {_value(one.question, one.value)}"


def _circumstances(one: Said) -> Iterator[str]:
    if one.is_deleted:
        yield "Deleted in Label Studio since; it counts no more."
    elif not one.is_current:
        yield "Changed later; this state counts no more."
    if one.lead_time_s is not None:
        yield f"It took {one.lead_time_s:,.0f} s."
    if one.origin in ("prediction", "prediction-changed"):
        yield "The suggestion was taken over." if one.origin == "prediction" else "The suggestion was changed."
    if one.note:
        yield f"Note: {_short(one.note)}"


def _asked(known: History) -> Iterator[Event]:
    for one in known.review:
        yield Event(one.created_at, "asked", one.question, "", _question(one), tuple(str(why["words"]) for why in one.reasons))
        if one.state == "decided" and one.decided_at is not None:
            yield Event(one.decided_at, "asked", one.question, "", "The question was decided")


def _question(one: Asked) -> str:
    states = {
        "waiting": "waits to be shown",
        "pushed": "is with the moderators",
        "tie": "is tied: one more opinion is wanted",
        "decided": "is decided by now",
        "withdrawn": "was withdrawn",
    }
    people = "one person" if one.n_wanted == 1 else f"{one.n_wanted} people"
    return f"Moderators were asked: {people} wanted; the question {states.get(one.state, one.state)}"


def _changes(known: History) -> Iterator[Event]:
    for one in known.changes:
        is_repair = LabelSource.REFURBISHED.value in (one.source, one.old_source)
        who = str(one.evidence.get("by", "")) or SOURCES.get(one.source or "", "")
        yield Event(one.at, "repair" if is_repair else "label", one.question, who, _change(one), tuple(_evidence(one)))


def _change(one: Change) -> str:
    old, value = _value(one.question, one.old_value), _value(one.question, one.value)
    if one.value is None:
        return f"The label {old} was taken away"
    if one.old_value is None:
        return f"The label became {value}"
    if one.old_value == one.value:
        return f"The label stayed {value}, from {SOURCES.get(one.source or '', one.source)}"
    return f"The label changed from {old} to {value}"


def _evidence(one: Change) -> Iterator[str]:
    found = one.evidence
    if found.get("rule") == UNDONE:
        yield f"The repair of run {found.get('run')} was undone; no later run repairs this listing."
        if found.get("reason"):
            yield f"Reason: {_short(str(found['reason']))}"
    elif found.get("rule") == "unsupported":
        yield f"Run {found.get('run')} no longer supports the earlier repair."
    elif one.source == LabelSource.REFURBISHED.value:
        yield from _proof(found)
    elif found.get("votes"):
        rule = "CROWDLAB weighed the votes" if found.get("rule") == "crowd" else "The majority decides"
        votes = "; ".join(
            f"{vote.get('annotator')} said {_value(one.question, str(vote.get('value')))}" for vote in found["votes"]
        )
        yield f"{rule}: {votes}."
    if one.confidence is not None:
        yield f"Confidence {one.confidence:.1%}."


def _proof(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"Run {found.get('run')} changed it without asking anybody."
    if isinstance(found.get("score"), float) and isinstance(found.get("cut"), float):
        yield f"It scored {found['score']:.3f}; changes are made from {found['cut']:.3f} on."
    if isinstance(found.get("precision_low"), float):
        yield (
            f"Of {found.get('n_verified')} such listings that moderators decided {found.get('n_right')} were right: with 95 % "
            f"confidence at least {found['precision_low']:.1%} of such changes are."
        )


def _reports(session: Session, ref: str) -> Iterator[Event]:
    for row in session.execute(select(Report).where(Report.listing_ref == ref).order_by(Report.id)).scalars():
        words = f"Reported as {row.reason.replace('_', ' ')}"
        yield Event(
            row.at, "report", Question.VIOLATION.value, row.reporter or "", words, (_short(row.words),) if row.words else ()
        )


def _read(session: Session, listing_id: int) -> Iterator[Event]:
    columns = (ListingRow.listed_at, ListingRow.created_at)
    row = session.execute(select(*columns).where(ListingRow.id == listing_id)).one()
    if row.listed_at is not None:
        yield Event(row.listed_at, "listed", "", "the seller", "Listed by the seller")
    yield Event(row.created_at, "read", "", "", "First read here")


def _snapshots(session: Session, known: History, first_at: datetime) -> Iterator[Event]:
    """The newest snapshots since the listing was read: each freezes every listing."""
    rows = session.execute(
        select(SnapshotRow.id, SnapshotRow.sha256, SnapshotRow.created_at)
        .where(SnapshotRow.created_at >= first_at)
        .order_by(SnapshotRow.id.desc())
        .limit(SHOWN_SNAPSHOTS)
    ).all()
    uses = _uses(session, [row.id for row in rows])
    for row in rows:
        held = {one.question: one.value for one in known.changes if one.at <= row.created_at}
        labels = ", ".join(f"{question} {_value(question, value)}" for question, value in held.items() if value is not None)
        evidence = (f"Its labels then: {labels}." if labels else "It had no label then.", *uses.get(row.id, ()))
        yield Event(row.created_at, "snapshot", "", "", f"Part of the snapshot {row.sha256[:12]}", evidence)


def _uses(session: Session, snapshot_ids: list[int]) -> dict[int, list[str]]:
    """What each snapshot was used for: runs, and exports by date."""
    found: dict[int, list[str]] = {}
    runs = session.execute(select(RunRow.id, RunRow.snapshot_id).where(RunRow.snapshot_id.in_(snapshot_ids)).order_by(RunRow.id))
    for run in runs:
        found.setdefault(run.snapshot_id, []).append(f"Run {run.id} used it.")
    columns = (ExportRow.id, ExportRow.snapshot_id, ExportRow.format, ExportRow.created_at)
    for export in session.execute(select(*columns).where(ExportRow.snapshot_id.in_(snapshot_ids)).order_by(ExportRow.id)):
        words = f"Export {export.id} ({export.format}) of {export.created_at:%Y-%m-%d} holds it."
        found.setdefault(export.snapshot_id, []).append(words)
    return found


def _similar(session: Session, known: History) -> tuple[Found, ...]:
    if known.group_key is None:
        return ()
    query = select(*search.COLUMNS).where(ListingRow.group_key == known.group_key, ListingRow.id != known.listing_id)
    return tuple(search.found(row) for row in session.execute(query.order_by(ListingRow.id).limit(SHOWN_SIMILAR)))


def _value(question: str, value: str | None) -> str:
    """A label in words."""
    return _short(value.replace("_", " ").replace("|", " + ") if value and question == Question.VIOLATION.value else value)


def _short(value: str | None) -> str:
    text = value or ""
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}…"
