"""The `ingest` job: one delivery from the inbox becomes events, in one transaction with "done"."""

from collections import Counter
from datetime import datetime

from sqlalchemy.orm import Session

from curation import crash
from curation.errors import InputError
from curation.labelstudio import apply, erasure, payloads, project
from curation.store import inbox, jobs
from curation.store.jobrun import JobRun

EVENTS_PER_WRITE = 10
"""Events applied in one transaction: receivers wait for the write lock meanwhile, and Label Studio waits one second."""


def handle(run: JobRun) -> None:
    """Apply, ignore or quarantine one delivery; whichever it is, the inbox says so with the reason."""
    inbox_id = int(run.job.payload["inbox_id"])
    with run.workspace.db.read() as session:
        delivery = inbox.load(session, inbox_id)
    if delivery is None:
        return
    try:
        _apply(run, inbox_id, _parse(run, delivery.body), delivery.body)
    except InputError as error:
        with run.finishing() as session:
            now = run.workspace.db.now(session)
            _settle(session, inbox_id, delivery.body, "quarantined", str(error), now)


def _parse(run: JobRun, body: bytes) -> payloads.Parsed:
    with run.workspace.db.read() as session:
        words, source = apply.vocabulary(session, run.workspace), project.source_in_force(session)
    return payloads.parse(body, source, words.categories, words.violations)


def _apply(run: JobRun, inbox_id: int, parsed: payloads.Parsed, body: bytes) -> None:
    """In one transaction with "done"; a bulk action in several, whose repetition changes nothing."""
    outcomes: Counter[str] = Counter()
    n_first = max(0, len(parsed.events) - EVENTS_PER_WRITE)
    for first in range(0, n_first, EVENTS_PER_WRITE):
        with run.writing() as session:
            part = parsed.events[first : min(first + EVENTS_PER_WRITE, n_first)]
            now = run.workspace.db.now(session)
            outcomes.update(apply.apply_events(session, run.workspace, part, via=apply.WEBHOOK, now=now).outcomes)
        crash.reached("ingest.after_part")
    with run.finishing() as session:
        now = run.workspace.db.now(session)
        if parsed.wants_reconcile:
            jobs.enqueue(session, "reconcile", {}, key="reconcile", now=now)
        if not parsed.events:
            _settle(session, inbox_id, body, "ignored", parsed.note or "nothing in it is about a listing of ours", now)
            return
        result = apply.apply_events(session, run.workspace, parsed.events[n_first:], via=apply.WEBHOOK, now=now)
        words = ", ".join(f"{name} {n}" for name, n in sorted((outcomes + Counter(result.outcomes)).items()))
        _settle(session, inbox_id, body, "applied", words, now)
        crash.reached("ingest.before_commit")
    crash.reached("ingest.after_commit")


def _settle(session: Session, inbox_id: int, body: bytes, state: str, reason: str, now: datetime) -> None:
    """Note what became of a delivery, and leave no text of an erased listing in it."""
    inbox.settle(session, inbox_id, state, now=now, reason=reason)
    erasure.clean(session, inbox_id, body)
