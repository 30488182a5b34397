"""Persons signed in with a browser. A cookie holds a random value; the database holds its sha256."""

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from curation.store.people import Person, Role
from curation.store.service_tables import User, WebSession

LIFE = timedelta(hours=12)
"""A working day; then the password is asked for again."""

KEY_BYTES = 32


def begin(session: Session, person: Person, *, now: datetime) -> str:
    """Sign the person in; what their cookie must hold. Sessions that ended are forgotten."""
    session.execute(delete(WebSession).where(WebSession.expires_at <= now))
    user_id = session.execute(select(User.id).where(User.name == person.name)).scalar_one()
    key = secrets.token_urlsafe(KEY_BYTES)
    session.add(WebSession(user_id=user_id, sha256=_sha256(key), created_at=now, expires_at=now + LIFE))
    session.flush()
    return key


def find(session: Session, key: str, *, now: datetime) -> Person | None:
    """Who is signed in with this cookie; None if it is unknown, over, or its person was disabled."""
    row = session.execute(
        select(User.name, User.role)
        .join(WebSession, WebSession.user_id == User.id)
        .where(WebSession.sha256 == _sha256(key), WebSession.expires_at > now, User.disabled_at.is_(None))
    ).one_or_none()
    return None if row is None else Person(row.name, Role(row.role))


def end(session: Session, key: str) -> None:
    """Sign out."""
    session.execute(delete(WebSession).where(WebSession.sha256 == _sha256(key)))


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
