"""A copy of everything while it runs, and back again: the database first, then files, which are named by their content.

So no file that the copied database names is missing, and one too many does no harm. `backup.json` is written last: without
it a folder is no backup.
"""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import make_url

from curation import __version__
from curation.errors import ConfigError, DatabaseError, InputError, IntegrityError, shorten
from curation.settings import Settings
from curation.store import schema
from curation.store.db import Database
from curation.store.files import sha256_of_file, write_atomic
from curation.store.mirror import mirror
from curation.store.workspace import Workspace

FORMAT = "refurbish-backup-1"
ABOUT = "backup.json"
HOME = "home"
SQLITE, POSTGRESQL = "refurbish.db", "refurbish.dump"
BESIDE = ("", "-wal", "-shm", "-journal")
"""A SQLite database is these files; one of them with another's database ruins it."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One finished backup. `database`: the file's name; `revision`: its schema."""

    format: str
    version: str
    taken_at: str
    database: str
    database_sha256: str
    revision: str
    n_files: int
    n_bytes: int


def take(workspace: Workspace, folder: Path, *, now: datetime, dump: Path | None = None) -> Backup:
    """Copy database and files into a new folder, or over an earlier backup. What runs may go on.

    `dump`: what pg_dump -Fc wrote just before, where it is not installed here. Raises InputError on a folder that holds
    something else or cannot be written, ConfigError where pg_dump is missing, DatabaseError where it fails.
    """
    _require_apart(workspace.settings.home, folder)
    _require_ours(folder)
    try:
        (folder / HOME).mkdir(parents=True, exist_ok=True)
        (folder / ABOUT).unlink(missing_ok=True)  # it is none until it is whole
        database = _copy_database(workspace.db, folder, dump)
        n_files, n_bytes = mirror(workspace.settings.home, folder / HOME, _sqlite_files(workspace.settings.url))
        made = Backup(
            FORMAT,
            __version__,
            now.isoformat(),
            database.name,
            sha256_of_file(database),
            schema.current(workspace.db) or "",
            n_files,
            n_bytes + database.stat().st_size,
        )
        write_atomic(folder / ABOUT, json.dumps(asdict(made), indent=2).encode())
    except OSError as error:
        raise InputError(f"backup to {folder} failed: {error}; make room or name another folder, then run it again") from error
    return made


def read(folder: Path) -> Backup:
    """What a backup says of itself. Raises InputError if it is none, or was cut short."""
    try:
        found = json.loads((folder / ABOUT).read_bytes())
        return Backup(**found)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no {ABOUT}: it is no backup, or one that was cut short; name another") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / ABOUT} cannot be read: {shorten(str(error))}; name another backup") from error


def restore(settings: Settings, folder: Path) -> Backup:
    """Put a backup into an empty home and an empty database; the database last.

    Raises InputError where something is there already, IntegrityError where the copy was changed, DatabaseError where it is
    of a newer version.
    """
    found = read(folder)
    database = folder / found.database
    if not schema.is_known(found.revision):
        raise DatabaseError(
            f"the backup is of schema {shorten(found.revision)}, of a newer version; install refurbish {found.version}"
        )
    if not database.is_file() or sha256_of_file(database) != found.database_sha256:
        raise IntegrityError(f"{database} is not what was backed up; name another backup")
    is_sqlite = make_url(settings.url).get_backend_name() == "sqlite"
    if is_sqlite != (found.database == SQLITE):
        raise ConfigError(f"the backup holds {found.database}, which does not fit database_url; set it to the same kind")
    home = settings.home
    if home.is_dir() and any(home.iterdir()):
        raise InputError(f"home {home} is not empty; name a new one with --home")
    _require_apart(home, folder)
    _require_empty(settings.url, is_sqlite)
    with _all_or_nothing(home):
        mirror(folder / HOME, home, _sqlite_files(settings.url))
        _fill(settings.url, database, is_sqlite)
        _free_jobs(settings.url)
    return found


@contextmanager
def _all_or_nothing(home: Path) -> Iterator[None]:
    """What fails half-way leaves the home as empty as it was, so that it can be tried again."""
    was_there = home.is_dir()
    try:
        yield
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        if was_there:
            home.mkdir(exist_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"restore to {home} failed: {error}; make room there, then try again") from error
        raise


