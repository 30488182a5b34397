"""API tokens of people. A token is shown once; only its sha256 is kept."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from curation.errors import NotFoundError
from curation.store import people
from curation.store.people import Person, Role
from curation.store.service_tables import Token, User

PREFIX = "rfb_"
"""Makes a leaked token recognisable to secret scanners."""

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Issued:
    """A token as it is listed: never the token itself."""

    id: int
    name: str
    role: str
    created_at: datetime
    revoked_at: datetime | None


def create(session: Session, name: str, role: Role, *, now: datetime) -> str:
    """A new token for this person, who is added or given this role. The token is not stored and cannot be shown again."""
    user = people.put(session, name, role, now=now)
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    session.add(Token(user_id=user.id, sha256=_sha256(token), created_at=now))
    return token


def find(session: Session, token: str) -> Person | None:
    """Whom this token stands for; None if it is unknown or revoked, or its person was disabled."""
    row = session.execute(
        select(User.name, User.role)
        .join(Token, Token.user_id == User.id)
        .where(Token.sha256 == _sha256(token), Token.revoked_at.is_(None), User.disabled_at.is_(None))
    ).one_or_none()
    return None if row is None else Person(row.name, Role(row.role))


def owner(session: Session, token: str) -> str | None:
    """Whose token this is or was, also where it opens nothing any more; None if it is unknown."""
    query = select(User.name).join(Token, Token.user_id == User.id).where(Token.sha256 == _sha256(token))
    return session.execute(query).scalar_one_or_none()


def revoke(session: Session, token_id: int, *, now: datetime) -> None:
    """End this token. Raises NotFoundError if there is none or it has ended."""
    changed = session.execute(
        update(Token).where(Token.id == token_id, Token.revoked_at.is_(None)).values(revoked_at=now).returning(Token.id)
    ).all()
    if not changed:
        raise NotFoundError(f"there is no valid token {token_id}; see: refurbish token list")


def newest(session: Session) -> list[Issued]:
    """Every token, newest first, revoked ones too."""
    rows = session.execute(
        select(Token.id, User.name, User.role, Token.created_at, Token.revoked_at)
        .join(User, User.id == Token.user_id)
        .order_by(Token.id.desc())
    )
    return [Issued(*row) for row in rows]


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
