"""The `ingest` job: one delivery from the inbox becomes events, in one transaction with "done"."""

from collections import Counter

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
    try:
        parsed = _parse(run, inbox_id)
        if parsed is not None:
            _apply(run, inbox_id, parsed)
    except InputError as error:
        with run.finishing() as session:
            now = run.workspace.db.now(session)
            inbox.settle(session, inbox_id, "quarantined", now=now, reason=str(error))
            _forget(session, inbox_id)


def _parse(run: JobRun, inbox_id: int) -> payloads.Parsed | None:
    with run.workspace.db.read() as session:
        delivery = inbox.load(session, inbox_id)
        if delivery is None:
            return None
        words, source = apply.vocabulary(session, run.workspace), project.source_in_force(session)
    return payloads.parse(delivery.body, source, words.categories, words.violations)


def _apply(run: JobRun, inbox_id: int, parsed: payloads.Parsed) -> None:
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
            inbox.settle(session, inbox_id, "ignored", now=now, reason=parsed.note or "nothing in it is about a listing of ours")
            _forget(session, inbox_id)
            return
        result = apply.apply_events(session, run.workspace, parsed.events[n_first:], via=apply.WEBHOOK, now=now)
        words = ", ".join(f"{name} {n}" for name, n in sorted((outcomes + Counter(result.outcomes)).items()))
        inbox.settle(session, inbox_id, "applied", now=now, reason=words)
        _forget(session, inbox_id)
        crash.reached("ingest.before_commit")
    crash.reached("ingest.after_commit")


def _forget(session: Session, inbox_id: int) -> None:
    """A delivery that came before Label Studio knew that its listing was erased keeps no text of it."""
    delivery = inbox.load(session, inbox_id)
    if delivery is not None:
        erasure.clean(session, inbox_id, delivery.body)
