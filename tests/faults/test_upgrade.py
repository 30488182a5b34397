"""Schema upgrades: refused where they must be, all or nothing, and with processes of both versions around."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import Connection, Engine, event, inspect, text

from curation.cli import main
from curation.errors import DatabaseError
from curation.store import schema
from curation.store.db import Database
from curation.store.workspace import Workspace
from curation.worker import Worker
from tests import builders, commands

REVISIONS = [script.revision for script in reversed(list(ScriptDirectory(str(schema.migrations_dir())).walk_revisions()))]
KILLED = """
import os, signal
from sqlalchemy import Engine, event
from curation.store import schema
from curation.store.db import Database
left = [{n}]
def count(*_):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(Engine, "before_cursor_execute", count)
schema.upgrade(Database("{url}"))
"""
HEADERS = {"X-Refurbish-Secret": "s3cret-" + "x" * 32}


@pytest.fixture
def db(db_url: str) -> Iterator[Database]:
    """An empty database of each kind."""
    made = Database(db_url)
    yield made
    made.dispose()


def to(db: Database, revision: str) -> None:
    """Bring the database to an older revision, as an older version did."""
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_dir()))
    with db.engine.execution_options(refurbish_write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def described(db: Database) -> dict[str, Any]:
    """Every table with its columns and indexes."""
    found = inspect(db.engine)
    return {
        name: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)],
            sorted(str(index["name"]) for index in found.get_indexes(name)),
        )
        for name in sorted(found.get_table_names())
    }


def run_sql(db: Database, *statements: str) -> None:
    with db.engine.execution_options(refurbish_write=True).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


# What is there


def test_an_empty_database_is_told_and_created(db: Database) -> None:
    """Refused with the command that makes it; the command makes it (fault 71)."""
    with pytest.raises(DatabaseError, match="the database is empty; run: refurbish db upgrade"):
        schema.require_current(db)
    assert schema.upgrade(db) == REVISIONS[-1]
    schema.require_current(db)


def test_an_older_database_is_asked_for_an_upgrade(db: Database) -> None:
    """Both revisions are named, with the command that goes from one to the other (fault 71)."""
    to(db, REVISIONS[0])
    wanted = f"revision {REVISIONS[0]}, this version needs {REVISIONS[-1]}; run: refurbish db upgrade"
    with pytest.raises(DatabaseError, match=wanted):
        schema.require_current(db)
    assert schema.upgrade(db) == REVISIONS[-1]


def test_a_newer_database_is_refused_and_left_alone(db: Database) -> None:
    """By start-up and by the upgrade (fault 71)."""
    schema.upgrade(db)
    run_sql(db, "UPDATE alembic_version SET version_num = '9999'")
    for refused in (schema.require_current, schema.upgrade):
        with pytest.raises(DatabaseError, match="revision 9999, which this version does not know; install a newer refurbish"):
            refused(db)
    assert schema.current(db) == "9999"


@pytest.mark.parametrize("keeps_revision", [False, True])
def test_a_foreign_database_is_refused_and_left_alone(db: Database, keeps_revision: bool) -> None:
    """Somebody else's tables are never touched, also where they keep a revision in the way that we do (fault 71)."""
    run_sql(db, "CREATE TABLE orders (id INTEGER)")
    if keeps_revision:
        run_sql(db, "CREATE TABLE alembic_version (version_num VARCHAR(32))", "INSERT INTO alembic_version VALUES ('77')")
    before = described(db)
    for refused in (schema.require_current, schema.upgrade):
        with pytest.raises(DatabaseError, match="tables of something else, such as 'orders'; use an empty database"):
            refused(db)
    assert described(db) == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """With what it is, not a traceback; its bytes stay (fault 71)."""
    file = tmp_path / "home" / "refurbish.db"
    file.parent.mkdir()
    file.write_bytes(b"photos of my holidays " * 100)
    found = CliRunner().invoke(main, ["--home", str(file.parent), "db", "upgrade"])
    assert found.exit_code == 75 and "file is not a database" in found.stderr
    assert file.read_bytes().startswith(b"photos of my holidays ")


# All or nothing


