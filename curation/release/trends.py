"""Is it getting better? What the overview draws: label noise, corrections, missed hooks, and each live model's accuracy by time.

Everything is counted from what is stored anyway. The tables that are read grow with moderators' answers, not with the catalog.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, func, literal_column, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from curation.quality.metrics import Estimate, share
from curation.release import noise
from curation.release.status import verified_accuracy
from curation.store.tables import AnnotationRow, LabelHistory, ModelVersion, Release, ReviewItem, RunRow, Tombstone
from curation.types import LabelSource, Question

CORRECTION_DAYS = 60
HOOK_DAYS = 30
MAX_WEEKS = 52
RELEASES = 30
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class NoiseAt:
    """Share of the given labels that are wrong, by all audited listings decided up to the end of a week."""

    day: date  #: last of the week
    question: Question
    found: Estimate


@dataclass(frozen=True, slots=True)
class Day:
    """Two counts of one UTC day."""

    day: date
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Questions in one state: how many, and since when the oldest waits; for `pushed` since it was pushed."""

    state: str
    n: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Went:
    """A model that went live, and how right it was when it was judged. `before` is the model it replaced, on the same rows."""

    at: datetime
    model: str
    action: str
    run_id: int | None
    accuracy: Mapping[str, Any] | None  #: value, low, high, n
    before: Mapping[str, Any] | None


def noise_by_week(session: Session, *, now: datetime) -> list[NoiseAt]:
    """Of each question that has an audited listing decided, by week from the first such, at most a year; oldest first."""
    found = []
    for question in Question:
        judged = sorted(noise.audited_at(session, question))
        for end in _week_ends(judged, now):
            past = [is_wrong for at, is_wrong in judged if at <= end]
            estimate = share(sum(past), len(past))
            if estimate is not None:
                found.append(NoiseAt(end.date(), question, estimate))
    return found


def _week_ends(judged: Sequence[tuple[datetime, bool]], now: datetime) -> list[datetime]:
    """The ends of the weeks, the last of which is now."""
    if not judged:
        return []
    n_weeks = min(MAX_WEEKS, (now - judged[0][0]) // WEEK + 1)
    return [now - WEEK * back for back in reversed(range(n_weeks))]


def corrections_by_day(session: Session, *, now: datetime) -> list[Day]:
    """Listings that moderators decided on each of the last 60 days: `first` changed, `second` confirmed. Days without are 0."""
    since, day = _midnight(now) - timedelta(days=CORRECTION_DAYS - 1), _day(session, LabelHistory.at)
    changes = case((func.coalesce(LabelHistory.old_value, "none") != LabelHistory.value, 1), else_=0)
    is_new = or_(
        LabelHistory.old_source.is_(None),
        LabelHistory.old_source != LabelSource.MODERATORS.value,
        LabelHistory.old_value != LabelHistory.value,
    )
    each = (
        select(day.label("day"), func.max(changes).label("changed"))
        .where(LabelHistory.at >= since, LabelHistory.source == LabelSource.MODERATORS.value, is_new)
        .group_by(day, LabelHistory.listing_id)
        .subquery()
    )
    rows = session.execute(select(each.c.day, func.sum(each.c.changed), func.count()).group_by(each.c.day))
    counted = {str(name): (int(changed), int(n) - int(changed)) for name, changed, n in rows}
    return [Day(at, *counted.get(at.isoformat(), (0, 0))) for at in _days(now, CORRECTION_DAYS)]


def hooks_by_day(session: Session, *, now: datetime) -> list[Day]:
    """Answers and deletions that we learned of on each of the last 30 days: `first` by a webhook, `second` by reconciliation."""
    since, counted = _midnight(now) - timedelta(days=HOOK_DAYS - 1), defaultdict[tuple[str, str], int](int)
    for table, at in ((AnnotationRow, AnnotationRow.seen_at), (Tombstone, Tombstone.at)):
        day = _day(session, at)
        query = select(day, table.via, func.count(table.source_id.distinct())).where(at >= since).group_by(day, table.via)
        for name, via, n in session.execute(query):
            counted[str(name), via] += int(n)
    return [Day(at, counted[at.isoformat(), "webhook"], counted[at.isoformat(), "reconcile"]) for at in _days(now, HOOK_DAYS)]


def waiting(session: Session) -> list[Waiting]:
    """Questions that are not decided yet, by state."""
    since = {"waiting": ReviewItem.created_at, "pushed": ReviewItem.pushed_at, "tie": ReviewItem.created_at}
    found = []
    for state, at in since.items():
        row = session.execute(select(func.count(), func.min(at)).where(ReviewItem.state == state)).one()
        found.append(Waiting(state, int(row[0]), row[1]))
    return found


def went_live(session: Session) -> list[Went]:
    """The last releases, oldest first."""
    rows = session.execute(
        select(Release.at, Release.action, ModelVersion.name, ModelVersion.run_id, ModelVersion.report, RunRow.report)
        .join(ModelVersion, ModelVersion.id == Release.model_version_id)
        .outerjoin(RunRow, RunRow.id == ModelVersion.run_id)
        .order_by(Release.id.desc())
        .limit(RELEASES)
    ).all()
    return [
        Went(at, name, action, run_id, verified_accuracy(report), _before(of_run))
        for at, action, name, run_id, report, of_run in reversed(rows)
    ]


def _before(report: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    champion = (report or {}).get("champion")
    return verified_accuracy(champion) if isinstance(champion, Mapping) else None


def _days(now: datetime, n: int) -> Iterable[date]:
    return [now.date() - timedelta(days=back) for back in reversed(range(n))]


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _day(session: Session, column: InstrumentedAttribute[datetime]) -> ColumnElement[Any]:
    """The UTC day of a time, as YYYY-MM-DD."""
    if session.get_bind().dialect.name == "postgresql":
        return func.to_char(func.timezone(literal_column("'UTC'"), column), literal_column("'YYYY-MM-DD'"))
    return func.strftime(literal_column("'%Y-%m-%d'"), column)
