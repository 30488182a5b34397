"""The job queue: a table, leases, and a fence. Works the same on SQLite and PostgreSQL.

A claim adds one to `attempt`; every later write of that worker carries
``WHERE id = :id AND attempt = :attempt AND state = 'doing'`` and shares a transaction with the
effect, so work that outlived its lease is refused (`StaleLease`), not applied twice.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from curation import telemetry
from curation.errors import StaleLease, shorten
from curation.store.tables import JobRow

PENDING = JobRow.state.in_(("todo", "doing"))
"""Jobs still to be done; among them a key is unique."""

BACKOFF_S = (2.0, 10.0, 60.0, 300.0, 1800.0)
"""Seconds before the next attempt after the 1st, 2nd, … failure; the last one repeats."""

PRIORITIES: Mapping[str, int] = {"ingest": 10, "consensus": 20, "reconcile": 30, "push": 40, "retrain": 60}


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. `attempt` is the fence: 1 for the first try."""

    id: int
    kind: str
    dedupe_key: str
    payload: Mapping[str, Any]
    attempt: int
    max_attempts: int


def enqueue(
    session: Session,
    kind: str,
    payload: Mapping[str, Any],
    *,
    key: str,
    now: datetime,
    delay_s: float = 0.0,
    max_attempts: int = 5,
) -> bool:
    """Add a job in the caller's transaction; False if one with this key is still to be done."""
    return enqueue_all(session, kind, {key: payload}, now=now, delay_s=delay_s, max_attempts=max_attempts) == 1


def enqueue_all(
    session: Session,
    kind: str,
    payloads: Mapping[str, Mapping[str, Any]],
    *,
    now: datetime,
    delay_s: float = 0.0,
    max_attempts: int = 5,
) -> int:
    """Add many jobs of one kind, payload by key, in one statement; how many were not there yet.

    Each keeps the id of the request that asked for it, where there is one, so that the log tells both together.
    """
    same = {
        "kind": kind,
        "state": "todo",
        "priority": PRIORITIES.get(kind, 50),
        "run_after": now + timedelta(seconds=delay_s),
        "attempt": 0,
        "max_attempts": max_attempts,
        "created_at": now,
    }
    asked_by = telemetry.asked_by()
    rows = [{"dedupe_key": key, "payload": {**payload, **asked_by}, **same} for key, payload in payloads.items()]
    return insert_new(session, JobRow, rows, ["dedupe_key"], where=PENDING)


def insert_new(session: Session, table: Any, rows: list[dict[str, Any]], key: list[str], where: Any = None) -> int:
    """INSERT … ON CONFLICT (key) DO NOTHING on either database; how many rows were new."""
    return len(insert_new_ids(session, table, rows, key, where))


def insert_new_ids(
    session: Session, table: Any, rows: list[dict[str, Any]], key: list[str], where: Any = None
) -> dict[tuple[Any, ...], int]:
    """Like `insert_new`; the ids of the new rows, by the values of their key."""
    if not rows:
        return {}
    core = table.__table__  # the ORM's bulk path takes twice the time
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(core).on_conflict_do_nothing(index_elements=key, index_where=_literal(where))
    found = session.execute(statement.returning(core.c.id, *(core.c[name] for name in key)), rows)
    return {tuple(row[1:]): row[0] for row in found}


def _literal(where: Any) -> Any:
    """A partial index is recognised only when its condition is spelled out, without parameters."""
    if where is None:
        return None
    return text(str(where.compile(compile_kwargs={"literal_binds": True})).replace("job.", ""))


