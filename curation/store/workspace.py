"""What every command and handler works on: settings, database and files, opened together."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from curation.errors import ConfigError
from curation.settings import Settings
from curation.store import locks, mounts, schema
from curation.store.db import Database
from curation.store.files import FileStore
from curation.store.tables import State


@dataclass(frozen=True)
class Workspace:
    """Settings, database and the two file stores. `files`: artifacts; `media`: photos."""

    settings: Settings
    db: Database
    files: FileStore
    media: FileStore

    @classmethod
    def open(cls, settings: Settings, *, check: bool = True) -> "Workspace":
        """Open the database of `settings`; with `check`, its schema must be the one of this version."""
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"home {settings.home} cannot be made: {error}; name another folder with --home") from error
        db = Database(settings.url)
        if check:
            try:
                if db.is_sqlite:
                    mounts.require_usable(Path(db.engine.url.database or ""))
                schema.require_current(db)
            except Exception:
                db.dispose()
                raise
        return cls(settings, db, FileStore(settings.home / "files"), FileStore(settings.home / "media"))

    def close(self) -> None:
        self.db.dispose()


def utc_now() -> datetime:
    """The only place that reads the host's clock; use cases take `now` as an argument."""
    return datetime.now(UTC)


def get_state(session: Session, key: str) -> dict[str, Any] | None:
    """A small named fact, or None."""
    return session.execute(select(State.value).where(State.key == key)).scalar_one_or_none()


def set_state(session: Session, key: str, value: dict[str, Any], *, now: datetime) -> None:
    """Remember a small named fact."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    made = dialect.insert(State).values(key=key, value=value, at=now)
    session.execute(
        made.on_conflict_do_update(index_elements=["key"], set_={"value": made.excluded.value, "at": made.excluded.at})
    )


def lock_state(session: Session, key: str) -> None:
    """Nobody else reads and then changes this fact until the transaction ends."""
    locks.alone(session, f"state/{key}")
