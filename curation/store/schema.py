"""Schema versions: Alembic, found inside the installed package."""

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from curation.errors import DatabaseError, shorten
from curation.store.db import Database, translated

LOCK_KEY = 0x5EF0B155
"""PostgreSQL advisory lock: two upgrades at once run one after the other."""

VERSIONS = "alembic_version"
OURS = frozenset({"inbox", "job", "listing"})
"""Tables that every version of ours has."""


_NEWER = "the database is at revision {}, which this version does not know; install a newer refurbish"
_FOREIGN = "the database holds tables of something else, such as {}; use an empty database"


def migrations_dir() -> Path:
    """Where the migrations are: inside the wheel, or beside the package in a checkout."""
    packaged = Path(str(importlib.resources.files("curation"))) / "_migrations"
    return packaged if packaged.is_dir() else packaged.parent.parent / "migrations"


def current(db: Database) -> str | None:
    """The revision the database is at, or None if it is empty. Raises DatabaseError if it is not ours."""
    with translated(), db.engine.connect() as connection:
        return _revision(connection)


def head() -> str:
    """The revision this version of the program needs."""
    revision = ScriptDirectory(str(migrations_dir())).get_current_head()
    if revision is None:
        raise DatabaseError(f"no migrations found in {migrations_dir()}; reinstall refurbish")
    return revision


def is_known(revision: str) -> bool:
    """Whether this version can work with, or upgrade, a database at this revision."""
    return revision in _known()


def require_current(db: Database) -> None:
    """Raise DatabaseError unless the schema is the one of this version."""
    found = current(db)
    if found == head():
        return
    if found is None:
        raise DatabaseError("the database is empty; run: refurbish db upgrade")
    if found not in _known():
        raise DatabaseError(_NEWER.format(found))
    raise DatabaseError(f"the database is at revision {found}, this version needs {head()}; run: refurbish db upgrade")


def upgrade(db: Database) -> str:
    """Bring the database to this version's schema; safe to run twice and at once. Returns the revision.

    One transaction: a kill or an error half-way leaves the schema as it was.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    with _locked(db) as connection:
        found = _revision(connection)  # once nobody else is upgrading
        if found is not None and found not in _known():
            raise DatabaseError(_NEWER.format(found))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return head()


@contextmanager
def _locked(db: Database) -> Iterator[Connection]:
    writer = db.engine.execution_options(refurbish_write=True)
    with translated(), writer.begin() as connection:
        if not db.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        yield connection


def _revision(connection: Connection) -> str | None:
    """None if there are no tables. Another program that keeps its revision in the same way is told by its tables."""
    names = set(inspect(connection).get_table_names())
    if not names or names == {VERSIONS}:
        return None
    heads = MigrationContext.configure(connection).get_current_heads() if VERSIONS in names else ()
    if len(heads) != 1 or not names >= OURS:
        raise DatabaseError(_FOREIGN.format(shorten(min(names - {VERSIONS}, default=VERSIONS))))
    return heads[0]


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory(str(migrations_dir())).walk_revisions()}
