"""Locks with a name that hold until the transaction ends. SQLite has one writer anyway.

On PostgreSQL two transactions do not see what the other has not committed: where one looks for what another may be
writing (a task's annotations while the task is deleted), both take the same lock before they look. In this order: erasure,
LISTINGS, tasks, annotations, and only then rows; who finds a further one in between may be run again.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

LISTINGS = "listings"
"""Taken alone by who brings listings, beside others by who writes what belongs to a listing that is not here."""


def alone(session: Session, name: str) -> None:
    """Nobody else holds it."""
    _take(session, func.pg_advisory_xact_lock, name)


def beside(session: Session, name: str) -> None:
    """Nobody holds it alone; others that say `beside` too go on."""
    _take(session, func.pg_advisory_xact_lock_shared, name)


def _take(session: Session, lock: Callable[..., Any], name: str) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(lock(func.hashtext(name))))