def _require_apart(home: Path, folder: Path) -> None:
    """A backup inside the home would copy itself, deeper each time."""
    one, other = home.resolve(), folder.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise InputError(f"{folder} and home {home} lie in one another; name a folder elsewhere, best on another disk")


def _sqlite_files(url: str) -> frozenset[Path]:
    """The files of the database, wherever they lie and whatever they are called; none of PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return frozenset()
    file = Path(parsed.database or "").resolve()
    return frozenset(file.with_name(file.name + end) for end in BESIDE)


def _require_ours(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / HOME).is_dir()):
        raise InputError(f"{folder} holds something else; name a new folder, or one of an earlier backup")


def _require_empty(url: str, is_sqlite: bool) -> None:
    if is_sqlite:
        if there := sorted(str(file) for file in _sqlite_files(url) if file.exists()):
            raise InputError(f"database {there[0]} is there already; name another with --home or --database-url")
        return
    db = Database(url)
    try:
        if schema.current(db) is not None:
            raise InputError("the database is not empty; name a new one with --database-url")
    finally:
        db.dispose()


def _copy_database(db: Database, folder: Path, dump: Path | None) -> Path:
    target = folder / (SQLITE if db.is_sqlite else POSTGRESQL)
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        if db.is_sqlite:
            _copy_sqlite(db, part)
        elif dump is not None:
            shutil.copyfile(dump, part)
        else:
            _run(["pg_dump", "--format=custom", "--no-owner", f"--file={part}"], db.url)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _copy_sqlite(db: Database, target: Path) -> None:
    """One consistent state; writers go on meanwhile (https://www.sqlite.org/backup.html)."""
    source = db.engine.raw_connection()
    try:
        copy = sqlite3.connect(target)
        try:
            source.driver_connection.backup(copy)  # type: ignore[union-attr]
            copy.execute("PRAGMA journal_mode=DELETE")
            [(said,)] = copy.execute("PRAGMA quick_check(1)").fetchall()
        finally:
            copy.close()
    except sqlite3.OperationalError as error:
        raise DatabaseError(f"the database cannot be copied: {error}; make room, then run it again") from error
    finally:
        source.close()
    if said != "ok":
        raise IntegrityError(f"the database is damaged: {shorten(said)}; restore an earlier backup")


def _fill(url: str, database: Path, is_sqlite: bool) -> None:
    if is_sqlite:
        target = Path(make_url(url).database or "")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(database, part)
        os.replace(part, target)
        return
    _run(["pg_restore", "--no-owner", "--exit-on-error", "--single-transaction", "--dbname", "{url}", str(database)], url)


def _free_jobs(url: str) -> None:
    """Whoever held a job when the backup was taken does not hold its copy."""
    db = Database(url)
    try:
        with db.write() as session:
            session.execute(
                text("UPDATE job SET state = 'todo', attempt = attempt - 1, lease_until = NULL WHERE state = 'doing'")
            )
    finally:
        db.dispose()


def _run(words: Sequence[str], url: str) -> None:
    """One of PostgreSQL's programs; the password goes by the environment, where no other user can read it."""
    parsed = make_url(url)
    address = parsed.set(drivername="postgresql", password=None).render_as_string()
    named = [address if word == "{url}" else word for word in words]
    command = named if "{url}" in words else [*named, address]
    if shutil.which(command[0]) is None:
        wanted = " ".join(command).replace(".refurbish.dump.part", POSTGRESQL)
        hint = "; then name its file with --dump" if command[0] == "pg_dump" else ""
        raise ConfigError(f"{command[0]} is not installed here; run it where it is: {wanted}{hint}")
    env: Mapping[str, str] = {**os.environ, **({"PGPASSWORD": str(parsed.password)} if parsed.password else {})}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DatabaseError(f"{command[0]} failed: {shorten(done.stderr.strip(), 500)}; nothing was kept, try again")


def is_current(found: Backup) -> bool:
    """Whether its database has the schema of this version."""
    return found.revision == schema.head()


def described(found: Backup) -> dict[str, Any]:
    """A backup in plain values."""
    return asdict(found)
