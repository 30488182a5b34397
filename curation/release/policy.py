"""When to train again: enough listings decided by moderators since the last run, and the cool-down over.

A storm of labels gives one run, because the job's key is ``retrain``. Corrections that come in
while a run is going are counted for the next one: the trainer asks `consider` again at its end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session

from curation.settings import Settings
from curation.store.jobs import enqueue
from curation.store.tables import JobRow, LabelHistory, RunRow
from curation.types import NO_VIOLATION, LabelSource, Question

JOB = "retrain"
"""Kind and key of the job: at most one is waiting or running."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """Distinct listings that moderators decided since the last run began.

    `n_listings` = `n_changed` (another value than before, on either question) + `n_confirmed`.
    """

    n_listings: int
    by_question: Mapping[Question, int]
    n_changed: int
    n_confirmed: int
    since: datetime | None  #: start of the last run that did not fail; None = ever


@dataclass(frozen=True, slots=True)
class Decision:
    """`due`: there is enough to train on. `run_after`: when the run may start, at the earliest."""

    due: bool
    words: str
    enqueued: bool = False
    run_after: datetime | None = None


def corrections(session: Session, *, since_run: bool = True) -> Corrections:
    """Count decided listings since the last run began that did not fail, or ever.

    A label decided anew with the same value by more moderators is no new correction.
    """
    since = _last_start(session, with_failed=False) if since_run else None
    was = func.coalesce(LabelHistory.old_value, NO_VIOLATION)
    changes = case((was != LabelHistory.value, 1), else_=0)
    each = (
        select(
            func.max(changes).label("changed"),
            *(
                func.max(case((LabelHistory.question == question.value, 1), else_=0)).label(question.value)
                for question in Question
            ),
        )
        .where(
            LabelHistory.source == LabelSource.MODERATORS.value,
            or_(
                LabelHistory.old_source.is_(None),
                LabelHistory.old_source != LabelSource.MODERATORS.value,
                LabelHistory.old_value != LabelHistory.value,
            ),
            *(() if since is None else (LabelHistory.at > since,)),
        )
        .group_by(LabelHistory.listing_id)
        .subquery()
    )
    totals = [
        func.coalesce(func.sum(column), 0) for column in (each.c.changed, *(each.c[question.value] for question in Question))
    ]
    n_listings, n_changed, *n_asked = map(int, session.execute(select(func.count(), *totals).select_from(each)).one())
    return Corrections(n_listings, dict(zip(Question, n_asked, strict=True)), n_changed, n_listings - n_changed, since)


def outlook(session: Session, settings: Settings, *, now: datetime) -> Decision:
    """Whether a run is due, and why or why not; changes nothing."""
    found = corrections(session)
    counted = _counted(found, settings)
    if missing := _missing(found, settings):
        return Decision(False, f"{counted}; {missing} before the next run")
    last = _last_start(session, with_failed=True)
    ready = now if last is None else max(now, last + timedelta(seconds=settings.retrain_cooldown_s))
    wait_s = (ready - now).total_seconds()
    when = f"a run is due in {_duration(wait_s)}, when the cool-down ends" if wait_s else "a run is due now"
    return Decision(True, f"{counted}; {when}", run_after=ready)


def consider(session: Session, settings: Settings, *, now: datetime) -> Decision:
    """Enqueue the `retrain` job if a run is due; during the cool-down with the remaining delay.

    Call it in the transaction of a label's change, and at the end of a run.
    """
    if _job_state(session) == "todo":  # asked at every label: in a storm the counting is left out
        return Decision(True, "a run is already waiting")
    found = outlook(session, settings, now=now)
    if found.run_after is None:
        return found
    delay_s = (found.run_after - now).total_seconds()
    enqueued = enqueue(session, JOB, {"trigger": found.words}, key=JOB, now=now, delay_s=delay_s)
    words = found.words if enqueued else f"{found.words}, after the one that is going"
    return Decision(True, words, enqueued, found.run_after)


def _last_start(session: Session, *, with_failed: bool) -> datetime | None:
    query = select(RunRow.started_at).where(RunRow.kind == JOB).order_by(RunRow.started_at.desc()).limit(1)
    if not with_failed:
        query = query.where(RunRow.state != "failed")
    return session.execute(query).scalar_one_or_none()


def _counted(found: Corrections, settings: Settings) -> str:
    since = "so far" if found.since is None else f"since {found.since:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"{found.n_listings} of {settings.retrain_min_corrections} corrections {since} "
        f"({found.n_changed} changed, {found.n_confirmed} confirmed)"
    )


def _missing(found: Corrections, settings: Settings) -> str:
    n_more = settings.retrain_min_corrections - found.n_listings
    if n_more > 0:
        return f"{n_more} more needed"
    wanted = min(settings.retrain_min_per_question, settings.retrain_min_corrections)
    question, n = max(found.by_question.items(), key=lambda item: item[1])
    return "" if n >= wanted else f"{wanted - n} more on {question} needed, so that one head can be judged"


def _job_state(session: Session) -> str | None:
    pending = select(JobRow.state).where(JobRow.dedupe_key == JOB, JobRow.state.in_(("todo", "doing")))
    return session.execute(pending).scalar_one_or_none()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
