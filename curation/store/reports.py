"""Users' reports: kept once, whatever listing they name, and noted on the listing once it is here."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from curation.store import labels
from curation.store.db import dump_json
from curation.store.jobs import insert_new_ids
from curation.store.labels import Resolved
from curation.store.presence import known_refs
from curation.store.service_tables import Report
from curation.store.tables import LabelRow, ListingRow
from curation.store.taxonomy import chunks
from curation.types import NO_VIOLATION, LabelSource, Question, join_violations, split_violations

OTHER = "other"
"""The reason of a report that names no violation of the policy: it flags nothing and is shown to moderators."""

MAX_WORDS_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Given:
    """A report as somebody sends it. `at` None: they do not say when; it does not count towards its being the same."""

    ref: str
    reason: str  #: a violation of the policy, or OTHER
    words: str = ""
    reporter: str | None = None
    at: datetime | None = None

    @property
    def dedupe_key(self) -> str:
        """Equal for reports that say the same."""
        at = self.at and self.at.astimezone(UTC).isoformat()
        return hashlib.sha256(dump_json([self.ref, self.reason, self.words, self.reporter, at]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Added:
    """What became of reports: `n_known` were here already, `n_waiting` of the new ones name listings that are not here yet."""

    n_new: int
    n_known: int
    n_waiting: int
    n_flagged: int  #: (listing, violation) that nobody had reported before


@dataclass(frozen=True, slots=True)
class Said:
    """A stored report and what moderators decided. `outcome`: right, wrong, open, or unknown listing."""

    id: int
    ref: str
    reason: str
    words: str
    reporter: str | None
    via: str
    at: datetime
    seen_at: datetime
    title: str | None
    decided: str | None
    outcome: str


def add(session: Session, given: Sequence[Given], *, via: str, now: datetime) -> Added:
    """Keep the reports and note them on their listings, in the caller's transaction; saying the same again changes nothing.

    `via` says how they came: ``api``, ``file`` or ``cli``. The reasons must be violations of the policy, or OTHER.
    """
    rows = {one.dedupe_key: _row(one, via, now) for one in given}
    new: set[str] = set()
    for part in chunks(list(rows)):
        found = insert_new_ids(session, Report, [rows[key] for key in part], ["dedupe_key"])
        new |= {str(key[0]) for key in found}
    refs = {rows[key]["listing_ref"] for key in new}
    here = known_refs(session, refs)
    n_waiting = sum(rows[key]["listing_ref"] not in here for key in new)
    return Added(len(new), len(given) - len(new), n_waiting, apply(session, here, now=now))


def apply(session: Session, refs: Collection[str], *, now: datetime) -> int:
    """Flag these listings with what they were reported for; how many (listing, violation) were not flagged before.

    A flag becomes the label where nobody but users said something about violations; moderators' decisions stay.
    """
    n_new = 0
    for part in chunks(sorted(refs)):
        reported = _by_ref(session, part)
        mine = select(ListingRow).where(ListingRow.ref.in_(list(reported))).order_by(ListingRow.id).with_for_update()
        for row in session.execute(mine).scalars() if reported else ():
            fresh = {reason: words for reason, words in reported[row.ref].items() if reason not in row.flags}
            if fresh:
                flag(session, row, fresh, now=now)
                n_new += len(fresh)
    session.flush()
    return n_new


def flag(session: Session, row: ListingRow, words: Mapping[str, str], *, now: datetime) -> None:
    """Flag one locked listing: violation → what was said of it."""
    row.flags = sorted({*row.flags, *words})
    mine = (LabelRow.listing_id == row.id, LabelRow.question == Question.VIOLATION.value)
    held = session.execute(select(LabelRow.source, LabelRow.evidence).where(*mine)).one_or_none()
    if held is None or held.source == LabelSource.REPORT.value:
        before = {} if held is None else held.evidence.get("reports", {})
        label = Resolved(join_violations(row.flags), LabelSource.REPORT, None, {"reports": {**before, **words}})
        labels.set_label(session, row.id, Question.VIOLATION, label, now=now)


def reported(session: Session, refs: Collection[str]) -> dict[str, frozenset[str]]:
    """Ref → violations that it was reported for, here or not; only refs that were."""
    found: dict[str, frozenset[str]] = {}
    for part in chunks(refs):
        found |= {ref: frozenset(words) for ref, words in _by_ref(session, part).items()}
    return found


def page(
    session: Session, *, limit: int, before_id: int | None = None, ref: str | None = None, reason: str | None = None
) -> list[Said]:
    """Reports, newest first: the page before `before_id`, of one listing or one reason where that is asked."""
    query = with_outcome().order_by(Report.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Report.id < before_id)
    if ref is not None:
        query = query.where(Report.listing_ref == ref)
    if reason is not None:
        query = query.where(Report.reason == reason)
    return [said(row) for row in session.execute(query)]


def with_outcome() -> Select[Any]:
    """Every report with its listing and the moderators' decision on it, where there is one."""
    decided = (
        (LabelRow.listing_id == ListingRow.id)
        & (LabelRow.question == Question.VIOLATION.value)
        & (LabelRow.source == LabelSource.MODERATORS.value)
    )
    columns: tuple[Any, ...] = (Report, ListingRow.id.label("listing_id"), ListingRow.title, LabelRow.value.label("decided"))
    return select(*columns).outerjoin(ListingRow, ListingRow.ref == Report.listing_ref).outerjoin(LabelRow, decided)


def decided_by(*columns: Any) -> Select[Any]:
    """How many reported listings moderators decided, by these columns of the reports and by what they decided (`value`)."""
    verified = (LabelRow.question == Question.VIOLATION.value, LabelRow.source == LabelSource.MODERATORS.value)
    n_listings = func.count(ListingRow.id.distinct()).label("n_listings")
    return (
        select(*columns, LabelRow.value, n_listings)
        .join(ListingRow, ListingRow.ref == Report.listing_ref)
        .join(LabelRow, LabelRow.listing_id == ListingRow.id)
        .where(*verified)
        .group_by(*columns, LabelRow.value)
    )


def said(row: Any) -> Said:
    """A row of `with_outcome` as a record."""
    found: Report = row.Report
    outcome = "unknown listing" if row.listing_id is None else "open" if row.decided is None else "wrong"
    if row.decided is not None and is_right(found.reason, row.decided):
        outcome = "right"
    columns = (found.id, found.listing_ref, found.reason, found.words, found.reporter, found.via, found.at, found.seen_at)
    return Said(*columns, title=row.title, decided=row.decided, outcome=outcome)


def is_right(reason: str, decided: str) -> bool:
    """Whether moderators found what was reported: the violation itself, or any where the reason is OTHER."""
    return decided != NO_VIOLATION if reason == OTHER else reason in split_violations(decided)


def _row(given: Given, via: str, now: datetime) -> dict[str, Any]:
    return {
        "dedupe_key": given.dedupe_key,
        "listing_ref": given.ref,
        "reason": given.reason,
        "words": given.words,
        "reporter": given.reporter,
        "via": via,
        "at": given.at or now,
        "seen_at": now,
    }


def _by_ref(session: Session, refs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Ref → violation → the words of its last report that has some."""
    query = select(Report.listing_ref, Report.reason, Report.words).where(Report.listing_ref.in_(refs), Report.reason != OTHER)
    found: dict[str, dict[str, str]] = {}
    for row in session.execute(query.order_by(Report.id)):
        held = found.setdefault(row.listing_ref, {})
        held[row.reason] = row.words or held.get(row.reason, "")
    return found
