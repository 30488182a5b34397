"""Tables of those who use the service: people and what lets them in, what they report, download and have erased."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from curation.store.base import Base


class User(Base):
    """A person who may use the service. `role`: moderator, engineer, admin. Without a password only tokens open it."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebSession(Base):
    """A person signed in with a browser; only the sha256 of what the cookie holds is kept."""

    __tablename__ = "web_session"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class RefusalRow(Base):
    """Somebody known was turned away. `who`: a person's name; `route`: a pattern, without what stood in the address."""

    __tablename__ = "refusal"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    who: Mapped[str] = mapped_column(String(120))
    why: Mapped[str] = mapped_column(String(80))
    method: Mapped[str] = mapped_column(String(8))
    route: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(64))


class Report(Base):
    """Somebody said that a listing breaks the rules. `reason`: a violation's name, or ``other``. `listing_ref` may be unknown."""

    __tablename__ = "report"
    __table_args__ = (Index("ix_report_reason_id", "reason", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    dedupe_key: Mapped[str] = mapped_column(String(64), unique=True)
    listing_ref: Mapped[str] = mapped_column(String(200), index=True)
    reason: Mapped[str] = mapped_column(String(40))
    words: Mapped[str]
    reporter: Mapped[str | None] = mapped_column(String(200), index=True)
    via: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    seen_at: Mapped[datetime]


class ExportRow(Base):
    """A dataset written for download. `state`: making, ready, failed, deleted. `manifest`: its files, and what changed."""

    __tablename__ = "export"
    id: Mapped[int] = mapped_column(primary_key=True)
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshot.id"), index=True)
    format: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    manifest: Mapped[dict[str, Any]]
    error: Mapped[str | None]
    by: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Token(Base):
    """An API token of a user; only its sha256 is kept."""

    __tablename__ = "token"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Erasure(Base):
    """Somebody had listings erased. `leftover`: files still to be removed, empty once all is done (`finished_at`)."""

    __tablename__ = "erasure"
    id: Mapped[int] = mapped_column(primary_key=True)
    by: Mapped[str] = mapped_column(String(120))
    reason: Mapped[str]
    counts: Mapped[dict[str, Any]]
    leftover: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class ErasedListing(Base):
    """All that is left of an erased listing: its ids. Until `allowed_at` nothing may bring it back."""

    __tablename__ = "erased_listing"
    id: Mapped[int] = mapped_column(primary_key=True)
    erasure_id: Mapped[int] = mapped_column(ForeignKey("erasure.id"), index=True)
    listing_id: Mapped[int] = mapped_column(index=True)
    ref: Mapped[str] = mapped_column(String(200), index=True)
    allowed_at: Mapped[datetime | None]
