"""When the figures of `insight` are counted: after changes, at most every ten minutes, or when somebody asks."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from curation.store import jobs
from curation.store.tables import AnnotationRow, LabelHistory, RunRow
from curation.store.workspace import get_state

JOB = "insight"
SEEN = "insight.seen"
PERIOD = timedelta(minutes=10)


def consider(session: Session, *, now: datetime) -> bool:
    """Ask for a count if anything changed since the last one, and that is ten minutes old; True if asked."""
    seen, found = get_state(session, SEEN) or {}, version(session)
    if all(value == seen.get(name, 0) for name, value in found.items()):
        return False
    if seen and now - datetime.fromisoformat(seen["at"]) < PERIOD:
        return False
    return ask(session, now=now)


def ask(session: Session, *, now: datetime) -> bool:
    """Ask for a count now; False where one is under way."""
    return jobs.enqueue(session, JOB, {}, key=JOB, now=now)


def counted_at(session: Session) -> str:
    """When it was counted last, as ISO text; ``""`` before the first time."""
    return str((get_state(session, SEEN) or {}).get("at", ""))


def version(session: Session) -> dict[str, int]:
    """Numbers that grow with whatever is counted."""
    newest = {"label": LabelHistory.id, "answer": AnnotationRow.id}
    found = {name: int(session.execute(select(func.max(column))).scalar_one() or 0) for name, column in newest.items()}
    run = session.execute(select(func.max(RunRow.id)).where(RunRow.finished_at.is_not(None))).scalar_one()
    return {**found, "run": int(run or 0)}
