"""The inbox: what was received, verbatim, once, with the job that will apply it."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from curation.store import jobs
from curation.store.tables import Inbox


@dataclass(frozen=True, slots=True)
class Delivery:
    """One body as received. The same body from the same source is the same delivery, forever."""

    source: str
    body: bytes
    received_at: datetime

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @property
    def dedupe_key(self) -> str:
        return hashlib.sha256(self.source.encode() + b"\x00" + self.body).hexdigest()


def receive(session: Session, deliveries: Sequence[Delivery]) -> int:
    """Store the deliveries and their `ingest` jobs in the caller's transaction; how many were new."""
    return sum(receive_each(session, deliveries))


def receive_each(session: Session, deliveries: Sequence[Delivery]) -> list[bool]:
    """Like `receive`; says of each delivery, in their order, whether it was new.

    Rows are written in the order of their keys, so that two receivers never wait for each other.
    """
    keys = [delivery.dedupe_key for delivery in deliveries]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}  # of equal ones in this batch
    rows = [_row(deliveries[first[key]], key) for key in sorted(first)]
    ids = jobs.insert_new_ids(session, Inbox, rows, ["dedupe_key"])
    if ids:
        now = max(delivery.received_at for delivery in deliveries)
        jobs.enqueue_all(session, "ingest", {f"inbox:{i}": {"inbox_id": i} for i in sorted(ids.values())}, now=now)
    return [(key,) in ids and first[key] == place for place, key in enumerate(keys)]


def _row(delivery: Delivery, key: str) -> dict[str, object]:
    return {
        "source": delivery.source,
        "dedupe_key": key,
        "body": delivery.body,
        "sha256": delivery.sha256,
        "received_at": delivery.received_at,
        "state": "received",
    }


def load(session: Session, inbox_id: int) -> Delivery | None:
    """The delivery, or None if there is none with this id."""
    row = session.get(Inbox, inbox_id)
    return None if row is None else Delivery(row.source, row.body, row.received_at)


def settle(session: Session, inbox_id: int, state: str, *, now: datetime, reason: str | None = None) -> None:
    """Note what became of a delivery: ``applied``, ``ignored`` or ``quarantined`` with the reason."""
    session.execute(update(Inbox).where(Inbox.id == inbox_id).values(state=state, reason=reason, applied_at=now))


@dataclass(frozen=True, slots=True)
class Received:
    """A row of the inbox without its body. `state`: received, applied, ignored or quarantined."""

    id: int
    source: str
    state: str
    reason: str | None
    sha256: str
    n_bytes: int
    received_at: datetime
    applied_at: datetime | None


def newest(session: Session, *, state: str | None = None, limit: int = 20, ids: Collection[int] | None = None) -> list[Received]:
    """The last deliveries, newest first."""
    query = select(
        Inbox.id,
        Inbox.source,
        Inbox.state,
        Inbox.reason,
        Inbox.sha256,
        func.length(Inbox.body).label("n_bytes"),
        Inbox.received_at,
        Inbox.applied_at,
    )
    if state is not None:
        query = query.where(Inbox.state == state)
    if ids is not None:
        query = query.where(Inbox.id.in_(list(ids)))
    return [Received(*row) for row in session.execute(query.order_by(Inbox.id.desc()).limit(limit))]


def replay(session: Session, *, now: datetime, state: str = "quarantined", ids: Collection[int] | None = None) -> int:
    """Enqueue every delivery in this state (or those with these ids) once more, after a fix; how many."""
    wanted = Inbox.state == state if ids is None else Inbox.id.in_(list(ids))
    found = session.execute(select(Inbox.id).where(wanted)).scalars().all()
    return jobs.enqueue_all(session, "ingest", {f"inbox:{i}": {"inbox_id": i} for i in found}, now=now)


def count_by_state(session: Session) -> dict[str, int]:
    """How many deliveries are in each state."""
    rows = session.execute(select(Inbox.state, func.count().label("n")).group_by(Inbox.state)).all()
    return {row.state: row.n for row in rows}