def claim(session: Session, *, worker: str, now: datetime, lease_s: float, kinds: Collection[str] | None = None) -> Job | None:
    """Take the next due job, or one whose lease ran out. None if there is nothing to do."""
    due = or_(
        and_(JobRow.state == "todo", JobRow.run_after <= now),
        and_(JobRow.state == "doing", JobRow.lease_until < now),
    )
    query = select(JobRow.id).where(due, JobRow.attempt < JobRow.max_attempts)
    if kinds is not None:
        query = query.where(JobRow.kind.in_(list(kinds)))
    query = query.order_by(JobRow.priority, JobRow.id).limit(1).with_for_update(skip_locked=True)
    row = session.execute(
        update(JobRow)
        .where(JobRow.id == query.scalar_subquery())
        .values(state="doing", worker=worker, lease_until=now + timedelta(seconds=lease_s), attempt=JobRow.attempt + 1)
        .returning(JobRow.id, JobRow.kind, JobRow.dedupe_key, JobRow.payload, JobRow.attempt, JobRow.max_attempts),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return None if row is None else Job(*row)


def heartbeat(session: Session, job: Job, *, now: datetime, lease_s: float) -> None:
    """Keep the lease. Raises StaleLease if it was lost."""
    _fenced(session, job, lease_until=now + timedelta(seconds=lease_s))


def finish(session: Session, job: Job, *, now: datetime) -> None:
    """Mark done in the transaction of the effect. Raises StaleLease if the lease was lost."""
    _fenced(session, job, state="done", finished_at=now, lease_until=None, error=None)


def release(session: Session, job: Job, *, now: datetime, delay_s: float = 0.0) -> None:
    """Give an unfinished job back (shutdown, a missing GPU) without counting the attempt."""
    _fenced(session, job, state="todo", attempt=job.attempt - 1, lease_until=None, run_after=now + timedelta(seconds=delay_s))


def fail(session: Session, job: Job, error: str, *, now: datetime, final: bool = False) -> bool:
    """Back off, or mark dead after the last attempt. True if the job is dead now."""
    dead = final or job.attempt >= job.max_attempts
    delay_s = BACKOFF_S[min(job.attempt, len(BACKOFF_S)) - 1]
    _fenced(
        session,
        job,
        state="dead" if dead else "todo",
        error=shorten(error, 2000),
        lease_until=None,
        run_after=now + timedelta(seconds=delay_s),
        finished_at=now if dead else None,
    )
    return dead


def bury_lost(session: Session, *, now: datetime) -> int:
    """Mark dead the jobs whose last attempt was killed with its worker; how many there were."""
    lost = and_(JobRow.state == "doing", JobRow.lease_until < now, JobRow.attempt >= JobRow.max_attempts)
    values = {"state": "dead", "error": "the worker died in the last attempt", "finished_at": now, "lease_until": None}
    return _count(session.execute(update(JobRow).where(lost).values(**values)))


def revive(session: Session, job_id: int, *, now: datetime) -> bool:
    """Give a dead job a fresh set of attempts. False if it is not dead."""
    dead = and_(JobRow.id == job_id, JobRow.state == "dead")
    values = {"state": "todo", "attempt": 0, "run_after": now, "finished_at": None}
    return _count(session.execute(update(JobRow).where(dead).values(**values))) == 1


def prune(session: Session, *, before: datetime, limit: int = 10_000) -> int:
    """Delete up to `limit` finished jobs older than `before`; dead ones stay until looked at."""
    old = select(JobRow.id).where(JobRow.state == "done", JobRow.finished_at < before).limit(limit)
    return _count(session.execute(delete(JobRow).where(JobRow.id.in_(old))))


@dataclass(frozen=True, slots=True)
class Queued:
    """A row of the queue as people look at it. `state`: todo, doing, done or dead."""

    id: int
    kind: str
    state: str
    attempt: int
    max_attempts: int
    payload: Mapping[str, Any]
    run_after: datetime
    worker: str | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


def newest(session: Session, *, state: str | None = None, kind: str | None = None, limit: int = 20) -> list[Queued]:
    """The last jobs, newest first."""
    query = select(*(getattr(JobRow, name) for name in Queued.__slots__))
    if state is not None:
        query = query.where(JobRow.state == state)
    if kind is not None:
        query = query.where(JobRow.kind == kind)
    return [Queued(*row) for row in session.execute(query.order_by(JobRow.id.desc()).limit(limit))]


def count_by_state(session: Session) -> dict[str, int]:
    """How many jobs are in each state."""
    rows = session.execute(select(JobRow.state, func.count().label("n")).group_by(JobRow.state)).all()
    return {row.state: row.n for row in rows}


def _fenced(session: Session, job: Job, **values: Any) -> None:
    mine = and_(JobRow.id == job.id, JobRow.attempt == job.attempt, JobRow.state == "doing")
    if _count(session.execute(update(JobRow).where(mine).values(**values))) != 1:
        raise StaleLease(f"job {job.id} ({job.kind}) is no longer ours at attempt {job.attempt}; its write was refused")


def _count(result: Any) -> int:
    return int(result.rowcount)
