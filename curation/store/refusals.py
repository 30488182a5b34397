"""Whom the service turned away: people it knows who asked for more than they may, or came with what had ended."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from curation.store.service_tables import RefusalRow

KEPT = timedelta(days=90)
WHO_LIMIT, WHY_LIMIT, METHOD_LIMIT, ROUTE_LIMIT, ADDRESS_LIMIT, ID_LIMIT = 120, 80, 8, 200, 64, 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """One of them. `route`: the address's pattern, never what was filled in; `request_id`: under it the log says more."""

    who: str
    why: str
    method: str
    route: str
    address: str  #: of the network
    request_id: str
    at: datetime


def note(session: Session, found: Refusal) -> None:
    """Write it down. What is older than 90 days is forgotten."""
    session.execute(delete(RefusalRow).where(RefusalRow.at < found.at - KEPT))
    session.add(
        RefusalRow(
            at=found.at,
            who=found.who[:WHO_LIMIT],
            why=found.why[:WHY_LIMIT],
            method=found.method[:METHOD_LIMIT],
            route=found.route[:ROUTE_LIMIT],
            address=found.address[:ADDRESS_LIMIT],
            request_id=found.request_id[:ID_LIMIT],
        )
    )


def newest(session: Session, *, limit: int = 20, who: str | None = None) -> list[Refusal]:
    """The last ones, newest first; of one person with `who`."""
    query = select(*(getattr(RefusalRow, name) for name in Refusal.__slots__)).order_by(RefusalRow.id.desc()).limit(limit)
    if who is not None:
        query = query.where(RefusalRow.who == who)
    return [Refusal(*row) for row in session.execute(query)]
