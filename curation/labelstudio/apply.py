"""Events into the ledger: the one path for webhooks and reconciliation."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from curation.labelstudio.answers import Vocabulary
from curation.release import policy
from curation.review import consensus, queue
from curation.store import erasure, jobs, labels, taxonomy, violations
from curation.store.presence import known_refs
from curation.store.tables import AnnotationRow, CategoryAlias, Tombstone
from curation.store.workspace import Workspace
from curation.types import AnnotationsDeleted, Event, LabelEvent, Question, TaskSeen

WEBHOOK = "webhook"
RECONCILE = "reconcile"
ASK_AGAIN = "tie"
"""The state of a review item whose task must be opened once more."""

PUSH_DELAY_S = 2.0
"""Seconds to gather what must be asked again before one push."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a list of events. `outcomes`: how many had each outcome of `labels.apply_event`."""

    outcomes: dict[str, int]
    touched: tuple[tuple[int, Question], ...]
    fresh: frozenset[str]  #: ids of annotations with a state not seen before


def vocabulary(session: Session, workspace: Workspace) -> Vocabulary:
    """What may be answered now; a category's former name is still understood."""
    former = session.execute(select(CategoryAlias.old_path)).scalars()
    return Vocabulary(frozenset((*taxonomy.leaves(session), *former)), frozenset(violations.names(session, workspace.settings)))


def apply_events(session: Session, workspace: Workspace, events: Iterable[Event], *, via: str, now: datetime) -> Result:
    """Log the events, bring labels and review queue up to date, ask the policies; in the caller's transaction."""
    erasure.hold(session)
    events = tuple(events)
    named = {event.listing_ref for event in events if isinstance(event, LabelEvent | TaskSeen)}
    known_refs(session, {ref for ref in named if ref})  # where one is not here, that is locked before any row is
    outcomes: Counter[str] = Counter()
    touched: set[tuple[int, Question]] = set()
    fresh: set[str] = set()
    for event in events:
        applied = labels.apply_event(session, event, via=via, now=now)
        outcomes[applied.outcome] += 1
        touched.update(applied.touched)
        if applied.outcome == "duplicate" and via == WEBHOOK:
            _came_late(session, event)
        elif applied.outcome != "duplicate" and isinstance(event, LabelEvent):
            fresh.add(event.source_id)
    if touched:
        _settle(session, workspace, touched, now=now)
    return Result(dict(outcomes), tuple(sorted(touched)), frozenset(fresh))


def count_missed(session: Session) -> int:
    """Changes that reconciliation brought and no webhook has brought since."""
    states = select(AnnotationRow.source_id, AnnotationRow.revision).where(AnnotationRow.via == RECONCILE).distinct().subquery()
    n_states = session.execute(select(func.count()).select_from(states)).scalar_one()
    n_deleted = session.execute(select(func.count()).where(Tombstone.via == RECONCILE)).scalar_one()
    return n_states + n_deleted


def _came_late(session: Session, event: Event) -> None:
    """Reconciliation was quicker than this webhook: it was late, not missed."""
    if isinstance(event, LabelEvent):
        same = (
            AnnotationRow.source == event.source,
            AnnotationRow.source_id == event.source_id,
            AnnotationRow.question == event.question.value,
            AnnotationRow.revision == event.revision,
        )
        session.execute(update(AnnotationRow).where(*same, AnnotationRow.via == RECONCILE).values(via=WEBHOOK))
    elif isinstance(event, AnnotationsDeleted):
        gone = (Tombstone.source == event.source, Tombstone.source_id.in_(event.source_ids), Tombstone.via == RECONCILE)
        session.execute(update(Tombstone).where(*gone).values(via=WEBHOOK))


def _settle(session: Session, workspace: Workspace, touched: Iterable[tuple[int, Question]], *, now: datetime) -> None:
    states = {queue.settle(session, listing_id, question, now=now) for listing_id, question in sorted(touched)}
    if ASK_AGAIN in states:
        jobs.enqueue(session, "push", {}, key="push", now=now, delay_s=PUSH_DELAY_S)
    policy.consider(session, workspace.settings, now=now)
    consensus.consider(session, now=now)
