"""Which listings seem to break the rules: users' reports, weighed by their track record, together with what the model sees."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, String, and_, cast, select
from sqlalchemy.orm import Session

from curation.quality.report_evidence import BASE, Claim
from curation.quality.track_record import Counts, Rate, TrackRecord, learn, of_counts
from curation.release.noise import audited_violations
from curation.settings import Settings
from curation.store import reports, violations
from curation.store.reports import OTHER
from curation.store.service_tables import Report
from curation.store.tables import LabelRow, ListingRow, SuspectRow
from curation.types import NO_VIOLATION, LabelSource, Question, Reason, split_violations

BASE_STRENGTH = 100.0
"""Audited listings that the usual share of a violation counts as."""

CODE = "reported"
Reporters = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A listing that may break the rules. `score`: probability in (0, 1) of its likeliest violation."""

    listing_id: int
    group_key: str
    score: float
    reasons: tuple[Reason, ...]


def record(session: Session, settings: Settings) -> TrackRecord:
    """What moderators' decisions say of report reasons and reporters. Reads every decided report."""
    by_claim: dict[tuple[int, str], list[str | None]] = defaultdict(list)
    decided: dict[int, str] = {}
    for row in session.execute(reports.with_outcome().where(LabelRow.value.is_not(None))):
        by_claim[row.listing_id, row.Report.reason].append(row.Report.reporter)
        decided[row.listing_id] = row.decided
    seen = _seen(session, by_claim)
    claims = [
        Claim(reason, tuple(reporters), reports.is_right(reason, decided[listing]), seen.get(listing, {}).get(reason))
        for (listing, reason), reporters in sorted(by_claim.items())
    ]
    return learn(claims, base_rates(session, settings))


def rates(session: Session) -> TrackRecord:
    """How often reports were right, counted by the database: reasons and reporters, without correlation and base rates."""
    by_reason: dict[str, Counts] = {}
    by_reporter: dict[str, dict[str, Counts]] = defaultdict(dict)
    for row in session.execute(reports.decided_by(Report.reason)):
        _count(by_reason, row.reason, row)
    for row in session.execute(reports.decided_by(Report.reporter, Report.reason).where(Report.reporter.is_not(None))):
        _count(by_reporter[row.reporter], row.reason, row)
    return of_counts(by_reason, by_reporter)


def _count(counts: dict[str, Counts], reason: str, row: Any) -> None:
    k, n = counts.get(reason, (0, 0))
    counts[reason] = (k + reports.is_right(reason, row.value) * row.n_listings, n + row.n_listings)


def base_rates(session: Session, settings: Settings) -> dict[str, float]:
    """Share of all listings that each violation holds for, from the audit sample, drawn to 1 %; `other`: any of them."""
    found = audited_violations(session)
    names = [*violations.names(session, settings)]
    hits = {name: sum(name in one for one in found) for name in names} | {OTHER: sum(bool(one) for one in found)}
    return {name: (k + BASE * BASE_STRENGTH) / (len(found) + BASE_STRENGTH) for name, k in hits.items()}


def candidates(session: Session, settings: Settings) -> list[Candidate]:
    """Reported listings and those in which the model sees a violation, undecided, the surest first."""
    known = record(session, settings)
    said = _open_reports(session)
    found = [_candidate(row, said.get(row.ref, {}), known) for row in session.execute(_rows())]
    return sorted(found, key=lambda one: (-one.score, one.listing_id))


def words(reason: str, n: int, rate: Rate | None) -> str:
    """``Reported 3 times as counterfeit; 7 of 9 such reports were right.``"""
    often = "once" if n == 1 else f"{n} times"
    what = "for another reason" if reason == OTHER else f"as {reason.replace('_', ' ')}"
    told = "" if rate is None else f"; {rate.n_right} of {rate.n} such reports {'was' if rate.n == 1 else 'were'} right"
    return f"Reported {often} {what}{told}."


def _rows() -> Select[Any]:
    verified = select(LabelRow.listing_id).where(
        LabelRow.question == Question.VIOLATION.value, LabelRow.source == LabelSource.MODERATORS.value
    )
    is_reported = ListingRow.ref.in_(select(Report.listing_ref))
    return (
        select(
            ListingRow.id,
            ListingRow.ref,
            ListingRow.group_key,
            ListingRow.flags,
            SuspectRow.reasons,
            SuspectRow.suggested,
            SuspectRow.suggested_score,
        )
        .outerjoin(SuspectRow, and_(SuspectRow.listing_id == ListingRow.id, SuspectRow.question == Question.VIOLATION.value))
        .where((cast(ListingRow.flags, String) != "[]") | (SuspectRow.suggested != NO_VIOLATION) | is_reported)
        .where(ListingRow.id.not_in(verified))
    )


def _candidate(row: Any, said: Mapping[str, Reporters], known: TrackRecord) -> Candidate:
    """A flag without a report is one of somebody unknown."""
    claims = {**dict.fromkeys(row.flags, (None,)), **said}
    model = {} if row.suggested is None else _probabilities(row.suggested, row.suggested_score, claims)
    scores = {name: known.probability(name, claims.get(name, ()), model.get(name)) for name in {*claims, *model}}
    ordered = sorted(claims, key=lambda name: (-scores[name], name))
    told = [Reason(CODE, scores[name], _told(name, claims[name], said, known)) for name in ordered]
    others = [Reason(**reason) for reason in row.reasons or () if reason["code"] != CODE]
    return Candidate(row.id, row.group_key, max(scores.values(), default=0.0), (*told, *others))


def _told(name: str, reporters: Reporters, said: Mapping[str, Reporters], known: TrackRecord) -> str:
    if name not in said and name not in known.reasons:
        return f"Reported by users as {name.replace('_', ' ')}."
    return words(name, len(reporters), known.reasons.get(name))


def _probabilities(suggested: str, score: float, wanted: Iterable[str]) -> dict[str, float]:
    """The model's probability of what it sees, or, where it sees none, the most that any wanted violation can have."""
    if suggested == NO_VIOLATION:
        return dict.fromkeys(wanted, 1 - score)
    seen = dict.fromkeys(split_violations(suggested), score)
    return {**seen, OTHER: score} if OTHER in wanted else seen


def _seen(session: Session, claims: Iterable[tuple[int, str]]) -> dict[int, dict[str, float]]:
    """Listing id → violation → the newest run's probability, of listings with claims."""
    wanted: dict[int, list[str]] = defaultdict(list)
    for listing_id, reason in claims:
        wanted[listing_id].append(reason)
    rows = session.execute(
        select(SuspectRow.listing_id, SuspectRow.suggested, SuspectRow.suggested_score)
        .join(ListingRow, ListingRow.id == SuspectRow.listing_id)
        .where(SuspectRow.question == Question.VIOLATION.value, ListingRow.ref.in_(select(Report.listing_ref)))
    )
    return {row.listing_id: _probabilities(row.suggested, row.suggested_score, wanted[row.listing_id]) for row in rows}


def _open_reports(session: Session) -> dict[str, dict[str, Reporters]]:
    """Ref → reason → who reported it, one entry a report."""
    found: dict[str, dict[str, Reporters]] = defaultdict(dict)
    for row in session.execute(select(Report.listing_ref, Report.reason, Report.reporter).order_by(Report.id)):
        held = found[row.listing_ref]
        held[row.reason] = (*held.get(row.reason, ()), row.reporter)
    return found
