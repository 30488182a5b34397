"""The review queue: which listings wait, are with the moderators, tied or decided."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from curation.quality.consensus import Consensus, majority
from curation.review import suggestions
from curation.review.neighbours import Near
from curation.review.suggestions import Suggestion
from curation.store import annotations, listings
from curation.store.tables import AnnotationRow, LabelRow, ListingRow, ReviewItem, SuspectRow
from curation.store.taxonomy import chunks
from curation.types import BLIND_BATCH, HARD_BATCH, OPEN, LabelSource, Listing, Question, Reason, Vote

SKIPS_TO_NOTE = 2
"""This many people skipping says that the listing is hard, not that they were busy."""

OF_A_RUN = frozenset({"label_issue", "unlabelled", "confusion", "views", "model_violation"})
"""Codes of the reasons that a run gives, and the next one gives anew."""

SECOND_OPINION = Reason("second_opinion", 1.0, "A second opinion is wanted.")
SKIPPED = Reason(
    "skipped", 1.0, "Several moderators skipped this listing: it is hard to decide. Take your time, or ask somebody who knows."
)
STAMPED = Reason("stamped", 1.0, "The suggestion was accepted unread: please look yourself.")


@dataclass(frozen=True, slots=True)
class Task:
    """One listing as moderators should see it; both questions are asked at once."""

    listing: Listing
    suggestion: Suggestion | None
    reasons: tuple[Reason, ...]
    priority: float
    is_blind: bool
    n_wanted: int
    near: tuple[Near, ...] = ()  #: verified listings that are most like it


def waiting(session: Session, limit: int) -> list[Task]:
    """Up to `limit` listings that have to be shown (again), highest priority first."""
    due = (ReviewItem.state.in_(("waiting", "tie")), ReviewItem.pushed_at.is_(None))
    first = select(ReviewItem.listing_id, ReviewItem.priority).where(*due).order_by(ReviewItem.priority.desc(), ReviewItem.id)
    ids = list(dict.fromkeys(row.listing_id for row in session.execute(first.limit(2 * limit))))[:limit]
    return tasks(session, ids)


def tasks(session: Session, listing_ids: Sequence[int]) -> list[Task]:
    """These listings as moderators should see them now, in this order; those that were never asked about are left out."""
    items: dict[int, list[ReviewItem]] = {}
    for part in chunks(set(listing_ids)):
        for item in session.execute(select(ReviewItem).where(ReviewItem.listing_id.in_(part))).scalars():
            items.setdefault(item.listing_id, []).append(item)
    suggested, told = suggestions.for_listings(session, list(items)), _told(session, list(items))
    found = {listing.id: listing for listing in listings.load(session, ids=list(items))}
    return [_task(found[i], items[i], suggested.get(i), told.get(i)) for i in listing_ids if i in items]


def _told(session: Session, listing_ids: Sequence[int]) -> dict[int, tuple[Reason, ...]]:
    """Listing id → what the newest run has to say about it, of the listings that it has ranked."""
    found: dict[int, tuple[Reason, ...]] = {}
    columns = select(SuspectRow.listing_id, SuspectRow.reasons).order_by(SuspectRow.listing_id, SuspectRow.question)
    for part in chunks(listing_ids):
        for row in session.execute(columns.where(SuspectRow.listing_id.in_(part))):
            found[row.listing_id] = found.get(row.listing_id, ()) + tuple(Reason(**reason) for reason in row.reasons)
    return found


def _task(listing: Listing, items: Sequence[ReviewItem], suggestion: Suggestion | None, told: Sequence[Reason] | None) -> Task:
    kept = tuple(dict.fromkeys(Reason(**reason) for item in items for reason in item.reasons))
    is_blind = any(item.batch == BLIND_BATCH for item in items)
    priority, n_wanted = max(item.priority for item in items), max(item.n_wanted for item in items)
    return Task(listing, suggestion, _up_to_date(kept, told), priority, is_blind, n_wanted)


def _up_to_date(kept: Sequence[Reason], told: Sequence[Reason] | None) -> tuple[Reason, ...]:
    """What an older run had said gives way to what the newest says of the same listing; None = it was not ranked."""
    if told is None or not any(reason.code in OF_A_RUN for reason in kept):
        return tuple(kept)
    return (*(reason for reason in kept if reason.code not in OF_A_RUN), *(one for one in told if one.code in OF_A_RUN))


def mark_pushed(
    session: Session, listing_ids: Collection[int], *, now: datetime, n_sent: Mapping[int, int] | None = None
) -> None:
    """Note that Label Studio has them; a tie stays a tie until a further person has answered.

    `n_sent`: listing id → opinions that were asked for; an item that wants more by now stays unsent.
    """
    wanted = n_sent or {}
    asked_more = [
        item.id
        for item in session.execute(select(ReviewItem).where(ReviewItem.listing_id.in_(wanted))).scalars()
        if item.n_wanted > wanted[item.listing_id]
    ]
    mine = (ReviewItem.listing_id.in_(listing_ids), ReviewItem.pushed_at.is_(None), ReviewItem.id.not_in(asked_more))
    session.execute(update(ReviewItem).where(*mine, ReviewItem.state == "tie").values(pushed_at=now))
    session.execute(update(ReviewItem).where(*mine, ReviewItem.state == "waiting").values(state="pushed", pushed_at=now))


def settle(session: Session, listing_id: int, question: Question, *, now: datetime) -> str:
    """Bring the item's state up to date with its votes, in the caller's transaction.

    Returns ``decided``, ``tie`` (one more person must be asked: moderators disagree, or took the
    suggestion over unread), ``pushed`` (still open), ``waiting`` (not asked yet), or ``none`` where
    the question was answered without being asked.
    """
    item = _item(session, listing_id, question)
    if item is None or item.state == "withdrawn":
        return "none"
    ref = session.execute(select(ListingRow.ref).where(ListingRow.id == listing_id)).scalar_one()
    votes = annotations.votes(session, ref, question)
    n_people = len({vote.annotator for vote in votes})
    independent = [vote for vote in votes if not annotations.is_rubber_stamp(vote)]
    is_hard = annotations.n_skips(session, ref, question) >= SKIPS_TO_NOTE
    before = item.state
    item.state = _state(item, majority(independent), n_people, is_settled=_is_settled(session, listing_id, question))
    is_answered = n_people >= item.n_wanted
    if item.state == "tie" and (before != "tie" or is_answered):
        _ask_one_more(item, n_people, Reason("tie", 1.0, _disagreement(independent)))
    is_stamped = item.state in ("waiting", "pushed") and bool(votes) and not independent and is_answered
    if is_stamped:
        _ask_one_more(item, n_people, STAMPED)
        item.state = "waiting"
    is_escalated = is_hard and not votes and _escalate(item)
    item.decided_at = (item.decided_at or now) if item.state == "decided" else None
    session.flush()
    is_asked = item.state == "tie" and item.pushed_at is not None
    return "tie" if is_stamped or is_escalated else "pushed" if is_asked else item.state


def _state(item: ReviewItem, consensus: Consensus, n_people: int, *, is_settled: bool) -> str:
    if consensus.is_tie:
        return "decided" if is_settled else "tie"
    is_resolved_tie = item.state == "tie"
    if consensus.value is not None and (n_people >= item.n_wanted or is_resolved_tie):
        return "decided"
    return "waiting" if item.pushed_at is None else "pushed"


def _is_settled(session: Session, listing_id: int, question: Question) -> bool:
    """The ledger holds a moderators' label: of tied votes only where the crowd's consensus decided."""
    label = select(LabelRow.id).where(
        LabelRow.listing_id == listing_id,
        LabelRow.question == question.value,
        LabelRow.source == LabelSource.MODERATORS.value,
    )
    return session.execute(label).first() is not None


def _escalate(item: ReviewItem) -> bool:
    """Show the question once more as a hard one, whose page says so; False if it was before."""
    if any(reason["code"] == SKIPPED.code for reason in item.reasons):
        return False
    _set_reason(item, SKIPPED)
    if item.batch != BLIND_BATCH:
        item.batch = HARD_BATCH
    item.state, item.pushed_at = "waiting", None
    return True


def _ask_one_more(item: ReviewItem, n_people: int, reason: Reason) -> None:
    item.n_wanted, item.pushed_at = n_people + 1, None
    _set_reason(item, reason)


def _disagreement(votes: Sequence[Vote]) -> str:
    """``2 moderators disagree: 1 × A, 1 × B; one more opinion decides.``"""
    newest = {vote.annotator: vote.value for vote in votes}
    said = ", ".join(
        f"{n} × {_shown(value)}" for value, n in sorted(Counter(newest.values()).items(), key=lambda x: (-x[1], x[0]))
    )
    return f"{len(newest)} moderators disagree: {said}. One more opinion decides."


def _shown(value: str) -> str:
    return value.replace("_", " ").replace("|", " + ")


def single(session: Session) -> dict[int, str]:
    """Listing id → near-duplicate group of decided listings whose category one person was asked about."""
    query = select(ListingRow.id, ListingRow.group_key).join(ReviewItem, ReviewItem.listing_id == ListingRow.id)
    return {row.id: row.group_key for row in session.execute(query.where(*_asked_once()))}


def ask_again(session: Session, listing_ids: Collection[int], *, limit: int) -> int:
    """Ask a second person about the category of decided listings that one person was asked about; how many."""
    found = (
        select(ReviewItem)
        .where(ReviewItem.listing_id.in_(listing_ids), *_asked_once())
        .order_by(ReviewItem.priority.desc(), ReviewItem.id)
        .limit(limit)
    )
    items = session.execute(found).scalars().all()
    for item in items:
        item.state, item.n_wanted, item.pushed_at, item.decided_at = "waiting", 2, None, None
        _set_reason(item, SECOND_OPINION)
    session.flush()
    return len(items)


def _asked_once() -> tuple[ColumnElement[bool], ...]:
    return (ReviewItem.question == Question.CATEGORY.value, ReviewItem.state == "decided", ReviewItem.n_wanted == 1)


def no_longer_doubted(session: Session) -> list[int]:
    """Listings that are asked about only because an older run doubted them, that the newest does not, and nobody answered."""
    asked: dict[int, list[ReviewItem]] = {}
    for item in session.execute(select(ReviewItem).where(ReviewItem.state.in_(OPEN))).scalars():
        asked.setdefault(item.listing_id, []).append(item)
    only = [i for i, items in asked.items() if {one["code"] for item in items for one in item.reasons} <= OF_A_RUN]
    told = _told(session, only)
    settled = [i for i in only if i in told and not any(reason.code in OF_A_RUN for reason in told[i])]
    answered = _answered(session, settled)
    return [i for i in settled if i not in answered]


def _answered(session: Session, listing_ids: Sequence[int]) -> set[int]:
    """Of these listings, those about which somebody has said something."""
    found: set[int] = set()
    query = select(ListingRow.id).join(AnnotationRow, AnnotationRow.listing_ref == ListingRow.ref)
    for part in chunks(listing_ids):
        found.update(session.execute(query.where(ListingRow.id.in_(part), AnnotationRow.is_current.is_(True))).scalars())
    return found


def withdraw(session: Session, listing_ids: Collection[int]) -> int:
    """Take back questions that need no answer any more; how many."""
    mine = (ReviewItem.listing_id.in_(listing_ids), ReviewItem.state.in_(OPEN))
    found: Any = session.execute(update(ReviewItem).where(*mine).values(state="withdrawn"))
    return int(found.rowcount)


def _item(session: Session, listing_id: int, question: Question) -> ReviewItem | None:
    found = select(ReviewItem).where(ReviewItem.listing_id == listing_id, ReviewItem.question == question.value)
    return session.execute(found).scalar_one_or_none()


def _set_reason(item: ReviewItem, reason: Reason) -> None:
    """Add the reason, in the place of an earlier one of its kind."""
    others = [held for held in item.reasons if held["code"] != reason.code]
    if [*others, asdict(reason)] != item.reasons:
        item.reasons = [*others, asdict(reason)]