@pytest.fixture
def failing() -> Iterator[list[int]]:
    """Changes of the schema that still go well before one raises; [] = all do."""
    left: list[int] = []

    def count(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if left and statement.lstrip().upper().startswith(("CREATE", "ALTER", "DROP", "INSERT", "UPDATE")):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("the power went out")

    event.listen(Engine, "before_cursor_execute", count)
    yield left
    event.remove(Engine, "before_cursor_execute", count)


@pytest.mark.parametrize(("begun", "n"), [(None, 1), (None, 40), ("0005", 2), ("0005", 6)])
def test_an_upgrade_that_fails_half_way_changes_nothing(db: Database, failing: list[int], begun: str | None, n: int) -> None:
    """Wherever it fails the schema is the one before; the next upgrade ends as if nothing had been (fault 72)."""
    if begun is not None:
        to(db, begun)
    before = described(db)
    failing[:] = [n]
    with pytest.raises(RuntimeError):
        schema.upgrade(db)
    failing.clear()
    after = described(db)
    after.pop("alembic_version", None) if begun is None else None
    assert after == before
    assert schema.upgrade(db) == schema.upgrade(db) == REVISIONS[-1]


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 30])
def test_a_killed_upgrade_is_run_again(db_url: str, tmp_path: Path, n: int) -> None:
    """kill -9 in the middle of it; the database is empty still, and the next upgrade makes it (fault 72)."""
    code = KILLED.format(n=n, url=db_url)
    killed = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2], env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    db = Database(db_url)
    assert schema.current(db) is None and schema.upgrade(db) == REVISIONS[-1]
    db.dispose()


def test_two_upgrades_at_once_are_one(db_url: str) -> None:
    """Neither fails and neither takes the other's tables for a stranger's (fault 72)."""
    dbs, errors = [Database(db_url) for _ in range(4)], []
    meet = threading.Barrier(len(dbs))

    def work(db: Database) -> None:
        try:
            meet.wait()
            schema.upgrade(db)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(db,)) for db in dbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and schema.current(dbs[0]) == REVISIONS[-1]
    for db in dbs:
        db.dispose()


# Old and new processes


def test_what_an_older_process_writes_fits_the_newer_schema(db: Database) -> None:
    """From each revision to the next no table, column or type is gone, and nothing new must be filled in (fault 73)."""
    to(db, REVISIONS[0])
    for revision in REVISIONS[1:]:
        old = {name: inspect(db.engine).get_columns(name) for name in described(db) if name != "alembic_version"}
        to(db, revision)
        for name, columns in old.items():
            now = {column["name"]: column for column in inspect(db.engine).get_columns(name)}
            for column in columns:
                same = now.pop(column["name"])
                assert str(same["type"]) == str(column["type"]), (revision, name, column["name"])
                assert same["nullable"] or not column["nullable"], (revision, name, column["name"])
            assert all(one["nullable"] or one["default"] is not None for one in now.values()), (revision, name)


def test_a_running_process_outlives_the_upgrade(app: Flask, workspace: Workspace) -> None:
    """Hooks, jobs and pages go on over tables and columns that it does not know; a new start is refused (fault 73)."""
    builders.add(workspace, builders.record())
    run_sql(
        workspace.db,
        "ALTER TABLE listing ADD COLUMN of_later TEXT",
        "ALTER TABLE inbox ADD COLUMN of_later INTEGER DEFAULT 7 NOT NULL",
        "CREATE TABLE later (id INTEGER PRIMARY KEY)",
        "UPDATE alembic_version SET version_num = '9999'",
    )
    try:
        client = app.test_client()
        assert client.post("/hooks/labelstudio", data=b'{"action": "x"}', headers=HEADERS).status_code == 202
        assert Worker(workspace, ["ingest"]).run(until_idle=True) == 1
        assert builders.add(workspace, builders.record("r2"))["r2"] > 0 and client.get("/livez").status_code == 200
        started = commands.run(workspace, "worker", "--until-idle")
        assert started.exit_code == 75 and "install a newer refurbish" in started.stderr
    finally:
        run_sql(
            workspace.db,
            "DROP TABLE later",
            "ALTER TABLE inbox DROP COLUMN of_later",
            "ALTER TABLE listing DROP COLUMN of_later",
        )


def test_a_newer_process_does_not_start_before_the_upgrade(db: Database, tmp_path: Path) -> None:
    """It names the command and changes nothing; what runs goes on meanwhile (fault 73)."""
    to(db, REVISIONS[-2])
    before = described(db)
    flags = ["--home", str(tmp_path / "home"), "--database-url", db.url]
    for words in (["serve"], ["worker", "--until-idle"]):
        found = CliRunner().invoke(main, [*flags, *words])
        assert found.exit_code == 75 and "run: refurbish db upgrade" in found.stderr and described(db) == before
