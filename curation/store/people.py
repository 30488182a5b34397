"""Who may use the service: names, roles, and passwords of which only a scrypt hash is kept."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from curation.errors import InputError, NotFoundError, shorten
from curation.store.service_tables import User, WebSession

NAME_LIMIT = 120
PASSWORD_MIN_LENGTH, PASSWORD_LIMIT = 10, 200
SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
"""OWASP's second choice of parameters: 32 MiB and some 80 ms a guess."""

SALT_BYTES = 16
NOBODY = f"scrypt${'00' * SALT_BYTES}${'00' * 64}"
"""What an unknown name is checked against, so that it takes as long."""


class Role(StrEnum):
    """What a person may do; later ones may do all that earlier ones may."""

    #: decides on listings, sees the queue
    MODERATOR = "moderator"
    #: sees runs and models, promotes
    ENGINEER = "engineer"
    #: everything
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a token or a password stands for."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Account:
    """A person as they are listed."""

    name: str
    role: str
    has_password: bool
    created_at: datetime
    disabled_at: datetime | None


def put(session: Session, name: str, role: Role, *, now: datetime) -> User:
    """The row of this person, who is added or given this role. Raises InputError on a name that cannot be shown."""
    if not name.strip() or len(name) > NAME_LIMIT or not name.isprintable():
        raise InputError(f"name {shorten(name)} is not 1 to {NAME_LIMIT} printable characters; give another")
    user = session.execute(select(User).where(User.name == name)).scalar_one_or_none()
    if user is None:
        user = User(name=name, role=role.value, created_at=now)
        session.add(user)
    user.role = role.value
    session.flush()
    return user


def set_password(session: Session, name: str, password: str) -> None:
    """Give a person this password and end what they were signed in with. Raises InputError if it is too short or too long."""
    if not PASSWORD_MIN_LENGTH <= len(password) <= PASSWORD_LIMIT:
        raise InputError(
            f"a password has {PASSWORD_MIN_LENGTH} to {PASSWORD_LIMIT} characters, this one {len(password)}; choose another"
        )
    user = _user(session, name)
    user.password_hash = _hashed(password, secrets.token_bytes(SALT_BYTES))
    _sign_out(session, user)


def make_password() -> str:
    """A random one to be told once."""
    return secrets.token_urlsafe(15)


def check(session: Session, name: str, password: str) -> Person | None:
    """The person if the password is theirs; None takes as long for any name."""
    user = session.execute(select(User).where(User.name == name)).scalar_one_or_none()
    stored = user.password_hash if user is not None and user.disabled_at is None else None
    is_right = _matches(password[:PASSWORD_LIMIT], stored or NOBODY)
    return Person(user.name, Role(user.role)) if user is not None and stored is not None and is_right else None


def is_known(session: Session, name: str) -> bool:
    """Whether a person of this name was added, disabled or not."""
    return session.execute(select(User.id).where(User.name == name)).first() is not None


def disable(session: Session, name: str, *, now: datetime) -> None:
    """From now on neither tokens nor password of this person open anything. Raises NotFoundError."""
    user = _user(session, name)
    user.disabled_at = user.disabled_at or now
    _sign_out(session, user)


def enable(session: Session, name: str) -> None:
    """Undo `disable`. Raises NotFoundError."""
    _user(session, name).disabled_at = None


def every(session: Session) -> list[Account]:
    """All persons by name."""
    rows = session.execute(select(User).order_by(User.name)).scalars()
    return [Account(row.name, row.role, row.password_hash is not None, row.created_at, row.disabled_at) for row in rows]


def _user(session: Session, name: str) -> User:
    user = session.execute(select(User).where(User.name == name)).scalar_one_or_none()
    if user is None:
        raise NotFoundError(f"there is no user {shorten(name)}; see: refurbish user list")
    return user


def _sign_out(session: Session, user: User) -> None:
    session.execute(delete(WebSession).where(WebSession.user_id == user.id))
    session.flush()


def _hashed(password: str, salt: bytes) -> str:
    found = hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, **SCRYPT)
    return f"scrypt${salt.hex()}${found.hex()}"


def _matches(password: str, stored: str) -> bool:
    salt = bytes.fromhex(stored.split("$")[1])
    return hmac.compare_digest(_hashed(password, salt), stored)
